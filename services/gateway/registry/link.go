package registry

import (
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// A blob is stored once and is in those repositories that have a link to it, an empty file, or a manifest that names it:
// knowing a digest gives nobody another project's blob.

// touchAfter is how old a link may be when somebody asks whether its blob is there, and is going to rely on it.
const touchAfter = time.Minute

func (r *Registry) blobPath(digest string) string {
	return r.path("blobs", algorithm(digest), digits(digest))
}

func (r *Registry) linkPath(name, digest string) string {
	return r.path("manifests", filepath.FromSlash(name), blobFolder, digits(digest))
}

func (r *Registry) blob(w http.ResponseWriter, req *http.Request, name, digest string) error {
	if !isDigest(digest) {
		return refuse(http.StatusBadRequest, "DIGEST_INVALID", "digest %q", digest)
	}
	switch req.Method {
	case http.MethodGet, http.MethodHead:
		return r.readBlob(w, req, name, digest)
	case http.MethodDelete:
		return r.deleteBlob(w, name, digest)
	}
	return notAllowed(req)
}

func (r *Registry) readBlob(w http.ResponseWriter, req *http.Request, name, digest string) error {
	if err := r.meet(name); err != nil {
		return err
	}
	unknown := refuse(http.StatusNotFound, "BLOB_UNKNOWN", "no blob %s in %s", digest, name)
	var there bool
	if req.Method == http.MethodHead {
		var err error
		if there, err = r.touch(name, digest); err != nil {
			return err
		}
	} else {
		r.mu.RLock()
		there = r.holds(name, digest)
		r.mu.RUnlock()
	}
	if !there {
		return unknown
	}
	f, err := os.Open(r.blobPath(digest))
	if errors.Is(err, fs.ErrNotExist) {
		return unknown
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	w.Header().Set("Docker-Content-Digest", digest)
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Etag", `"`+digest+`"`)
	http.ServeContent(w, req, "", time.Time{}, f)
	return nil
}

// touch reports whether a blob is in a repository, and lets it count as new there: whoever asks is about to push a manifest
// that names it.
func (r *Registry) touch(name, digest string) (there bool, err error) {
	r.mu.RLock()
	there = r.holds(name, digest)
	r.mu.RUnlock()
	if !there {
		return false, nil
	}
	if info, err := os.Stat(r.linkPath(name, digest)); err == nil && time.Since(info.ModTime()) < touchAfter {
		return true, nil
	}
	unlock, err := r.share()
	if err != nil {
		return false, err
	}
	defer unlock()
	if _, err := os.Stat(r.blobPath(digest)); err != nil {
		return false, nil // it was collected, or cannot be read: the client sends it again
	}
	return true, r.link(name, digest)
}

// link puts a blob into a repository, from now on. The registry is shared by the caller.
func (r *Registry) link(name, digest string) error {
	return replace(r.linkPath(name, digest), nil)
}

// holds reports whether a blob is there and is in a repository. r.mu is held by the caller.
func (r *Registry) holds(name, digest string) bool {
	if _, err := os.Stat(r.blobPath(digest)); err != nil {
		return false
	}
	if _, err := os.Stat(r.linkPath(name, digest)); err == nil {
		return true
	}
	return r.index[name].names(digest)
}

// names reports whether a manifest of the repository names the digest.
func (r *repository) names(digest string) bool {
	if r != nil {
		for _, d := range r.manifests {
			if slices.Contains(d.parts, digest) {
				return true
			}
		}
	}
	return false
}

// mount takes a blob over from another repository. Whoever may read that one was asked before. Without the other's name, or
// without such a blob, the client uploads it: to look for it everywhere would tell who has it.
func (r *Registry) mount(w http.ResponseWriter, name, from, digest string) (bool, error) {
	if from == "" || !isDigest(digest) || !namePattern.MatchString(from) {
		return false, nil
	}
	if err := r.meet(from); err != nil {
		return false, err
	}
	unlock, err := r.share()
	if err != nil {
		return false, err
	}
	defer unlock()
	r.mu.RLock()
	there := r.holds(from, digest)
	r.mu.RUnlock()
	if !there {
		return false, nil
	}
	if err := r.link(name, digest); err != nil {
		return false, err
	}
	w.Header().Set("Location", "/v2/"+name+"/blobs/"+digest)
	w.Header().Set("Docker-Content-Digest", digest)
	w.WriteHeader(http.StatusCreated)
	return true, nil
}

// deleteBlob takes a blob out of a repository; its bytes go when they are collected.
func (r *Registry) deleteBlob(w http.ResponseWriter, name, digest string) error {
	if err := r.meet(name); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.holds(name, digest) {
		return refuse(http.StatusNotFound, "BLOB_UNKNOWN", "no blob %s in %s", digest, name)
	}
	if r.index[name].names(digest) {
		return refuse(http.StatusMethodNotAllowed, "UNSUPPORTED", "a manifest of %s names %s", name, digest)
	}
	if err := os.Remove(r.linkPath(name, digest)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// publish makes a blob of what was uploaded: of a copy, since another process may have the upload's file open and write to it.
func (r *Registry) publish(u *upload, digest string) error {
	f, err := os.CreateTemp(r.path("uploads"), partial)
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // unless it has become the blob
	got, err := copyHashed(algorithm(digest), io.NewSectionReader(u.file, 0, u.size), f)
	if err == nil && got != digest {
		err = refuse(http.StatusBadRequest, "DIGEST_INVALID", "the content has digest %s, not %s", got, digest)
	}
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	unlock, err := r.share()
	if err != nil {
		return err
	}
	defer unlock()
	if !r.hasBlob(digest) {
		if err := os.Rename(f.Name(), r.blobPath(digest)); err != nil {
			return err
		}
		if err := syncDir(r.path("blobs", algorithm(digest))); err != nil {
			return err
		}
	}
	r.usage.moving.Lock()
	defer r.usage.moving.Unlock()
	if err := r.link(u.repository, digest); err != nil {
		return err
	}
	u.counted.Store(0)
	return nil
}

// hasBlob reports whether a blob is there, and is what its digest says.
func (r *Registry) hasBlob(digest string) bool {
	f, err := os.Open(r.blobPath(digest))
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	got, err := copyHashed(algorithm(digest), f, io.Discard)
	return err == nil && got == digest
}

// copyHashed copies, and says the digest of what was copied.
func copyHashed(algorithm string, from io.Reader, to io.Writer) (string, error) {
	sum := newHash(algorithm)
	_, err := io.Copy(io.MultiWriter(sum, to), from)
	return sumOf(algorithm, sum), err
}
