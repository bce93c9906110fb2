package executor

import (
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/moby/client"
)

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// An engine's answer is bounded by the disk, and not only by what an image may have.
func TestASavedImageLeavesRoomOnTheDisk(t *testing.T) {
	t.Parallel()
	const size = 65 << 20
	engine := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/get") {
			_, _ = io.Copy(w, io.LimitReader(zeros{}, size))
		}
	}))
	defer engine.Close()
	api, err := client.New(client.WithHost("tcp://" + engine.Listener.Addr().String()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = api.Close() }()
	for dir, want := range map[string]Cause{"/proc": CauseDiskFull, t.TempDir(): ""} { // where nothing is ever free, and where there is
		s := &site{pod: &pod{api: api, step: Step{Dir: dir}}}
		got, err := s.save(t.Context(), Build{Image: 1 << 30, Saved: filepath.Join(t.TempDir(), "saved.tar")}, "sha256:"+strings.Repeat("a", 64))
		if err != nil || got.Cause != want {
			t.Errorf("%s: %+v, %v", dir, got, err)
		}
	}
}
