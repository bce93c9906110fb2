package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
)

// repository is the index of one repository; the manifests' bytes stay on disk.
type repository struct {
	manifests map[string]descriptor // by digest
	tags      map[string]string     // to digest
	read      stamp                 // of its folders, when they were read
}

// descriptor is what the index knows of a manifest, in the form that referrers lists it.
type descriptor struct {
	MediaType    string            `json:"mediaType"`
	Digest       string            `json:"digest"`
	Size         int64             `json:"size"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`

	subject string
	parts   []string // digests of the blobs and the manifests that it names
}

// content is the part of a manifest or an index that the registry looks at.
type content struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	ArtifactType  string            `json:"artifactType"`
	Config        *part             `json:"config"`
	Layers        []part            `json:"layers"`
	Manifests     []part            `json:"manifests"`
	Subject       *part             `json:"subject"`
	Annotations   map[string]string `json:"annotations"`
}

type part struct {
	MediaType string   `json:"mediaType"`
	Digest    string   `json:"digest"`
	URLs      []string `json:"urls"`
}

// blobs are the config and the layers.
func (c content) blobs() []part {
	if c.Config == nil {
		return c.Layers
	}
	return append([]part{*c.Config}, c.Layers...)
}

// describe reads a manifest, and names it by a digest of the algorithm.
func describe(mediaType string, body []byte, algorithm string) (descriptor, content, error) {
	var c content
	if err := json.Unmarshal(body, &c); err != nil {
		return descriptor{}, c, err
	}
	if c.SchemaVersion != 2 {
		return descriptor{}, c, fmt.Errorf("schema version %d", c.SchemaVersion)
	}
	if !kindPattern.MatchString(mediaType) {
		return descriptor{}, c, fmt.Errorf("%q is no media type of a manifest", mediaType)
	}
	if c.MediaType != "" && c.MediaType != mediaType {
		return descriptor{}, c, fmt.Errorf("sent as %q, says %q", mediaType, c.MediaType)
	}
	sum := newHash(algorithm)
	sum.Write(body)
	d := descriptor{
		MediaType: mediaType, Digest: sumOf(algorithm, sum), Size: int64(len(body)),
		ArtifactType: c.ArtifactType, Annotations: c.Annotations,
	}
	if d.ArtifactType == "" && c.Config != nil {
		d.ArtifactType = c.Config.MediaType
	}
	if c.Subject != nil {
		d.subject = c.Subject.Digest
	}
	for _, p := range slices.Concat(c.blobs(), c.Manifests) {
		d.parts = append(d.parts, p.Digest)
	}
	return d, c, nil
}

func (r *Registry) manifest(w http.ResponseWriter, req *http.Request, name, ref string) error {
	if !isDigest(ref) && !tagPattern.MatchString(ref) {
		return refuse(http.StatusBadRequest, "MANIFEST_INVALID", "reference %q", ref)
	}
	switch req.Method {
	case http.MethodGet, http.MethodHead:
		return r.readManifest(w, req, name, ref)
	case http.MethodPut:
		return r.putManifest(w, req, name, ref)
	case http.MethodDelete:
		return r.deleteManifest(w, req, name, ref)
	}
	return notAllowed(req)
}

// find returns what ref names. The lock is held by the caller, who has met what other processes changed.
func (r *Registry) find(name, ref string) (descriptor, error) {
	repo := r.index[name]
	if repo == nil {
		return descriptor{}, refuse(http.StatusNotFound, "NAME_UNKNOWN", "no repository %s", name)
	}
	digest := ref
	if !isDigest(ref) {
		digest = repo.tags[ref]
	}
	d, ok := repo.manifests[digest]
	if !ok {
		return descriptor{}, refuse(http.StatusNotFound, "MANIFEST_UNKNOWN", "no manifest %s in %s", ref, name)
	}
	return d, nil
}

func (r *Registry) readManifest(w http.ResponseWriter, req *http.Request, name, ref string) error {
	if err := r.meet(name); err != nil {
		return err
	}
	r.mu.RLock()
	d, err := r.find(name, ref)
	var body []byte
	if err == nil {
		body, err = r.readRecord(name, d)
	}
	r.mu.RUnlock() // before the client reads at its own pace
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", d.MediaType)
	w.Header().Set("Content-Length", fmt.Sprint(len(body)))
	w.Header().Set("Docker-Content-Digest", d.Digest)
	w.WriteHeader(http.StatusOK)
	if req.Method == http.MethodHead {
		return nil
	}
	_, err = w.Write(body) //nolint:gosec // JSON, served as JSON (kindPattern) with nosniff: no browser runs it
	if err == nil && r.options.OnPull != nil {
		r.options.OnPull(req.Context(), name, d.Digest)
	}
	return nil
}

