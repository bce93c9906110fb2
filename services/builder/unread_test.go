package builder

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// bare is the archive of an image without layers, and its ID.
func bare(t *testing.T) (file, id string) {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	put := func(name, text string) {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write([]byte(text))
	}
	blob := func(text string) (hex string) {
		hex = fmt.Sprintf("%x", sha256.Sum256([]byte(text)))
		put("blobs/sha256/"+hex, text)
		return hex
	}
	config := blob("{}")
	manifest := blob(`{"config":{"digest":"sha256:` + config + `","size":2},"layers":[]}`)
	put("index.json", `{"manifests":[{"digest":"sha256:`+manifest+`"}]}`)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, "sha256:" + config
}

// Evidence is missing where what is packaged tells nothing: that it can not be read, or is another, is a fault of this machine.
func TestWhatCanNotBeReadIsNotMissing(t *testing.T) {
	t.Parallel()
	archive, id := bare(t)
	none := filepath.Join(t.TempDir(), "none")
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		made   product
		unread bool
		fine   bool
	}{
		"an executable that is gone":  {product{file: none}, true, false},
		"no Go program":               {product{file: script}, false, false},
		"an image that is gone":       {product{file: none, image: true}, true, false},
		"no image":                    {product{file: script, image: true}, true, false},
		"another image than was made": {product{file: archive, image: true, digest: "sha256:other"}, true, false},
		"the image that was made":     {product{file: archive, image: true, digest: id}, false, true},
	} {
		p := proof{made: c.made}
		err := p.read(t.Context())
		var unread *unreadError
		if errors.As(err, &unread) != c.unread || (err == nil) != c.fine {
			t.Errorf("%s: %v", name, err)
		}
		if !c.unread {
			continue
		}
		if _, err := p.prove(t.Context()); !errors.As(err, &unread) {
			t.Errorf("%s is proved: %v", name, err)
		}
	}
}
