package backup

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// sink takes the parts of an archive, one after the other.
type sink struct {
	dir     string // where files are put; of a tar, where one is put until its size is known
	file    *os.File
	tar     *tar.Writer // nil: the archive is a folder
	out     string
	created time.Time
	parts   []Part
}

// newSink begins an archive: a tar file when the name ends so, else a folder. What is there stays there.
func newSink(out string, now time.Time) (*sink, error) {
	if !isTar(out) {
		if entries, err := os.ReadDir(out); err == nil && len(entries) > 0 {
			return nil, fmt.Errorf("the folder %s is not empty", out)
		}
		if err := os.MkdirAll(out, 0o700); err != nil {
			return nil, fmt.Errorf("make the archive: %w", err)
		}
		return &sink{dir: out, out: out, created: now}, nil
	}
	if _, err := os.Stat(out); !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is there already", out)
	}
	dir, err := os.MkdirTemp(filepath.Dir(out), ".lemnis-backup-")
	if err != nil {
		return nil, fmt.Errorf("make the archive: %w", err)
	}
	f, err := os.OpenFile(out+".part", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make the archive: %w", err), os.RemoveAll(dir))
	}
	return &sink{dir: dir, file: f, tar: tar.NewWriter(f), out: out, created: now}, nil
}

func isTar(name string) bool { return filepath.Ext(name) == ".tar" }

// add writes a part, and notes its size and sum.
func (s *sink) add(name string, write func(io.Writer) error) error {
	place := filepath.Join(s.dir, filepath.FromSlash(name))
	if s.tar != nil {
		place = filepath.Join(s.dir, "part")
	}
	size, sum, err := spool(place, write)
	if err != nil {
		return err
	}
	s.parts = append(s.parts, Part{Name: name, Size: size, SHA256: sum})
	return s.move(name, place, size)
}

// spool writes a file to the disk, whole.
func spool(place string, write func(io.Writer) error) (size int64, sum string, err error) {
	if err := os.MkdirAll(filepath.Dir(place), 0o700); err != nil {
		return 0, "", fmt.Errorf("make the archive: %w", err)
	}
	f, err := os.OpenFile(place, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, "", fmt.Errorf("make the archive: %w", err)
	}
	counted := &counter{hash: sha256.New()}
	err = write(io.MultiWriter(f, counted))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return 0, "", err
	}
	return counted.size, hex.EncodeToString(counted.hash.Sum(nil)), nil
}

type counter struct {
	hash hash.Hash
	size int64
}

// Write counts and sums.
func (c *counter) Write(p []byte) (int, error) {
	c.size += int64(len(p))
	return c.hash.Write(p)
}

// move puts a finished file into the tar.
func (s *sink) move(name, place string, size int64) error {
	if s.tar == nil {
		return nil
	}
	f, err := os.Open(place)
	if err != nil {
		return fmt.Errorf("make the archive: %w", err)
	}
	defer func() { _ = f.Close() }()
	if err := s.tar.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: size, ModTime: s.created, Format: tar.FormatPAX}); err != nil {
		return fmt.Errorf("make the archive: %w", err)
	}
	if _, err := io.Copy(s.tar, f); err != nil {
		return fmt.Errorf("make the archive: %w", err)
	}
	return os.Remove(place)
}

// finish writes the manifest, which makes an archive of the parts.
func (s *sink) finish(m *Manifest) error {
	m.Parts = s.parts
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	if err := s.add(ManifestName, func(w io.Writer) error { _, err := w.Write(append(text, '\n')); return err }); err != nil {
		return err
	}
	if s.tar == nil {
		return nil
	}
	if err := errors.Join(s.tar.Close(), s.file.Sync(), s.file.Close()); err != nil {
		return fmt.Errorf("make the archive: %w", err)
	}
	s.file = nil
	return errors.Join(os.Rename(s.out+".part", s.out), os.RemoveAll(s.dir))
}

// discard removes what was begun and not finished.
func (s *sink) discard() {
	if s.tar == nil {
		_ = os.RemoveAll(s.out)
		return
	}
	if s.file != nil {
		_ = s.file.Close()
		_ = os.Remove(s.out + ".part")
	}
	_ = os.RemoveAll(s.dir)
}
