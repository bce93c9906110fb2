package registry_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/lemnis/lemnis/services/gateway/registry"
)

// TestMain doubles as a registry in a process of its own, which a test can kill.
func TestMain(m *testing.M) {
	if dir := os.Getenv("REGISTRY_TEST_DIR"); dir != "" {
		reg, err := registry.New(dir, registry.Options{})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		server := httptest.NewServer(reg)
		fmt.Println(server.URL)
		_, _ = io.Copy(io.Discard, os.Stdin) // until the parent goes
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func serve(t *testing.T, dir string, options registry.Options) (host string) {
	t.Helper()
	reg, err := registry.New(dir, options)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(reg)
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

func ref(t *testing.T, s string) name.Reference {
	t.Helper()
	r, err := name.ParseReference(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func image(t *testing.T) (v1.Image, string) {
	t.Helper()
	img, err := random.Image(3000, 2)
	if err != nil {
		t.Fatal(err)
	}
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return img, digest.String()
}

// pull reads an image whole; the client verifies every digest.
func pull(t *testing.T, from string) (string, error) {
	t.Helper()
	img, err := remote.Image(ref(t, from))
	if err != nil {
		return "", err
	}
	layers, err := img.Layers()
	if err != nil {
		return "", err
	}
	for _, l := range layers {
		rc, err := l.Compressed()
		if err != nil {
			return "", err
		}
		if _, err := io.Copy(io.Discard, rc); err != nil {
			return "", err
		}
		_ = rc.Close()
	}
	digest, err := img.Digest()
	return digest.String(), err
}

func TestSurvivesARestart(t *testing.T) {
	dir := t.TempDir()
	img, digest := image(t)
	host := serve(t, dir, registry.Options{})
	if err := remote.Write(ref(t, host+"/shop/api:v1"), img); err != nil {
		t.Fatal(err)
	}
	index, err := random.Index(500, 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(ref(t, host+"/shop/many:v1"), index); err != nil {
		t.Fatal(err)
	}
	for _, restarted := range []bool{false, true} {
		if restarted {
			host = serve(t, dir, registry.Options{})
		}
		for _, from := range []string{"/shop/api:v1", "/shop/api@" + digest} {
			if got, err := pull(t, host+from); err != nil || got != digest {
				t.Errorf("restarted=%v %s: %s, %v", restarted, from, got, err)
			}
		}
		if _, err := remote.Index(ref(t, host+"/shop/many:v1")); err != nil {
			t.Error(err)
		}
		repo, _ := name.NewRepository(host + "/shop/api")
		if tags, err := remote.List(repo); err != nil || !slices.Equal(tags, []string{"v1"}) {
			t.Errorf("tags %v, %v", tags, err)
		}
		registryName, _ := name.NewRegistry(host)
		if repos, err := remote.Catalog(t.Context(), registryName); err != nil || !slices.Equal(repos, []string{"shop/api", "shop/many"}) {
			t.Errorf("catalog %v, %v", repos, err)
		}
	}
}

// Whatever was answered is there after kill -9, at whichever moment that comes.
func TestSurvivesAKill(t *testing.T) {
	for round := range 3 {
		dir := t.TempDir()
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), "REGISTRY_TEST_DIR="+dir)
		child.Stderr = os.Stderr
		in, err := child.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		host := strings.TrimPrefix(strings.TrimSpace(line), "http://")
		var mu sync.Mutex
		acknowledged := map[string]string{} // tag to digest
		enough := make(chan struct{})
		var pushers sync.WaitGroup
		for p := range 3 {
			pushers.Go(func() {
				for i := 0; ; i++ {
					img, err := random.Image(200, 1)
					if err != nil {
						return
					}
					digest, _ := img.Digest()
					tag := fmt.Sprintf("t%d-%d", p, i)
					to, _ := name.ParseReference(host + "/shop/api:" + tag)
					if remote.Write(to, img, remote.WithRetryBackoff(remote.Backoff{Steps: 1})) != nil {
						return // the registry is gone
					}
					mu.Lock()
					acknowledged[tag] = digest.String()
					if len(acknowledged) == 6+3*round {
						close(enough)
					}
					mu.Unlock()
				}
			})
		}
		<-enough
		_ = child.Process.Kill()
		pushers.Wait()
		_ = in.Close()
		_ = child.Wait()
		host = serve(t, dir, registry.Options{})
		for tag, digest := range acknowledged {
			if got, err := pull(t, host+"/shop/api:"+tag); err != nil || got != digest {
				t.Errorf("round %d: %s: %s, %v", round, tag, got, err)
			}
		}
	}
}

func TestTornFilesAreSkipped(t *testing.T) {
	dir := t.TempDir()
	host := serve(t, dir, registry.Options{})
	whole, wholeDigest := image(t)
	torn, tornDigest := image(t)
	for tag, img := range map[string]v1.Image{"whole": whole, "torn": torn} {
		if err := remote.Write(ref(t, host+"/shop/api:"+tag), img); err != nil {
			t.Fatal(err)
		}
	}
	folder := filepath.Join(dir, "manifests", "shop", "api")
	if err := os.Truncate(filepath.Join(folder, "_manifests", strings.TrimPrefix(tornDigest, "sha256:")), 50); err != nil {
		t.Fatal(err)
	}
	part := filepath.Join(folder, "_tags", ".part-1")
	if err := os.WriteFile(part, []byte("sha"), 0o644); err != nil {
		t.Fatal(err)
	}
	long := time.Now().Add(-2 * time.Hour) // else another process may be writing it
	if err := os.Chtimes(part, long, long); err != nil {
		t.Fatal(err)
	}
	core, logs := observer.New(zap.WarnLevel)
	host = serve(t, dir, registry.Options{Log: zap.New(core)})
	if logs.Len() != 2 { // the manifest, and the tag that names it
		t.Errorf("logged %v", logs.All())
	}
	if _, err := os.Stat(part); err == nil {
		t.Error("the part is still there")
	}
	if _, err := pull(t, host+"/shop/api:torn"); err == nil {
		t.Error("a torn manifest was served")
	}
	if got, err := pull(t, host+"/shop/api:whole"); err != nil || got != wholeDigest {
		t.Errorf("%s, %v", got, err)
	}
	if err := remote.Write(ref(t, host+"/shop/api:torn"), torn); err != nil {
		t.Errorf("pushing again: %v", err)
	}
}

func TestReferrers(t *testing.T) {
	dir := t.TempDir()
	host := serve(t, dir, registry.Options{})
	img, digest := image(t)
	if err := remote.Write(ref(t, host+"/shop/api:v1"), img); err != nil {
		t.Fatal(err)
	}
	head, err := remote.Head(ref(t, host+"/shop/api:v1"))
	if err != nil {
		t.Fatal(err)
	}
	signature, _ := image(t)
	signed, ok := mutate.Subject(signature, *head).(v1.Image)
	if !ok {
		t.Fatal("no image")
	}
	if err := remote.Write(ref(t, host+"/shop/api:sig"), signed); err != nil {
		t.Fatal(err)
	}
	want, _ := signed.Digest()
	host = serve(t, dir, registry.Options{})
	subject, err := name.NewDigest(host + "/shop/api@" + digest)
	if err != nil {
		t.Fatal(err)
	}
	found, err := remote.Referrers(subject)
	if err != nil {
		t.Fatal(err)
	}
	list, err := found.IndexManifest()
	if err != nil || len(list.Manifests) != 1 || list.Manifests[0].Digest != want {
		t.Fatalf("%+v, %v", list, err)
	}
	resp := do(t, "GET", "http://"+host+"/v2/shop/none/referrers/"+digest, nil, nil)
	if resp.status != 200 || !strings.Contains(resp.body, `"manifests":[]`) {
		t.Errorf("without referrers: %d %s", resp.status, resp.body)
	}
	resp = do(t, "GET", "http://"+host+"/v2/shop/api/referrers/"+digest+"?artifactType=other", nil, nil)
	if resp.header.Get("OCI-Filters-Applied") != "artifactType" || !strings.Contains(resp.body, `"manifests":[]`) {
		t.Errorf("filtered: %v %s", resp.header, resp.body)
	}
}

func TestHooksAndDelete(t *testing.T) {
	dir := t.TempDir()
	var told []string
	tell := func(what string) func(context.Context, string, string) {
		return func(_ context.Context, repo, ref string) { told = append(told, what+" "+repo+" "+ref) }
	}
	host := serve(t, dir, registry.Options{OnPull: tell("pull"), OnDelete: tell("delete")})
	img, digest := image(t)
	for _, tag := range []string{"a", "b"} {
		if err := remote.Write(ref(t, host+"/shop/api:"+tag), img); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := pull(t, host+"/shop/api:a"); err != nil {
		t.Fatal(err)
	}
	if err := remote.Delete(ref(t, host+"/shop/api:a")); err != nil {
		t.Fatal(err)
	}
	if _, err := remote.Head(ref(t, host+"/shop/api:b")); err != nil {
		t.Errorf("another tag went too: %v", err)
	}
	if err := remote.Delete(ref(t, host+"/shop/api@"+digest)); err != nil {
		t.Fatal(err)
	}
	want := []string{"pull shop/api " + digest, "delete shop/api a", "delete shop/api " + digest}
	if !slices.Equal(told, want) {
		t.Errorf("told %v, want %v", told, want)
	}
	for range 2 {
		if _, err := remote.Head(ref(t, host+"/shop/api:b")); err == nil {
			t.Error("a tag of a deleted manifest is still there")
		}
		host = serve(t, dir, registry.Options{})
	}
}
