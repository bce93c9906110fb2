package registry

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// An upload that nobody touched for so long is forgotten.
const uploadIdle = time.Hour

// uploadPattern is what ids of uploads look like: rand.Text.
var uploadPattern = regexp.MustCompile(`^[A-Z2-7]{26,64}$`)

// upload is one unfinished blob: a file that grows.
type upload struct {
	mu         sync.Mutex // one request at a time
	file       *os.File
	repository string
	size       int64
	counted    atomic.Int64 // size, for whoever adds up
	touched    time.Time    // guarded by uploads.mu
}

type uploads struct {
	mu   sync.Mutex
	open map[string]*upload
}

func (r *Registry) upload(w http.ResponseWriter, req *http.Request, name, id string) error {
	if req.Method == http.MethodPost {
		if id != "" {
			return notAllowed(req)
		}
		return r.beginUpload(w, req, name)
	}
	u := r.uploads.find(id, name, r.adopt)
	if u == nil {
		return refuse(http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "no upload %q", id)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if info, err := u.file.Stat(); err == nil {
		u.size = info.Size() // the chunk before may have gone to another process
	}
	switch req.Method {
	case http.MethodGet:
	case http.MethodPatch:
		if err := r.grow(u, w, req); err != nil {
			r.dropFull(id, u, err)
			return err
		}
	case http.MethodPut:
		err := r.finish(w, req, id, u)
		r.dropFull(id, u, err)
		return err
	case http.MethodDelete:
		r.uploads.drop(id, u)
		w.WriteHeader(http.StatusNoContent)
		return nil
	default:
		return notAllowed(req)
	}
	w.Header().Set("Location", "/v2/"+name+"/blobs/uploads/"+id)
	w.Header().Set("Range", fmt.Sprintf("0-%d", max(u.size-1, 0)))
	status := http.StatusAccepted
	if req.Method == http.MethodGet {
		status = http.StatusNoContent
	}
	w.WriteHeader(status)
	return nil
}

func (r *Registry) beginUpload(w http.ResponseWriter, req *http.Request, name string) error {
	if err := r.mayBegin(projectOf(name)); err != nil {
		return err
	}
	query := req.URL.Query()
	if mounted, err := r.mount(w, name, query.Get("from"), query.Get("mount")); mounted || err != nil {
		return err
	}
	r.uploads.expire(time.Now().Add(-uploadIdle))
	id := rand.Text()
	f, err := os.OpenFile(r.uploadPath(id, name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	u := &upload{file: f, repository: name}
	u.mu.Lock()
	defer u.mu.Unlock()
	r.uploads.add(id, u)
	if query.Has("digest") { // the whole blob in one request
		err := r.finish(w, req, id, u)
		if err != nil {
			r.uploads.drop(id, u)
		}
		return err
	}
	w.Header().Set("Location", "/v2/"+name+"/blobs/uploads/"+id)
	w.Header().Set("Range", "0-0")
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// uploadPath is the file of an upload. Its name holds the repository too, so that another process that is asked to go on with
// it knows as much as the one that began.
func (r *Registry) uploadPath(id, repository string) string {
	sum := sha256.Sum256([]byte(repository))
	return r.path("uploads", id+"."+hex.EncodeToString(sum[:8]))
}

// adopt goes on with an upload that another process has begun; nil when there is none. uploads.mu is held.
func (r *Registry) adopt(id, repository string) *upload {
	if !uploadPattern.MatchString(id) {
		return nil
	}
	f, err := os.OpenFile(r.uploadPath(id, repository), os.O_RDWR, 0)
	if err != nil {
		return nil
	}
	return &upload{file: f, repository: repository}
}

// sweep removes uploads that no process has touched since, such as those of one that was killed.
func (r *Registry) sweep(before time.Time) error {
	entries, err := os.ReadDir(r.path("uploads"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.ModTime().Before(before) {
			continue // gone meanwhile, or in use
		}
		if err := os.Remove(r.path("uploads", e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// grow appends the request's body. A chunk that did not arrive whole is taken back.
func (r *Registry) grow(u *upload, w http.ResponseWriter, req *http.Request) error {
	if span := req.Header.Get("Content-Range"); span != "" {
		var from, to int64
		if _, err := fmt.Sscanf(strings.TrimPrefix(span, "bytes "), "%d-%d", &from, &to); err != nil || from != u.size {
			return refuse(http.StatusRequestedRangeNotSatisfiable, "BLOB_UPLOAD_INVALID", "next byte is %d", u.size)
		}
	}
	if _, err := u.file.Seek(u.size, io.SeekStart); err != nil {
		return refuse(http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "the upload has ended") // while we waited for it
	}
	most, project := r.options.MaxBlob-u.size, projectOf(u.repository)
	left, err := r.left(project)
	if err != nil {
		return err
	}
	if left >= 0 {
		most = min(most, left)
	}
	body := http.MaxBytesReader(w, lively{req.Body, http.NewResponseController(w)}, most)
	n, err := io.Copy(u.file, body)
	if err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			err = refuse(http.StatusRequestEntityTooLarge, "SIZE_INVALID", "a blob has at most %d bytes", r.options.MaxBlob)
			if most == left {
				err = r.tooMuch(project)
			}
		}
		if cut := u.file.Truncate(u.size); cut != nil {
			return cut
		}
		return err
	}
	u.size += n
	u.counted.Store(u.size)
	return nil
}

func (r *Registry) finish(w http.ResponseWriter, req *http.Request, id string, u *upload) error {
	digest := req.URL.Query().Get("digest")
	if !isDigest(digest) {
		return refuse(http.StatusBadRequest, "DIGEST_INVALID", "digest %q", digest)
	}
	if err := r.grow(u, w, req); err != nil {
		return err
	}
	err := r.publish(u, digest)
	var no *refusal
	if errors.As(err, &no) {
		r.uploads.drop(id, u)
	}
	if err != nil {
		return err
	}
	r.uploads.drop(id, u)
	w.Header().Set("Location", "/v2/"+u.repository+"/blobs/"+digest)
	w.Header().Set("Docker-Content-Digest", digest)
	w.WriteHeader(http.StatusCreated)
	return nil
}

// chunkIdle is how long the next bytes of a chunk are waited for.
const chunkIdle = 30 * time.Second

// lively is a body whose next bytes have to come in time.
type lively struct {
	io.ReadCloser
	control *http.ResponseController
}

// Read gives the deadline back with the end: net/http goes on to read, to notice a client that goes away.
func (l lively) Read(p []byte) (int, error) {
	_ = l.control.SetReadDeadline(time.Now().Add(chunkIdle)) // not every writer of a test can
	n, err := l.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		_ = l.control.SetReadDeadline(time.Time{})
	}
	return n, err
}

func (s *uploads) add(id string, u *upload) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u.touched = time.Now()
	s.open[id] = u
}

// find is the upload of a repository with that id, adopted once where another process has begun it; nil when there is none.
func (s *uploads) find(id, repository string, adopt func(id, repository string) *upload) *upload {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.open[id]
	if u == nil {
		if u = adopt(id, repository); u == nil {
			return nil
		}
		s.open[id] = u
	}
	if u.repository != repository {
		return nil
	}
	u.touched = time.Now()
	return u
}

// drop forgets an upload; its file goes too.
func (s *uploads) drop(id string, u *upload) {
	s.mu.Lock()
	delete(s.open, id)
	s.mu.Unlock()
	_ = u.file.Close()
	_ = os.Remove(u.file.Name()) //nolint:gosec // uploadPath names it, of an id that was checked
}

func (s *uploads) expire(before time.Time) {
	s.mu.Lock()
	idle := map[string]*upload{}
	for id, u := range s.open {
		if u.touched.Before(before) && u.mu.TryLock() { // one in use is not idle
			idle[id] = u
		}
	}
	s.mu.Unlock()
	for id, u := range idle {
		s.drop(id, u)
		u.mu.Unlock()
	}
}

func syncDir(path string) error {
	d, err := os.Open(path) //nolint:gosec,nolintlint // namePattern lets no ".." through; the taint analysis reports it in some runs only
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
