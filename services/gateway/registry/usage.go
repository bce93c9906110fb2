package registry

import (
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// usage bounds what projects have here. The first part of a repository's name is its project.
type usage struct {
	room func(project string) int64 // bytes that a project may have; 0 is no bound. nil: nothing is bounded
	full func(project string)

	moving sync.RWMutex // held while an upload becomes a blob, so that nobody counts both, or neither

	mu    sync.Mutex
	sizes map[string]int64 // of blobs by their digits; they never change
}

// Bound has projects bounded: room is asked for the bytes that one may have, 0 for no bound, and full is told of each that was
// refused something. It is called before the first request.
func (r *Registry) Bound(room func(project string) int64, full func(project string)) {
	r.usage.room, r.usage.full = room, full
}

// Usage is the bytes that each project has: its manifests, and once each blob that is in a repository of it.
func (r *Registry) Usage() (map[string]int64, error) {
	names, err := r.names()
	if err != nil {
		return nil, err
	}
	of := map[string][]string{}
	for _, name := range names {
		of[projectOf(name)] = append(of[projectOf(name)], name)
	}
	all := map[string]int64{}
	for project, names := range of {
		if all[project], err = r.usedBy(names); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func projectOf(name string) string {
	project, _, _ := strings.Cut(name, "/")
	return project
}

// repositories lists those of a project.
func (r *Registry) repositories(project string) ([]string, error) {
	names, err := r.names()
	if err != nil {
		return nil, err
	}
	var of []string
	for _, name := range names {
		if projectOf(name) == project {
			of = append(of, name)
		}
	}
	return of, nil
}

// usedBy meets what other processes have changed, and adds up what the repositories have.
func (r *Registry) usedBy(names []string) (int64, error) {
	for _, name := range names {
		if err := r.meet(name); err != nil {
			return 0, err
		}
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.used(names, nil)
}

// used adds up what repositories have, with one more manifest if there is one. r.mu is held by the caller.
func (r *Registry) used(names []string, also *descriptor) (int64, error) {
	blobs, manifests := map[string]bool{}, map[string]int64{}
	count := func(d descriptor) {
		manifests[digits(d.Digest)] = d.Size
		for _, part := range d.parts {
			blobs[digits(part)] = true
		}
	}
	for _, name := range names {
		if repo := r.index[name]; repo != nil {
			for _, d := range repo.manifests {
				count(d)
			}
		}
		links, err := os.ReadDir(r.path("manifests", filepath.FromSlash(name), blobFolder))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return 0, err
		}
		for _, link := range links {
			blobs[link.Name()] = true
		}
	}
	if also != nil {
		count(*also)
	}
	var sum int64
	for digits, size := range manifests {
		sum += size
		delete(blobs, digits) // an index names manifests
	}
	for digits := range blobs {
		sum += r.sizeOf(digits)
	}
	return sum, nil
}

// sizeOf is the size of a blob, 0 when it is not here.
func (r *Registry) sizeOf(digits string) int64 {
	r.usage.mu.Lock()
	defer r.usage.mu.Unlock()
	if size, known := r.usage.sizes[digits]; known {
		return size
	}
	info, err := os.Stat(r.path("blobs", algorithmOf(digits), digits))
	if err != nil || info.IsDir() {
		return 0
	}
	r.usage.sizes[digits] = info.Size()
	return info.Size()
}

// left is how many bytes a project may still upload, -1 for any number.
func (r *Registry) left(project string) (int64, error) {
	if r.usage.room == nil {
		return -1, nil
	}
	most := r.usage.room(project)
	if most <= 0 {
		return -1, nil
	}
	names, err := r.repositories(project)
	if err != nil {
		return 0, err
	}
	r.usage.moving.RLock()
	defer r.usage.moving.RUnlock()
	used, err := r.usedBy(names)
	return max(most-used-r.uploads.size(project), 0), err
}

// mayBegin refuses an upload to a project that has no room.
func (r *Registry) mayBegin(project string) error {
	left, err := r.left(project)
	if err == nil && left == 0 {
		err = r.tooMuch(project)
	}
	return err
}

// roomFor refuses a manifest that a project has no room for. r.mu is held by the caller.
func (r *Registry) roomFor(project string, d descriptor) error {
	if r.usage.room == nil || r.usage.room(project) <= 0 {
		return nil
	}
	names, err := r.repositories(project)
	if err != nil {
		return err
	}
	used, err := r.used(names, &d)
	if err == nil && used > r.usage.room(project) {
		err = r.tooMuch(project)
	}
	return err
}

// fullFor is how many seconds a client waits before it asks again: somebody has to make room first.
const fullFor = "60"

func (r *Registry) tooMuch(project string) error {
	r.usage.full(project)
	return refuse(http.StatusTooManyRequests, "TOOMANYREQUESTS", "the project %s has used up its room of %d bytes; delete what is not needed, or ask for a larger quota",
		project, r.usage.room(project))
}

// dropFull forgets an upload that there was no room for: what of it is there takes room from others.
func (r *Registry) dropFull(id string, u *upload, err error) {
	var no *refusal
	if errors.As(err, &no) && no.status == http.StatusTooManyRequests {
		r.uploads.drop(id, u)
	}
}

// size is the bytes of a project's uploads under way in this process.
func (s *uploads) size(project string) (sum int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, u := range s.open {
		if projectOf(u.repository) == project {
			sum += u.counted.Load()
		}
	}
	return sum
}
