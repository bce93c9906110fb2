package oci_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/lemnis/lemnis/internal/oci"
)

// tamper, when set, changes what the registry answers.
type tamper func(path string, body []byte) []byte

func serve(t *testing.T, change tamper) (repository string) {
	t.Helper()
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if change == nil || req.Method != http.MethodGet {
			inner.ServeHTTP(w, req)
			return
		}
		rec := httptest.NewRecorder()
		inner.ServeHTTP(rec, req)
		body := change(req.URL.Path, rec.Body.Bytes())
		w.Header().Set("Content-Type", rec.Header().Get("Content-Type"))
		w.WriteHeader(rec.Code)
		_, _ = w.Write(body)
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://") + "/shop/api"
}

func executable(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "api")
	if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPushAndPull(t *testing.T) {
	repository := serve(t, nil)
	content := strings.Repeat("\x7fELF", 100_000)
	metadata := oci.Metadata{Annotations: map[string]string{"org.opencontainers.image.revision": "abc"}, Tag: "v1"}
	ref, err := oci.Push(t.Context(), repository, executable(t, content), metadata)
	if err != nil {
		t.Fatal(err)
	}
	again, err := oci.Push(t.Context(), "http://"+repository, executable(t, content), metadata)
	if err != nil || again != ref {
		t.Fatalf("pushed again: %+v, %v, first %+v", again, err, ref)
	}
	parsed, err := oci.ParsePURL(ref.PURL())
	if err != nil {
		t.Fatal(err)
	}
	artifact, err := oci.Inspect(t.Context(), parsed)
	if err != nil || artifact.Name != "api" || artifact.Layer != ref.Layer || artifact.Size != int64(len(content)) ||
		artifact.Annotations["org.opencontainers.image.revision"] != "abc" {
		t.Fatalf("%+v, %v", artifact, err)
	}
	dir := filepath.Join(t.TempDir(), "new")
	for range 2 { // a second pull replaces the file
		file, err := oci.Pull(t.Context(), parsed, dir)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(file)
		if err != nil || string(got) != content {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		if info, _ := os.Stat(file); info.Mode().Perm() != 0o755 || filepath.Base(file) != "api" {
			t.Fatalf("%s %v", file, info.Mode())
		}
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Fatalf("left %v", left)
	}
}

func TestPullBelievesOnlyTheDigest(t *testing.T) {
	tests := map[string]tamper{
		"other manifest": func(path string, b []byte) []byte {
			if strings.Contains(path, "/manifests/") {
				return bytes.Replace(b, []byte("api"), []byte("ipa"), 1)
			}
			return b
		},
		"other layer": func(path string, b []byte) []byte {
			if strings.Contains(path, "/blobs/") {
				return append([]byte{b[0] ^ 1}, b[1:]...)
			}
			return b
		},
		"short layer": func(path string, b []byte) []byte {
			if strings.Contains(path, "/blobs/") {
				return b[:len(b)-1]
			}
			return b
		},
		"long layer": func(path string, b []byte) []byte {
			if strings.Contains(path, "/blobs/") {
				return append(bytes.Clone(b), 'x')
			}
			return b
		},
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			repository := serve(t, change)
			ref, err := oci.Push(t.Context(), repository, executable(t, "content"), oci.Metadata{})
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			if _, err := oci.Pull(t.Context(), ref, dir); !errors.Is(err, oci.ErrDigest) {
				t.Fatalf("want ErrDigest, got %v", err)
			}
			if left, _ := os.ReadDir(dir); len(left) > 0 {
				t.Fatalf("left %v", left)
			}
		})
	}
}

func TestPullErrors(t *testing.T) {
	repository := serve(t, nil)
	absent := oci.Reference{Repository: repository, Digest: "sha256:" + strings.Repeat("a", 64)}
	if _, err := oci.Pull(t.Context(), absent, t.TempDir()); !errors.Is(err, oci.ErrNotFound) {
		t.Errorf("want ErrNotFound, got %v", err)
	}
	for _, ref := range []oci.Reference{
		{Repository: repository, Digest: "v1"},
		{Repository: "api", Digest: absent.Digest},
		{Repository: "shop/api", Digest: absent.Digest},
		{Repository: repository + "/../x", Digest: absent.Digest},
	} {
		if _, err := oci.Pull(t.Context(), ref, t.TempDir()); !errors.Is(err, oci.ErrBadReference) {
			t.Errorf("%+v: want ErrBadReference, got %v", ref, err)
		}
	}
}

