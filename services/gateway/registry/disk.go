package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
)

// Under manifests/<repository>/ each repository has three folders. No part of a repository's name
// starts with an underscore, so they cannot be taken for one.
const (
	recordFolder = "_manifests" // <hex of the digest>: a record
	tagFolder    = "_tags"      // <tag>: the digest
	blobFolder   = "_blobs"     // <hex of the digest>: empty, the blob is in this repository
	partial      = ".part-"     // files that are being written
)

// record is a manifest's file: its bytes and the media type that it was sent as, which is not
// always among them.
type record struct {
	MediaType string `json:"mediaType"`
	Body      []byte `json:"body"`
}

func (r *Registry) recordPath(name, digest string) string {
	return r.path("manifests", filepath.FromSlash(name), recordFolder, digits(digest))
}

func (r *Registry) tagPath(name, tag string) string {
	return r.path("manifests", filepath.FromSlash(name), tagFolder, tag)
}

func (r *Registry) syncFolders(name string) error {
	for _, folder := range []string{recordFolder, tagFolder} {
		err := syncDir(r.path("manifests", filepath.FromSlash(name), folder))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (r *Registry) writeRecord(name string, d descriptor, body []byte) error {
	b, err := json.Marshal(record{MediaType: d.MediaType, Body: body})
	if err != nil {
		return err
	}
	return replace(r.recordPath(name, d.Digest), b)
}

func (r *Registry) writeTag(name, tag, digest string) error {
	return replace(r.tagPath(name, tag), []byte(digest+"\n"))
}

// replace puts a file in its place whole or not at all.
func replace(path string, content []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, partial)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return err
	}
	return syncDir(dir)
}

func readRecord(path string) (descriptor, record, error) {
	var rec record
	b, err := os.ReadFile(path) //nolint:gosec,nolintlint // namePattern lets no ".." through; the taint analysis reports it in some runs only
	if err != nil {
		return descriptor{}, rec, err
	}
	if err := json.Unmarshal(b, &rec); err != nil {
		return descriptor{}, rec, err
	}
	d, _, err := describe(rec.MediaType, rec.Body, algorithmOf(filepath.Base(path)))
	if err != nil {
		return descriptor{}, rec, err
	}
	if digits(d.Digest) != filepath.Base(path) {
		return descriptor{}, rec, fmt.Errorf("content has digest %s", d.Digest)
	}
	return d, rec, nil
}

func (r *Registry) readRecord(name string, d descriptor) ([]byte, error) {
	_, rec, err := readRecord(r.recordPath(name, d.Digest))
	return rec.Body, err
}

// stamp is when the two folders of a repository were changed last; zero for one that is not there.
type stamp struct{ records, tags time.Time }

func (r *Registry) stampOf(name string) (stamp, error) {
	changed := func(folder string) (time.Time, error) {
		info, err := os.Stat(r.path("manifests", filepath.FromSlash(name), folder)) //nolint:gosec,nolintlint // namePattern lets no ".." through; the taint analysis reports it in some runs only
		if errors.Is(err, fs.ErrNotExist) {
			return time.Time{}, nil
		}
		if err != nil {
			return time.Time{}, err
		}
		return info.ModTime(), nil
	}
	records, err := changed(recordFolder)
	if err != nil {
		return stamp{}, err
	}
	tags, err := changed(tagFolder)
	return stamp{records, tags}, err
}

// settled says that the folders were left alone for longer than the clock of a file system takes to tick: a later change
// gives another stamp.
func (s stamp) settled(now time.Time) bool {
	const tick = time.Second
	return s.records.Before(now.Add(-tick)) && s.tags.Before(now.Add(-tick))
}

func newRepository() *repository {
	return &repository{manifests: map[string]descriptor{}, tags: map[string]string{}}
}

// meet reads a repository again that another process has changed.
func (r *Registry) meet(name string) error {
	now, err := r.stampOf(name)
	if err != nil {
		return err
	}
	r.mu.RLock()
	repo := r.index[name]
	known := repo == nil && now == stamp{} || repo != nil && repo.read == now && now.settled(time.Now())
	r.mu.RUnlock()
	if known {
		return nil
	}
	r.mu.Lock() // nothing of this process is half written
	defer r.mu.Unlock()
	return r.readRepository(name)
}

// load meets every repository there is.
func (r *Registry) load() error {
	names, err := r.names()
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := r.meet(name); err != nil {
			return err
		}
	}
	return nil
}

// names lists the repositories that have a folder.
func (r *Registry) names() ([]string, error) {
	root := r.path("manifests")
	found := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // another process has just removed it
		}
		if err != nil {
			return err
		}
		base := entry.Name()
		switch {
		case entry.IsDir() && (base == recordFolder || base == tagFolder || base == blobFolder):
			name, err := filepath.Rel(root, filepath.Dir(path))
			if err != nil {
				return err
			}
			found[filepath.ToSlash(name)] = true
			return fs.SkipDir
		case !entry.IsDir():
			r.skip(path, errors.New("neither a manifest nor a tag"))
		}
		return nil
	})
	return slices.Sorted(maps.Keys(found)), err
}

// readRepository reads one repository from its files. The lock is held by the caller. The stamp is taken first: what is
// changed meanwhile is met the next time.
func (r *Registry) readRepository(name string) error {
	repo := newRepository()
	var err error
	if repo.read, err = r.stampOf(name); err != nil {
		return err
	}
	err = r.eachFile(name, recordFolder, func(path string) error {
		d, _, err := readRecord(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			r.skip(path, err)
			return nil
		}
		repo.manifests[d.Digest] = d
		return nil
	})
	if err != nil {
		return err
	}
	err = r.eachFile(name, tagFolder, func(path string) error {
		b, err := os.ReadFile(path) //nolint:gosec,nolintlint // namePattern lets no ".." through; the taint analysis reports it in some runs only
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		digest := strings.TrimSpace(string(b))
		if repo.manifests[digest].Digest == "" {
			r.skip(path, fmt.Errorf("names %q, which is no manifest here", digest))
			return nil
		}
		repo.tags[filepath.Base(path)] = digest
		return nil
	})
	if err != nil {
		return err
	}
	if len(repo.manifests) == 0 {
		delete(r.index, name) // its folders alone make no repository
		return nil
	}
	r.index[name] = repo
	return nil
}

// eachFile visits the files of a repository's folder. What a killed process left half written is removed in time.
func (r *Registry) eachFile(name, folder string, visit func(path string) error) error {
	dir := r.path("manifests", filepath.FromSlash(name), folder)
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		if strings.HasPrefix(entry.Name(), partial) {
			if info, err := entry.Info(); err == nil && time.Since(info.ModTime()) > uploadIdle {
				_ = os.Remove(path) //nolint:gosec // only the registry writes below its folder, and it makes no links
			}
			continue
		}
		if err := visit(path); err != nil {
			return err
		}
	}
	return nil
}

func (r *Registry) skip(path string, reason error) {
	r.options.Log.Warn("registry: file skipped", zap.String("file", path), zap.Error(reason))
}
