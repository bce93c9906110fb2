package osv

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"
	"time"
)

// mostBytes of one file of a database.
const mostBytes = 64 << 20

// source is where the files of a database are. A file that is not there is an fs.ErrNotExist.
type source interface {
	read(ctx context.Context, name string) ([]byte, error)
	// list names the JSON files; nil and no error where that cannot be told.
	list() ([]string, error)
	close() error
}

// open finds out what an address is: a folder, a zip, or the URL of a mirror.
func open(at string) (source, error) {
	if u, err := url.Parse(at); err == nil && (u.Scheme == "https" || u.Scheme == "http") {
		return mirror{strings.TrimRight(at, "/"), &http.Client{Timeout: 30 * time.Second}}, nil
	}
	at = strings.TrimPrefix(at, "file://")
	info, err := os.Stat(at)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		root, err := os.OpenRoot(at)
		if err != nil {
			return nil, err
		}
		return files{root.FS(), root}, nil
	}
	archive, err := zip.OpenReader(at)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", at, err)
	}
	return files{archive, archive}, nil
}

type files struct {
	fs.FS
	io.Closer
}

func (f files) read(_ context.Context, name string) ([]byte, error) {
	file, err := f.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	return limited(name, file)
}

func (f files) list() (names []string, err error) {
	err = fs.WalkDir(f.FS, ".", func(name string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() && path.Ext(name) == ".json" {
			names = append(names, name)
		}
		return err
	})
	return names, err
}

func (f files) close() error { return f.Close() }

// mirror is a Go vulnerability database behind HTTP.
type mirror struct {
	base   string
	client *http.Client
}

func (m mirror) read(ctx context.Context, name string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.base+"/"+name, nil)
	if err != nil {
		return nil, err
	}
	resp, err := m.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	switch resp.StatusCode {
	case http.StatusOK:
		return limited(name, resp.Body)
	case http.StatusNotFound:
		return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	return nil, fmt.Errorf("%s: %s", name, resp.Status)
}

func (mirror) list() ([]string, error) { return nil, nil }

func (m mirror) close() error { m.client.CloseIdleConnections(); return nil }

func limited(name string, r io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, mostBytes+1))
	if err == nil && len(text) > mostBytes {
		err = errors.New(name + " is too large")
	}
	return text, err
}
