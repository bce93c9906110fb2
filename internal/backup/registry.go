package backup

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Folders of a registry that hold what was answered for; uploads under way are not among them.
var registryFolders = []string{"blobs", "manifests"}

// partial is in the name of a file that a registry is writing.
const partial = ".part-"

// RegistryFolder copies the files of a registry that this machine has in a folder, while it works: each is written
// beside its place and renamed, and blobs never change. Blobs come last, so that those of each manifest are there.
func RegistryFolder(dir string) func(context.Context, func(string, func(io.Writer) error) error) error {
	return func(ctx context.Context, add func(string, func(io.Writer) error) error) error {
		order := slices.Clone(registryFolders)
		slices.Reverse(order)
		for _, folder := range order {
			err := filepath.WalkDir(filepath.Join(dir, folder), func(path string, entry fs.DirEntry, err error) error {
				if errors.Is(err, fs.ErrNotExist) {
					return nil
				}
				if err != nil || entry.IsDir() || strings.Contains(entry.Name(), partial) || ctx.Err() != nil {
					return errors.Join(err, ctx.Err())
				}
				return addFile(dir, path, add)
			})
			if err != nil {
				return fmt.Errorf("copy the registry: %w", err)
			}
		}
		return nil
	}
}

func addFile(dir, path string, add func(string, func(io.Writer) error) error) error {
	name, err := filepath.Rel(dir, path)
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) { // deleted meanwhile
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	return add(filepath.ToSlash(name), func(w io.Writer) error { _, err := io.Copy(w, f); return err })
}

// RegistryTar copies the files of a registry that somebody gives as a tar.
func RegistryTar(open func(context.Context) (io.ReadCloser, error)) func(context.Context, func(string, func(io.Writer) error) error) error {
	return func(ctx context.Context, add func(string, func(io.Writer) error) error) error {
		r, err := open(ctx)
		if err != nil {
			return fmt.Errorf("copy the registry: %w", err)
		}
		defer func() { _ = r.Close() }()
		ended := false
		for files := tar.NewReader(r); ; {
			h, err := files.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return fmt.Errorf("copy the registry: %w", err)
			}
			if ended = h.Name == TarEnd; ended {
				continue
			}
			if err := add(h.Name, func(w io.Writer) error { _, err := io.Copy(w, files); return err }); err != nil { //nolint:gosec // it goes to the disk, and its size is checked there
				return fmt.Errorf("copy the registry: %w", err)
			}
		}
		if !ended {
			return errors.New("copy the registry: it was cut off")
		}
		return nil
	}
}

// TarEnd is the name of the last, empty file of a registry's tar: one that fails half way has already been answered for.
const TarEnd = "end"

// WriteTar writes the files of a registry's folder as a tar.
func WriteTar(ctx context.Context, dir string, w io.Writer) error {
	files := tar.NewWriter(w)
	err := RegistryFolder(dir)(ctx, func(name string, write func(io.Writer) error) error {
		info, err := os.Stat(filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil {
			return err
		}
		if err := files.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: info.Size(), Format: tar.FormatPAX}); err != nil {
			return err
		}
		return write(files)
	})
	if err != nil {
		return err
	}
	if err := files.WriteHeader(&tar.Header{Name: TarEnd, Mode: 0o600}); err != nil {
		return err
	}
	return files.Close()
}
