package registry

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"go.uber.org/zap"
)

const (
	defaultGrace = 24 * time.Hour
	// collectEvery is how often Keep collects.
	collectEvery = time.Hour
)

// Collected counts what Collect removed.
type Collected struct {
	Manifests int   // that refer to a subject which is gone
	Links     int   // of blobs to repositories none of whose manifests names them
	Blobs     int   // that are in no repository
	Bytes     int64 // of these blobs
}

// Keep collects what nothing names, at once and then every hour, until ctx ends. Several processes may do so.
func (r *Registry) Keep(ctx context.Context) error {
	tick := time.NewTicker(collectEvery)
	defer tick.Stop()
	for {
		got, err := r.Collect(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			r.options.Log.Error("registry: not collected", zap.Error(err))
		case got != Collected{}:
			r.options.Log.Info("registry: collected", zap.Int("manifests", got.Manifests), zap.Int("links", got.Links),
				zap.Int("blobs", got.Blobs), zap.Int64("bytes", got.Bytes))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Collect removes what nothing has named for the time of grace: blobs that no manifest names, and untagged manifests, such as
// signatures, whose subject was deleted. A manifest without a subject stays, also without a tag: what Lemnis deploys is named
// by digest alone. Pushes wait meanwhile, in every process; pulls do not.
func (r *Registry) Collect(ctx context.Context) (Collected, error) {
	var got Collected
	unlock, err := r.flock(syscall.LOCK_EX)
	if err != nil {
		return got, err
	}
	defer unlock()
	before := time.Now().Add(-r.options.Grace)
	names, err := r.names()
	if err != nil {
		return got, err
	}
	kept := map[string]bool{} // hex digits of blobs
	for _, name := range names {
		if ctx.Err() != nil {
			return got, ctx.Err()
		}
		if err := r.meet(name); err != nil {
			return got, err
		}
		if err := r.collectRepository(name, before, kept, &got); err != nil {
			return got, err
		}
	}
	err = r.collectBlobs(ctx, before, kept, &got)
	return got, err
}

func (r *Registry) collectRepository(name string, before time.Time, kept map[string]bool, got *Collected) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	repo := r.index[name]
	for r.dropOne(name, repo, before, got) { // one that goes may have been the subject of the next
	}
	named := map[string]bool{}
	if repo != nil {
		for _, d := range repo.manifests {
			for _, p := range d.parts {
				named[digits(p)], kept[digits(p)] = true, true
			}
		}
	}
	entries, err := os.ReadDir(r.path("manifests", filepath.FromSlash(name), blobFolder))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, entry := range entries {
		info, err := entry.Info()
		switch {
		case err != nil: // gone meanwhile
		case named[entry.Name()]:
		case info.ModTime().After(before):
			kept[entry.Name()] = true
		default:
			if err := os.Remove(r.path("manifests", filepath.FromSlash(name), blobFolder, entry.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			got.Links++
		}
	}
	return r.syncFolders(name)
}

// dropOne removes a manifest whose subject is not there; false when there is none, or it could not be removed.
func (r *Registry) dropOne(name string, repo *repository, before time.Time, got *Collected) bool {
	if repo == nil {
		return false
	}
	for digest, d := range repo.manifests {
		if d.subject == "" || repo.manifests[d.subject].Digest != "" || repo.tagged(digest) || repo.names(digest) {
			continue
		}
		path := r.recordPath(name, digest)
		if info, err := os.Stat(path); err != nil || info.ModTime().After(before) {
			continue
		}
		if err := os.Remove(path); err != nil {
			r.skip(path, err)
			return false
		}
		delete(repo.manifests, digest)
		got.Manifests++
		return true
	}
	return false
}

func (r *repository) tagged(digest string) bool {
	for _, of := range r.tags {
		if of == digest {
			return true
		}
	}
	return false
}

func (r *Registry) collectBlobs(ctx context.Context, before time.Time, kept map[string]bool, got *Collected) error {
	for _, algorithm := range []string{algorithm256, algorithm512} {
		entries, err := os.ReadDir(r.path("blobs", algorithm))
		if err != nil {
			return err
		}
		entries = slices.DeleteFunc(entries, func(e fs.DirEntry) bool { return kept[e.Name()] })
		for _, entry := range entries {
			info, err := entry.Info()
			if err != nil || info.ModTime().After(before) {
				continue
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err := os.Remove(r.path("blobs", algorithm, entry.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			got.Blobs++
			got.Bytes += info.Size()
		}
	}
	return nil
}

// share keeps every process from collecting until unlock.
func (r *Registry) share() (unlock func(), err error) { return r.flock(syscall.LOCK_SH) }

// flock locks the folder among all goroutines of all processes that have it open. Waiting takes a thread; collecting is
// rare and short.
func (r *Registry) flock(how int) (unlock func(), err error) {
	f, err := os.OpenFile(r.path("lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(f.Fd()), how)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return func() { _ = f.Close() }, nil // closing gives the lock back
}
