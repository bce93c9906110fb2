package registry

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
)

const indexMediaType = "application/vnd.oci.image.index.v1+json"

// page cuts a sorted list as the API's n and last ask, and names the next page in the Link header.
func page(w http.ResponseWriter, req *http.Request, all []string) ([]string, error) {
	query := req.URL.Query()
	if last := query.Get("last"); last != "" {
		i, found := slices.BinarySearch(all, last)
		if found {
			i++
		}
		all = all[i:]
	}
	if query.Has("n") {
		n, err := strconv.Atoi(query.Get("n"))
		if err != nil || n < 0 {
			return nil, refuse(http.StatusBadRequest, "UNSUPPORTED", "n=%q", query.Get("n"))
		}
		if n < len(all) {
			all = all[:n]
			if n > 0 {
				next := url.URL{Path: req.URL.Path, RawQuery: url.Values{"n": {strconv.Itoa(n)}, "last": {all[n-1]}}.Encode()}
				w.Header().Set("Link", "<"+next.String()+`>; rel="next"`)
			}
		}
	}
	if all == nil {
		all = []string{}
	}
	return all, nil
}

func (r *Registry) catalog(w http.ResponseWriter, req *http.Request) error {
	if req.Method != http.MethodGet {
		return notAllowed(req)
	}
	if err := r.load(); err != nil { // of repositories that another process began
		return err
	}
	r.mu.RLock()
	names := slices.Sorted(maps.Keys(r.index))
	r.mu.RUnlock()
	names, err := page(w, req, names)
	if err != nil {
		return err
	}
	writeJSON(w, req, http.StatusOK, "application/json", map[string][]string{"repositories": names})
	return nil
}

func (r *Registry) tags(w http.ResponseWriter, req *http.Request, name string) error {
	if req.Method != http.MethodGet {
		return notAllowed(req)
	}
	if err := r.meet(name); err != nil {
		return err
	}
	r.mu.RLock()
	repo := r.index[name]
	var tags []string
	if repo != nil {
		tags = slices.Sorted(maps.Keys(repo.tags))
	}
	r.mu.RUnlock()
	if repo == nil {
		return refuse(http.StatusNotFound, "NAME_UNKNOWN", "no repository %s", name)
	}
	tags, err := page(w, req, tags)
	if err != nil {
		return err
	}
	writeJSON(w, req, http.StatusOK, "application/json", struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}{name, tags})
	return nil
}

// referrers lists the manifests whose subject is the digest. That there is none is no 404: a client
// would take that for a registry without referrers.
func (r *Registry) referrers(w http.ResponseWriter, req *http.Request, name, digest string) error {
	if req.Method != http.MethodGet {
		return notAllowed(req)
	}
	if !isDigest(digest) {
		return refuse(http.StatusBadRequest, "DIGEST_INVALID", "digest %q", digest)
	}
	wanted := req.URL.Query().Get("artifactType")
	found := []descriptor{}
	if err := r.meet(name); err != nil {
		return err
	}
	r.mu.RLock()
	if repo := r.index[name]; repo != nil {
		for _, key := range slices.Sorted(maps.Keys(repo.manifests)) {
			d := repo.manifests[key]
			if d.subject == digest && (wanted == "" || d.ArtifactType == wanted) {
				found = append(found, d)
			}
		}
	}
	r.mu.RUnlock()
	if wanted != "" {
		w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	writeJSON(w, req, http.StatusOK, indexMediaType, struct {
		SchemaVersion int          `json:"schemaVersion"`
		MediaType     string       `json:"mediaType"`
		Manifests     []descriptor `json:"manifests"`
	}{2, indexMediaType, found})
	return nil
}
