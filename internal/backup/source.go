package backup

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Archive is a backup that was read and found to be whole.
type Archive struct {
	Manifest Manifest
	open     func(name string) (io.ReadCloser, error)
	close    func() error
}

// Open reads an archive, a tar file or a folder, from one end to the other, and checks each part against its sum.
func Open(path string) (*Archive, error) {
	a, err := open(path)
	if err != nil {
		return nil, fmt.Errorf("the backup %s can not be used: %w", path, err)
	}
	return a, nil
}

func open(path string) (_ *Archive, err error) {
	a := &Archive{}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case info.IsDir():
		a.open = func(name string) (io.ReadCloser, error) {
			return os.Open(filepath.Join(path, filepath.FromSlash(name)))
		}
		a.close = func() error { return nil }
	default:
		if a.open, a.close, err = openTar(path); err != nil {
			return nil, err
		}
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.close())
		}
	}()
	r, err := a.open(ManifestName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no %s: it is no backup, or was not finished", ManifestName)
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	if a.Manifest, err = readManifest(r); err != nil {
		return nil, err
	}
	for _, p := range a.Manifest.Parts {
		if err := a.check(p); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// Close closes the archive's file.
func (a *Archive) Close() error { return a.close() }

func (a *Archive) check(p Part) error {
	if !filepath.IsLocal(filepath.FromSlash(p.Name)) {
		return fmt.Errorf("the part %q leads out of the archive", p.Name)
	}
	r, err := a.open(p.Name)
	if err != nil {
		return fmt.Errorf("the part %s is missing: %w", p.Name, err)
	}
	defer func() { _ = r.Close() }()
	sum := sha256.New()
	n, err := io.Copy(sum, r)
	if err != nil {
		return fmt.Errorf("the part %s can not be read: %w", p.Name, err)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); n != p.Size || got != p.SHA256 {
		return fmt.Errorf("the part %s is damaged: %d bytes with the sum %s, not %d with %s", p.Name, n, got, p.Size, p.SHA256)
	}
	return nil
}

// openTar finds where each file of a tar lies.
func openTar(path string) (open func(string) (io.ReadCloser, error), closeFile func() error, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	type span struct{ at, size int64 }
	spans := map[string]span{}
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, nil, errors.Join(fmt.Errorf("it is no tar file, or is cut off: %w", err), f.Close())
		}
		at, err := f.Seek(0, io.SeekCurrent) // the reader reads no further than the header
		if err != nil {
			return nil, nil, errors.Join(err, f.Close())
		}
		if h.Typeflag == tar.TypeReg {
			spans[h.Name] = span{at, h.Size}
		}
	}
	return func(name string) (io.ReadCloser, error) {
		s, ok := spans[name]
		if !ok {
			return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
		}
		return io.NopCloser(io.NewSectionReader(f, s.at, s.size)), nil
	}, f.Close, nil
}
