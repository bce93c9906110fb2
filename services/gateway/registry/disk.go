package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"go.uber.org/zap"
)

// Under manifests/<repository>/ each repository has two folders. No part of a repository's name
// starts with an underscore, so they cannot be taken for one.
const (
	recordFolder = "_manifests" // <hex of the digest>: a record
	tagFolder    = "_tags"      // <tag>: the digest
	partial      = ".part-"     // files that are being written
)

// record is a manifest's file: its bytes and the media type that it was sent as, which is not
// always among them.
type record struct {
	MediaType string `json:"mediaType"`
	Body      []byte `json:"body"`
}

func (r *Registry) recordPath(name, digest string) string {
	return r.path("manifests", filepath.FromSlash(name), recordFolder, hex64(digest))
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
	b, err := os.ReadFile(path)
	if err != nil {
		return descriptor{}, rec, err
	}
	if err := json.Unmarshal(b, &rec); err != nil {
		return descriptor{}, rec, err
	}
	d, _, err := describe(rec.MediaType, rec.Body)
	if err != nil {
		return descriptor{}, rec, err
	}
	if hex64(d.Digest) != filepath.Base(path) {
		return descriptor{}, rec, fmt.Errorf("content has digest %s", d.Digest)
	}
	return d, rec, nil
}

func (r *Registry) readRecord(name string, d descriptor) ([]byte, error) {
	_, rec, err := readRecord(r.recordPath(name, d.Digest))
	return rec.Body, err
}

// load reads the index back from the files.
func (r *Registry) load() error {
	root := r.path("manifests")
	tags := map[string]string{} // path to repository; read when all manifests are known
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		folder := filepath.Dir(path)
		name, err := filepath.Rel(root, filepath.Dir(folder))
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		switch {
		case strings.HasPrefix(entry.Name(), partial):
			return os.Remove(path) //nolint:gosec // only the registry writes below its folder, and it makes no links
		case filepath.Base(folder) == tagFolder:
			tags[path] = name
		case filepath.Base(folder) == recordFolder:
			d, _, err := readRecord(path)
			if err != nil {
				r.skip(path, err)
				return nil
			}
			repo := r.index[name]
			if repo == nil {
				repo = &repository{manifests: map[string]descriptor{}, tags: map[string]string{}}
				r.index[name] = repo
			}
			repo.manifests[d.Digest] = d
		default:
			r.skip(path, errors.New("neither a manifest nor a tag"))
		}
		return nil
	})
	if err != nil {
		return err
	}
	for path, name := range tags {
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		digest := strings.TrimSpace(string(b))
		repo := r.index[name]
		if repo == nil || repo.manifests[digest].Digest == "" {
			r.skip(path, fmt.Errorf("names %q, which is no manifest here", digest))
			continue
		}
		repo.tags[filepath.Base(path)] = digest
	}
	return nil
}

func (r *Registry) skip(path string, reason error) {
	r.options.Log.Warn("registry: file skipped", zap.String("file", path), zap.Error(reason))
}
