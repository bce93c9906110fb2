package registry_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lemnis/lemnis/services/gateway/registry"
)

type answer struct {
	status int
	header http.Header
	body   string
}

func do(t *testing.T, method, url string, header map[string]string, body []byte) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(b)}
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func TestUploads(t *testing.T) {
	dir := t.TempDir()
	host := serve(t, dir, registry.Options{MaxBlob: 100})
	base := "http://" + host
	begin := base + "/v2/shop/api/blobs/uploads/"
	blob := []byte("hello, registry")
	digest, long := digestOf(blob), fmt.Sprintf("sha512:%x", sha512.Sum512(blob))

	at := base + do(t, "POST", begin, nil, nil).header.Get("Location")
	steps := []struct {
		name, method, url string
		header            map[string]string
		body              []byte
		status            int
	}{
		{"first chunk", "PATCH", at, map[string]string{"Content-Range": "0-4"}, blob[:5], 202},
		{"gap", "PATCH", at, map[string]string{"Content-Range": "9-12"}, blob[9:], 416},
		{"status", "GET", at, nil, nil, 204},
		{"second chunk", "PATCH", at, map[string]string{"Content-Range": "5-14"}, blob[5:], 202},
		{"other repository", "PATCH", strings.Replace(at, "/api/", "/web/", 1), nil, blob, 404},
		{"end", "PUT", at + "?digest=" + digest, nil, nil, 201},
		{"ended", "PUT", at + "?digest=" + digest, nil, nil, 404},
		{"read", "GET", base + "/v2/shop/api/blobs/" + digest, nil, nil, 200},
		{"part", "GET", base + "/v2/shop/api/blobs/" + digest, map[string]string{"Range": "bytes=7-"}, nil, 206},
		{"wrong digest", "POST", begin + "?digest=" + digestOf([]byte("x")), nil, blob, 400},
		{"in one", "POST", begin + "?digest=" + digest, nil, blob, 201},
		{"too large", "POST", begin + "?digest=" + digestOf(make([]byte, 101)), nil, make([]byte, 101), 413},
		{"unknown", "GET", base + "/v2/shop/api/blobs/" + digestOf([]byte("x")), nil, nil, 404},
		{"climb", "GET", base + "/v2/shop/api/blobs/..%2f..%2fmanifests", nil, nil, 400},
		{"of another repository", "GET", base + "/v2/shop/web/blobs/" + digest, nil, nil, 404},
		{"taken over", "POST", base + "/v2/shop/web/blobs/uploads/?mount=" + digest + "&from=shop/api", nil, nil, 201},
		{"mine too", "GET", base + "/v2/shop/web/blobs/" + digest, nil, nil, 200},
		{"nobody's", "POST", base + "/v2/other/web/blobs/uploads/?mount=" + digest, nil, nil, 202},
		{"not there", "POST", base + "/v2/other/web/blobs/uploads/?mount=" + digest + "&from=shop/cart", nil, nil, 202},
		{"out of the folder", "POST", base + "/v2/other/web/blobs/uploads/?mount=" + digest + "&from=../shop/api", nil, nil, 202},
		{"delete", "DELETE", base + "/v2/shop/api/blobs/" + digest, nil, nil, 202},
		{"deleted", "HEAD", base + "/v2/shop/api/blobs/" + digest, nil, nil, 404},
		{"deleted again", "DELETE", base + "/v2/shop/api/blobs/" + digest, nil, nil, 404},
		{"still mine", "HEAD", base + "/v2/shop/web/blobs/" + digest, nil, nil, 200},
		{"long digest", "POST", begin + "?digest=" + long, nil, blob, 201},
		{"by its long digest", "GET", base + "/v2/shop/api/blobs/" + long, nil, nil, 200},
		{"wrong long digest", "POST", begin + "?digest=sha512:" + strings.Repeat("0", 128), nil, blob, 400},
		{"digits of another length", "GET", base + "/v2/shop/api/blobs/sha512:" + strings.Repeat("0", 64), nil, nil, 400},
		{"ping", "GET", base + "/v2/", nil, nil, 200},
	}
	for _, s := range steps {
		if got := do(t, s.method, s.url, s.header, s.body); got.status != s.status {
			t.Errorf("%s: %d, want %d: %s", s.name, got.status, s.status, got.body)
		}
	}
	if left, _ := os.ReadDir(filepath.Join(dir, "uploads")); len(left) != 3 { // what could not be taken over waits for its bytes
		t.Errorf("uploads left: %v", left)
	}
}

func TestBadManifests(t *testing.T) {
	host := serve(t, t.TempDir(), registry.Options{})
	base := "http://" + host + "/v2/shop/api/manifests/"
	kind := "application/vnd.oci.image.manifest.v1+json"
	absent := digestOf([]byte("absent"))
	body := func(m map[string]any) []byte {
		b, _ := json.Marshal(m)
		return b
	}
	good := body(map[string]any{"schemaVersion": 2, "mediaType": kind})
	tests := []struct {
		name, ref, kind string
		body            []byte
		status          int
	}{
		{"good", "v1", kind, good, 201},
		{"other digest", absent, kind, good, 400},
		{"own digest", digestOf(good), kind, good, 201},
		{"no JSON", "v1", kind, []byte("{"), 400},
		{"no kind", "v1", "", good, 400},
		{"other kind", "v1", "text/html", good, 400},
		{"a page", "v1", "text/html", body(map[string]any{"schemaVersion": 2}), 400},
		{"a page by its own word", "v1", "text/html", body(map[string]any{"schemaVersion": 2, "mediaType": "text/html"}), 400},
		{"a page behind a comma", "v1", "application/x,text/html;a=+json", body(map[string]any{"schemaVersion": 2}), 400},
		{"absent layer", "v1", kind, body(map[string]any{"schemaVersion": 2, "layers": []any{map[string]any{"digest": absent}}}), 400},
		{"absent manifest", "v1", kind, body(map[string]any{"schemaVersion": 2, "manifests": []any{map[string]any{"digest": absent}}}), 400},
		{"layer by path", "v1", kind, body(map[string]any{"schemaVersion": 2, "layers": []any{map[string]any{"digest": "../x"}}}), 400},
		{"bad tag", "-v1", kind, good, 400},
		{"too large", "v1", kind, make([]byte, 5<<20), 413},
	}
	for _, test := range tests {
		if got := do(t, "PUT", base+test.ref, map[string]string{"Content-Type": test.kind}, test.body); got.status != test.status {
			t.Errorf("%s: %d, want %d: %s", test.name, got.status, test.status, got.body)
		}
	}
	for _, path := range []string{"/v2/Shop/manifests/v1", "/v2/_x/manifests/v1", "/v2/shop/../manifests/v1", "/v2/a%2f..%2fb/manifests/v1"} {
		if got := do(t, "GET", "http://"+host+path, nil, nil); got.status != 400 && got.status != 404 {
			t.Errorf("%s: %d", path, got.status)
		}
	}
}