func (r *Registry) putManifest(w http.ResponseWriter, req *http.Request, name, ref string) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxManifest))
	if err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return refuse(http.StatusRequestEntityTooLarge, "MANIFEST_INVALID", "a manifest has at most %d bytes", maxManifest)
		}
		return refuse(http.StatusBadRequest, "MANIFEST_INVALID", "the body did not arrive whole")
	}
	named := algorithm256
	if isDigest(ref) {
		named = algorithm(ref)
	}
	d, c, err := describe(req.Header.Get("Content-Type"), body, named)
	if err != nil {
		return refuse(http.StatusBadRequest, "MANIFEST_INVALID", "%v", err)
	}
	if isDigest(ref) && ref != d.Digest {
		return refuse(http.StatusBadRequest, "DIGEST_INVALID", "the content has digest %s, not %s", d.Digest, ref)
	}
	if err := r.meet(name); err != nil {
		return err
	}
	unlock, err := r.share() // what it names is not collected meanwhile
	if err != nil {
		return err
	}
	defer unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.complete(name, c); err != nil {
		return err
	}
	if err := r.roomFor(projectOf(name), d); err != nil {
		return err
	}
	if err := r.writeRecord(name, d, body); err != nil {
		return err
	}
	repo := r.index[name]
	if repo == nil {
		repo = newRepository()
		r.index[name] = repo
	}
	repo.manifests[d.Digest] = d
	if !isDigest(ref) {
		if err := r.writeTag(name, ref, d.Digest); err != nil {
			return err
		}
		repo.tags[ref] = d.Digest
	}
	w.Header().Set("Location", "/v2/"+name+"/manifests/"+d.Digest)
	w.Header().Set("Docker-Content-Digest", d.Digest)
	if d.subject != "" {
		w.Header().Set("OCI-Subject", d.subject) // tells the client that referrers are kept here
	}
	w.WriteHeader(http.StatusCreated)
	return nil
}

// complete refuses a manifest that names what is not here: it could not be pulled.
func (r *Registry) complete(name string, c content) error {
	for _, p := range c.blobs() {
		if len(p.URLs) > 0 {
			continue // kept elsewhere, by its own word
		}
		if !isDigest(p.Digest) {
			return refuse(http.StatusBadRequest, "MANIFEST_INVALID", "digest %q", p.Digest)
		}
		if !r.holds(name, p.Digest) {
			return refuse(http.StatusBadRequest, "MANIFEST_BLOB_UNKNOWN", "no blob %s", p.Digest)
		}
	}
	for _, p := range c.Manifests {
		if _, err := r.find(name, p.Digest); err != nil || !isDigest(p.Digest) {
			return refuse(http.StatusBadRequest, "MANIFEST_BLOB_UNKNOWN", "no manifest %s", p.Digest)
		}
	}
	if c.Subject != nil && !isDigest(c.Subject.Digest) {
		return refuse(http.StatusBadRequest, "MANIFEST_INVALID", "subject %q", c.Subject.Digest)
	}
	return nil
}

// deleteManifest deletes a tag alone, or a digest with the tags that name it. Tags go first: after
// a crash in between there is no tag without its manifest.
func (r *Registry) deleteManifest(w http.ResponseWriter, req *http.Request, name, ref string) error {
	err := func() error {
		if err := r.meet(name); err != nil {
			return err
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		d, err := r.find(name, ref)
		if err != nil {
			return err
		}
		repo := r.index[name]
		for tag, digest := range repo.tags {
			if tag == ref || digest == ref {
				if err := os.Remove(r.tagPath(name, tag)); err != nil {
					return err
				}
				delete(repo.tags, tag)
			}
		}
		if ref == d.Digest {
			if err := os.Remove(r.recordPath(name, ref)); err != nil {
				return err
			}
			delete(repo.manifests, ref)
		}
		if len(repo.manifests) == 0 {
			delete(r.index, name) // as a registry that starts will find it
		}
		return r.syncFolders(name)
	}()
	if err != nil {
		return err
	}
	if r.options.OnDelete != nil {
		r.options.OnDelete(req.Context(), name, ref)
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}
