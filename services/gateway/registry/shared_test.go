package registry_test

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/lemnis/lemnis/services/gateway/registry"
)

// Two gateways serve one folder: what one was given the other has, whichever of them each request of an upload meets.
func TestTwoProcessesOneFolder(t *testing.T) {
	dir := t.TempDir()
	var both [2]*registry.Registry
	var hosts [2]string
	for i := range both {
		reg, err := registry.New(dir, registry.Options{})
		if err != nil {
			t.Fatal(err)
		}
		both[i] = reg
		server := httptest.NewServer(reg)
		t.Cleanup(server.Close)
		hosts[i] = strings.TrimPrefix(server.URL, "http://")
	}
	var n atomic.Uint64
	inTurn := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		both[n.Add(1)%2].ServeHTTP(w, r)
	}))
	t.Cleanup(inTurn.Close)
	balanced := strings.TrimPrefix(inTurn.URL, "http://")

	first, digest := image(t)
	if err := remote.Write(ref(t, balanced+"/shop/api:v1"), first); err != nil {
		t.Fatalf("a push of which each process gets every second request: %v", err)
	}
	second, other := image(t)
	if err := remote.Write(ref(t, hosts[0]+"/shop/api:v2"), second); err != nil {
		t.Fatal(err)
	}
	for _, host := range hosts {
		for tag, want := range map[string]string{"v1": digest, "v2": other} {
			if got, err := pull(t, host+"/shop/api:"+tag); err != nil || got != want {
				t.Errorf("%s has %s as %s, want %s: %v", host, tag, got, want, err)
			}
		}
	}
	// A tag that moves, and one that goes.
	if err := remote.Write(ref(t, hosts[1]+"/shop/api:v1"), second); err != nil {
		t.Fatal(err)
	}
	if got, err := pull(t, hosts[0]+"/shop/api:v1"); err != nil || got != other {
		t.Errorf("the tag was moved to %s, and the other process says %s: %v", other, got, err)
	}
	if err := remote.Delete(ref(t, hosts[0]+"/shop/api@"+digest)); err != nil {
		t.Fatal(err)
	}
	if got, err := pull(t, hosts[1]+"/shop/api@"+digest); err == nil {
		t.Errorf("%s was deleted by the other process", got)
	}
	third, _ := image(t)
	if err := remote.Write(ref(t, hosts[0]+"/shop/new:v1"), third); err != nil {
		t.Fatal(err)
	}
	response, err := http.Get("http://" + hosts[1] + "/v2/_catalog")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body := make([]byte, 200)
	size, _ := response.Body.Read(body)
	if got := strings.TrimSpace(string(body[:size])); got != `{"repositories":["shop/api","shop/new"]}` {
		t.Errorf("the catalog is %s", got)
	}
}

// A process that starts leaves the uploads of the others alone, and removes what nobody goes on with.
func TestUploadsOfOthers(t *testing.T) {
	dir := t.TempDir()
	serve(t, dir, registry.Options{})
	fresh, old := filepath.Join(dir, "uploads", "FRESH"), filepath.Join(dir, "uploads", "OLD")
	for _, file := range []string{fresh, old} {
		if err := os.WriteFile(file, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	long := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(old, long, long); err != nil {
		t.Fatal(err)
	}
	serve(t, dir, registry.Options{})
	if _, err := os.Stat(fresh); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(old); err == nil {
		t.Error("an upload that nobody touched for two hours is still there")
	}
}

// A chunk that still arrives at one process when another has made the blob is not written into the blob, nor cut from it.
func TestChunkBehindTheBlob(t *testing.T) {
	dir := t.TempDir()
	a, b := serve(t, dir, registry.Options{}), serve(t, dir, registry.Options{})
	answer := func(method, url string, body io.Reader) *http.Response {
		request, err := http.NewRequestWithContext(t.Context(), method, url, body)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Error(err)
			return &http.Response{Header: http.Header{}}
		}
		_ = response.Body.Close()
		return response
	}
	begun := answer(http.MethodPost, "http://"+a+"/v2/shop/api/blobs/uploads/", nil)
	location := begun.Header.Get("Location")
	content := "what was agreed"
	digest := fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(content)))
	blob := filepath.Join(dir, "blobs", "sha256", strings.TrimPrefix(digest, "sha256:"))

	slow, end := io.Pipe()
	var patch sync.WaitGroup
	patch.Go(func() { answer(http.MethodPatch, "http://"+a+location, slow) })
	if _, err := io.WriteString(end, content); err != nil {
		t.Fatal(err)
	}
	uploads, err := filepath.Glob(filepath.Join(dir, "uploads", "*"))
	if err != nil || len(uploads) != 1 {
		t.Fatal(uploads, err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; runtime.Gosched() {
		if got, err := os.ReadFile(uploads[0]); err == nil && string(got) == content {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the chunk does not arrive")
		}
	}
	if got := answer(http.MethodPut, "http://"+b+location+"?digest="+digest, nil); got.StatusCode != http.StatusCreated {
		t.Fatal(got.Status)
	}
	published, err := os.Stat(blob)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(end, " and then some"); err != nil {
		t.Fatal(err)
	}
	_ = end.Close()
	patch.Wait()
	if got, err := os.ReadFile(blob); err != nil || string(got) != content {
		t.Errorf("the blob is %q: %v", got, err)
	}
	// The same blob again leaves the file that is there.
	again := answer(http.MethodPost, "http://"+b+"/v2/shop/other/blobs/uploads/?digest="+digest, strings.NewReader(content))
	now, err := os.Stat(blob)
	if again.StatusCode != http.StatusCreated || err != nil || !os.SameFile(published, now) {
		t.Errorf("the blob was replaced by another of the same content: %s, %v", again.Status, err)
	}
	if left, err := os.ReadDir(filepath.Join(dir, "uploads")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
