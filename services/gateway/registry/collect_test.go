package registry_test

import (
	"fmt"
	"io/fs"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/lemnis/lemnis/services/gateway/registry"
)

// age lets a registry's files be two days old.
func age(t *testing.T, dir string) {
	t.Helper()
	then := time.Now().Add(-48 * time.Hour)
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		return os.Chtimes(path, then, then)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, dir string) (*registry.Registry, string) {
	t.Helper()
	reg, err := registry.New(dir, registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(reg)
	t.Cleanup(server.Close)
	return reg, strings.TrimPrefix(server.URL, "http://")
}

func collect(t *testing.T, reg *registry.Registry) registry.Collected {
	t.Helper()
	got, err := reg.Collect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// What a manifest names stays; of what was deleted everything goes, after its time, with the signatures of it.
func TestCollect(t *testing.T) {
	dir := t.TempDir()
	reg, host := open(t, dir)
	kept, keptDigest := image(t)
	gone, goneDigest := image(t)
	for tag, img := range map[string]string{"kept": keptDigest, "gone": goneDigest} {
		push := kept
		if img == goneDigest {
			push = gone
		}
		if err := remote.Write(ref(t, host+"/shop/api:"+tag), push); err != nil {
			t.Fatal(err)
		}
	}
	// Each image has a signature, which has a signature again, none with a tag.
	signed := map[string][]string{}
	for _, of := range []name.Reference{ref(t, host+"/shop/api@"+keptDigest), ref(t, host+"/shop/api@"+goneDigest)} {
		for range 2 {
			subject, err := remote.Head(of)
			if err != nil {
				t.Fatal(err)
			}
			signature, _ := image(t)
			refers := mutate.Subject(signature, *subject)
			digest, err := refers.(v1.Image).Digest()
			if err != nil {
				t.Fatal(err)
			}
			next := ref(t, host+"/shop/api@"+digest.String())
			if err := remote.Put(next, refers.(remote.Taggable)); err == nil {
				t.Fatal("a manifest without its blobs was taken")
			}
			if err := remote.Write(next, refers.(v1.Image)); err != nil {
				t.Fatal(err)
			}
			signed[of.Identifier()] = append(signed[of.Identifier()], next.Identifier())
			of = next
		}
	}
	if got := collect(t, reg); got != (registry.Collected{}) {
		t.Fatalf("collected %+v", got)
	}
	if err := remote.Delete(ref(t, host+"/shop/api@"+goneDigest)); err != nil {
		t.Fatal(err)
	}
	if got := collect(t, reg); got != (registry.Collected{}) {
		t.Fatalf("collected %+v before its time", got)
	}
	age(t, dir)
	// An image has a config and two layers.
	if got := collect(t, reg); got.Manifests != 2 || got.Links != 9 || got.Blobs != 9 || got.Bytes < 9 {
		t.Fatalf("collected %+v", got)
	}
	if got := collect(t, reg); got != (registry.Collected{}) {
		t.Fatalf("collected %+v once more", got)
	}
	for restarted := range 2 {
		if restarted == 1 {
			_, host = open(t, dir)
		}
		for _, digest := range append(signed[keptDigest], keptDigest) {
			if got, err := pull(t, host+"/shop/api@"+digest); err != nil || got != digest {
				t.Errorf("%s was collected: %v", digest, err)
			}
		}
		for _, digest := range append(signed[goneDigest], goneDigest) {
			if _, err := pull(t, host+"/shop/api@"+digest); err == nil {
				t.Errorf("%s was not collected", digest)
			}
		}
	}
}

// An image whose blobs are old and named by nothing is pushed again, while two processes collect: the client is told of each
// blob either that it is there, which then holds, or that it is not.
func TestPushWhileCollecting(t *testing.T) {
	dir := t.TempDir()
	first, host := open(t, dir)
	second, _ := open(t, dir)
	for round := range 20 {
		at := fmt.Sprintf("%s/shop/api:r%d", host, round)
		img, digest := image(t)
		if err := remote.Write(ref(t, at), img); err != nil {
			t.Fatal(err)
		}
		if err := remote.Delete(ref(t, host+"/shop/api@"+digest)); err != nil {
			t.Fatal(err)
		}
		age(t, filepath.Join(dir, "blobs"))
		age(t, filepath.Join(dir, "manifests", "shop", "api", "_blobs"))
		var both sync.WaitGroup
		for _, reg := range []*registry.Registry{first, second} {
			both.Go(func() {
				for range 5 {
					if _, err := reg.Collect(t.Context()); err != nil {
						t.Error(err)
					}
				}
			})
		}
		if err := remote.Write(ref(t, at), img); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		both.Wait()
		if got, err := pull(t, at); err != nil || got != digest {
			t.Fatalf("round %d: %s, %v", round, got, err)
		}
	}
}

// A registry that was filled before blobs had links: what its manifests name is in their repositories.
func TestBlobsWithoutLinks(t *testing.T) {
	dir := t.TempDir()
	_, host := open(t, dir)
	img, digest := image(t)
	if err := remote.Write(ref(t, host+"/shop/api:v1"), img); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "manifests", "shop", "api", "_blobs")); err != nil {
		t.Fatal(err)
	}
	age(t, dir)
	reg, host := open(t, dir)
	if got := collect(t, reg); got != (registry.Collected{}) {
		t.Fatalf("collected %+v", got)
	}
	if got, err := pull(t, host+"/shop/api:v1"); err != nil || got != digest {
		t.Fatalf("%s, %v", got, err)
	}
	if err := remote.Write(ref(t, host+"/shop/api:v2"), img); err != nil {
		t.Fatal(err)
	}
}