func TestPURL(t *testing.T) {
	digest := "sha256:" + strings.Repeat("0b", 32)
	ref := oci.Reference{Repository: "127.0.0.1:8080/shop/api", Digest: digest}
	want := "pkg:oci/api@sha256%3A" + strings.Repeat("0b", 32) + "?repository_url=127.0.0.1:8080/shop/api"
	if got := ref.PURL(); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	hexDigits := strings.Repeat("0b", 32)
	good := []string{
		want,
		"pkg:oci/api@sha256:" + hexDigits + "?arch=amd64&repository_url=127.0.0.1%3A8080%2Fshop%2Fapi&tag=v1#sub",
	}
	for _, purl := range good {
		if got, err := oci.ParsePURL(purl); err != nil || got != ref {
			t.Errorf("%s: %+v, %v", purl, got, err)
		}
	}
	bad := []string{
		"", "pkg:golang/x@v1", "pkg:oci/api", "pkg:oci/api@v1?repository_url=h:1/api",
		"pkg:oci/api@sha256%3A" + hexDigits,
		"pkg:oci/api@sha256%3A" + hexDigits + "?repository_url=h:1/other",
		"pkg:oci/api@sha256%3A" + hexDigits + "?repository_url=h:1/../api",
		"pkg:oci/api@sha256%3A" + hexDigits + "?repository_url=api",
		"pkg:oci/api@sha256%3A" + hexDigits + "?repository_url=http://h:1/api",
		"pkg:oci/%zz@sha256%3A" + hexDigits + "?repository_url=h:1/api",
		"pkg:oci/@sha256%3A" + hexDigits + "?repository_url=h:1/",
	}
	for _, purl := range bad {
		if got, err := oci.ParsePURL(purl); !errors.Is(err, oci.ErrBadReference) {
			t.Errorf("%s: %+v, %v", purl, got, err)
		}
	}
}

func FuzzParsePURL(f *testing.F) {
	f.Add("pkg:oci/api@sha256%3A" + strings.Repeat("0b", 32) + "?repository_url=127.0.0.1:8080/shop/api")
	f.Fuzz(func(t *testing.T, purl string) {
		ref, err := oci.ParsePURL(purl)
		if err != nil {
			return
		}
		if again, err := oci.ParsePURL(ref.PURL()); err != nil || again != ref {
			t.Fatalf("%q: %+v, then %+v, %v", purl, ref, again, err)
		}
	})
}

// Whoever may push can attach anything: what is large is left, and what is beside it is had.
func TestAttachedHasABound(t *testing.T) {
	ctx, kind := t.Context(), "application/x"
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true)))
	defer server.Close()
	ref, err := oci.Push(ctx, strings.TrimPrefix(server.URL, "http://")+"/shop/api", executable(t, "api"), oci.Metadata{})
	if err != nil {
		t.Fatal(err)
	}
	half := bytes.Repeat([]byte("x"), oci.MaxAttachment/2)
	half = half[:len(half):len(half)]
	for _, content := range [][]byte{append(half, half...), append(half, '1'), append(half, '2'), []byte("small")} {
		if _, err := oci.Attach(ctx, ref, oci.Attachment{MediaType: kind, Content: content}); err != nil {
			t.Fatal(err)
		}
	}
	all, err := oci.Attached(ctx, ref, kind, 10)
	total := 0
	for _, one := range all {
		total += len(one.Content)
	}
	if err != nil || len(all) == 0 || total > oci.MaxAttachment {
		t.Errorf("%d attachments of %d bytes: %v", len(all), total, err)
	}
}

// A registry that takes connections and says nothing, or stops in the middle, is given up.
func TestARegistryThatHangs(t *testing.T) {
	ref := oci.Reference{Digest: "sha256:" + strings.Repeat("0", 64)}
	for name, serve := range map[string]http.HandlerFunc{
		"from the beginning": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"over the manifest": func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "/manifests/") {
				<-r.Context().Done()
			}
		},
		"within the manifest": func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "/manifests/") {
				_, _ = io.WriteString(w, "{")
				_ = http.NewResponseController(w).Flush()
				<-r.Context().Done()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(serve)
			defer server.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			ref.Repository = strings.TrimPrefix(server.URL, "http://") + "/shop/api"
			if _, err := oci.Inspect(ctx, ref, oci.Silence(50*time.Millisecond)); !errors.Is(err, oci.ErrSilent) {
				t.Error(err)
			}
		})
	}
}
