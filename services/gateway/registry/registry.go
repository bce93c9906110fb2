package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
)

const (
	maxManifest    = 4 << 20
	defaultMaxBlob = 2 << 30
)

// Options change a Registry. The hooks run in the request's goroutine, with its context, after the
// registry did what was asked.
type Options struct {
	// OnPull is told of each manifest that was read (not of HEAD): its repository and digest.
	OnPull func(ctx context.Context, repository, digest string)
	// OnDelete is told of what was deleted: a digest, or a tag.
	OnDelete func(ctx context.Context, repository, reference string)
	// MaxBlob is the largest blob that is taken, in bytes; 0: 2 GiB.
	MaxBlob int64
	// Grace is how long what no manifest names is kept from being collected; 0: a day.
	Grace time.Duration
	// Log is told what is skipped at start, and what was collected; nil: nobody.
	Log *zap.Logger
}

// Registry serves the OCI distribution API under /v2/.
type Registry struct {
	dir     string
	options Options

	mu      sync.RWMutex // guards the index; held while a manifest is put on disk
	index   map[string]*repository
	uploads uploads
	usage   usage
}

var _ http.Handler = (*Registry)(nil)

// New opens the registry in dir, which is made when it is not there. Several processes may have it open, so that each of
// several gateways answers for all: what another has changed is met at the next request.
func New(dir string, options Options) (*Registry, error) {
	if options.MaxBlob <= 0 {
		options.MaxBlob = defaultMaxBlob
	}
	if options.Grace <= 0 {
		options.Grace = defaultGrace
	}
	if options.Log == nil {
		options.Log = zap.NewNop()
	}
	r := &Registry{dir: dir, options: options, index: map[string]*repository{}}
	r.uploads.open = map[string]*upload{}
	r.usage.sizes = map[string]int64{}
	for _, folder := range []string{r.path("uploads"), r.path("blobs", algorithm256), r.path("blobs", algorithm512), r.path("manifests")} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return nil, fmt.Errorf("registry: %w", err)
		}
	}
	if err := errors.Join(r.sweep(time.Now().Add(-uploadIdle)), r.load()); err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	return r, nil
}

func (r *Registry) path(parts ...string) string {
	return filepath.Join(append([]string{r.dir}, parts...)...)
}

var (
	namePattern = regexp.MustCompile(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagPattern  = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
	// A manifest is served as what it was sent as: as a page, others' words would run in the reader's browser.
	kindPattern = regexp.MustCompile(`^application/([a-zA-Z0-9][a-zA-Z0-9!#$&^_.-]*\+)?json$`)
)

// refusal is an answer of the API's error form.
type refusal struct {
	status  int
	code    string
	message string
}

func (f *refusal) Error() string { return f.message }

func refuse(status int, code, format string, args ...any) error {
	return &refusal{status: status, code: code, message: fmt.Sprintf(format, args...)}
}

// ServeHTTP answers one request.
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	w.Header().Set("X-Content-Type-Options", "nosniff") // what is stored here is others' content
	err := r.route(w, req)
	if err == nil {
		return
	}
	f, ok := err.(*refusal) //nolint:errorlint // refusals are made here and never wrapped
	if !ok {
		r.options.Log.Error("registry", zap.String("method", req.Method), zap.String("path", req.URL.Path), zap.Error(err))
		f = &refusal{http.StatusInternalServerError, "UNKNOWN", "internal error"}
	}
	type entry struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	if f.status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", fullFor)
	}
	writeJSON(w, req, f.status, "application/json", map[string][]entry{"errors": {{f.code, f.message}}})
}

func writeJSON(w http.ResponseWriter, req *http.Request, status int, contentType string, value any) {
	body, err := json.Marshal(value)
	if err != nil {
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", fmt.Sprint(len(body)))
	w.WriteHeader(status)
	if req.Method != http.MethodHead {
		_, _ = w.Write(body) // a client that went away is told nothing
	}
}

func (r *Registry) route(w http.ResponseWriter, req *http.Request) error {
	rest := strings.TrimPrefix(strings.TrimPrefix(req.URL.Path, "/v2"), "/")
	switch rest {
	case "":
		writeJSON(w, req, http.StatusOK, "application/json", struct{}{})
		return nil
	case "_catalog":
		return r.catalog(w, req)
	}
	name, id, isUpload := cutLast(rest, "/blobs/uploads/")
	if !isUpload {
		name, isUpload = strings.CutSuffix(rest, "/blobs/uploads")
	}
	kind, ref := "", ""
	if !isUpload {
		parts := strings.Split(rest, "/")
		if len(parts) < 3 {
			return refuse(http.StatusNotFound, "UNSUPPORTED", "no such path")
		}
		name, kind, ref = strings.Join(parts[:len(parts)-2], "/"), parts[len(parts)-2], parts[len(parts)-1]
	}
	if len(name) > 255 || !namePattern.MatchString(name) {
		return refuse(http.StatusBadRequest, "NAME_INVALID", "repository name %q", name)
	}
	switch {
	case isUpload:
		return r.upload(w, req, name, id)
	case kind == "blobs":
		return r.blob(w, req, name, ref)
	case kind == "manifests":
		return r.manifest(w, req, name, ref)
	case kind == "tags" && ref == "list":
		return r.tags(w, req, name)
	case kind == "referrers":
		return r.referrers(w, req, name, ref)
	}
	return refuse(http.StatusNotFound, "UNSUPPORTED", "no such path")
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

func notAllowed(req *http.Request) error {
	return refuse(http.StatusMethodNotAllowed, "UNSUPPORTED", "%s is not supported here", req.Method)
}
