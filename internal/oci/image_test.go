package oci

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

func digestOf(text string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(text))) }

// archive is a file of an image whose layer is text, changed by replacing a part of what is in there.
func archive(t *testing.T, replace ...string) string {
	t.Helper()
	config, layer := `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`, "a layer"
	manifest := fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":%d},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":%q,"size":%d}]}`,
		digestOf(config), len(config), digestOf(layer), len(layer))
	index := fmt.Sprintf(`{"schemaVersion":2,"manifests":[{"digest":%q,"size":%d}]}`, digestOf(manifest), len(manifest))
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range [][2]string{{"index.json", index}, {"blobs/sha256/" + digestOf(manifest)[7:], manifest}, {"blobs/sha256/" + digestOf(config)[7:], config}, {"blobs/sha256/" + digestOf(layer)[7:], layer}} {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f[0], Mode: 0o644, Size: int64(len(f[1]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, f[1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(file, []byte(strings.NewReplacer(replace...).Replace(b.String())), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestAnImageIsPushedAsItIsInItsArchive(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(s.Close)
	push := func(file string) (Reference, error) {
		return PushImage(t.Context(), s.URL+"/shop/api", file, Metadata{Annotations: map[string]string{"dev.lemnis.item": "T-1"}, Tag: "newest"})
	}
	ref, err := push(archive(t))
	if err != nil {
		t.Fatal(err)
	}
	if again, err := push(archive(t)); err != nil || again != ref {
		t.Errorf("%+v, %v", again, err)
	}
	for _, at := range []string{ref.String(), ref.Repository + ":newest"} {
		named, err := name.ParseReference(at, name.Insecure)
		if err != nil {
			t.Fatal(err)
		}
		image, err := remote.Image(named)
		if err != nil {
			t.Fatal(err)
		}
		m, err := image.Manifest()
		if err != nil || m.Config.Digest.String() != ref.Layer || m.Annotations["dev.lemnis.item"] != "T-1" || len(m.Layers) != 1 || m.Layers[0].Digest.String() != digestOf("a layer") {
			t.Errorf("%+v, %v", m, err)
		}
	}
	if _, err := Inspect(t.Context(), Reference{Repository: s.URL + "/shop/api", Digest: ref.Digest}); !errors.Is(err, ErrNotExecutable) {
		t.Errorf("an image is taken for an executable: %v", err)
	}
}

func TestAnArchiveThatWasChangedIsNotPushed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		from, to string
		want     error
	}{
		{"a layer", "another", ErrDigest},
		{`"architecture":"amd64"`, `"architecture":"arm64"`, ErrDigest},
		{"index.json", "other.json", ErrNotImage},
		{"blobs/sha256/" + digestOf("a layer")[7:], "blobs/sha256/" + digestOf("none")[7:], ErrNotImage},
	} {
		if _, err := PushImage(t.Context(), "http://127.0.0.1:1/shop/api", archive(t, c.from, c.to), Metadata{}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.to, err)
		}
	}
}
