package executor

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/client"
)

// shelf is an engine that has images, and lists of containers.
type shelf struct {
	mu      sync.Mutex
	name    string            // of its host
	images  map[string]string // name to id
	busy    map[string]bool   // names that a container uses
	removed []string
	asked   []string // of whose containers

	volumes map[string]map[string]string // labels, by name; nil: it lets nobody have any
}

func (s *shelf) engine(t *testing.T) *client.Client {
	t.Helper()
	folder, err := os.MkdirTemp("", "") //nolint:usetesting // the test's own may be too long a name for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	listener, err := net.Listen("unix", filepath.Join(folder, "engine.sock"))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(s.serve), ReadHeaderTimeout: time.Second}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(listener) }()
	api, err := client.New(client.WithHost("unix://" + listener.Addr().String()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = api.Close(); _ = server.Close(); <-done })
	t.Setenv("DOCKER_HOST", "unix://"+listener.Addr().String())
	return api
}

func (s *shelf) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w.Header().Set("Api-Version", "1.47")
	_, name, _ := strings.Cut(r.URL.Path, "/images/")
	name, inspected := strings.CutSuffix(name, "/json")
	id, there := s.images[name]
	answer := any(struct{}{})
	switch {
	case strings.HasSuffix(r.URL.Path, "/info"):
		answer = map[string]any{"OSType": "linux", "Name": s.name, "DockerRootDir": "/var/lib/engine"}
	case strings.Contains(r.URL.Path, "/volumes/") && s.volumes == nil:
		http.Error(w, `{"message":"no volumes here"}`, http.StatusForbidden)
		return
	case strings.HasSuffix(r.URL.Path, "/volumes/create"):
		var asked struct {
			Name   string
			Labels map[string]string
		}
		if json.NewDecoder(r.Body).Decode(&asked) == nil && s.volumes[asked.Name] == nil {
			s.volumes[asked.Name] = asked.Labels
		}
		w.WriteHeader(http.StatusCreated)
	case strings.Contains(r.URL.Path, "/volumes/"):
		labels := s.volumes[path.Base(r.URL.Path)]
		if labels == nil {
			http.Error(w, `{"message":"no such volume"}`, http.StatusNotFound)
			return
		}
		answer = map[string]any{"Name": path.Base(r.URL.Path), "Labels": labels}
	case strings.HasSuffix(r.URL.Path, "/containers/json"):
		s.asked, answer = append(s.asked, r.URL.Query().Get("filters")), []any{}
	case strings.HasSuffix(r.URL.Path, "/images/create"):
		name = path.Base(r.URL.Query().Get("fromImage"))
		s.images[name+":"+r.URL.Query().Get("tag")] = "sha256:" + name
	case name == "":
	case !there:
		http.Error(w, `{"message":"no such image"}`, http.StatusNotFound)
		return
	case inspected:
		answer = map[string]any{"Id": id, "Size": int64(mostPulled / 4)}
	case s.busy[name]:
		http.Error(w, `{"message":"a container uses it"}`, http.StatusConflict)
		return
	case r.Method == http.MethodDelete:
		s.removed = append(s.removed, name)
		delete(s.images, name)
		answer = []any{}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
}

// Images that were pulled for steps go when they are too many, what was not used for longest first: none that was there before, that
// somebody gave the name of, that a container uses, or that was used just now.
func TestPulledImagesAreBounded(t *testing.T) {
	s := &shelf{images: map[string]string{"own:1": "sha256:own"}, busy: map[string]bool{"busy:1": true}}
	p := &pod{engine: NewDocker(filepath.Join(t.TempDir(), "engine")), api: s.engine(t), out: &meter{out: io.Discard, left: 1 << 20, full: func() {}}, images: map[string]string{}}
	ask := func(name string, ago time.Duration) {
		t.Helper()
		if _, err := p.find(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		if file := p.engine.pulledFile(name); ago > 0 {
			at := time.Now().Add(-ago)
			if err := os.Chtimes(file, at, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	ask("own:1", 0) // was there
	ask("busy:1", 9*time.Hour)
	ask("other:1", 8*time.Hour)
	s.mu.Lock()
	s.images["other:1"] = "sha256:somebody's"
	s.mu.Unlock()
	ask("old:1", 5*time.Hour)
	ask("unused:1", 4*time.Hour)
	ask("old:1", 0) // is used again
	ask("new:1", 0)
	ask("newer:1", 0)
	if !slices.Equal(s.removed, []string{"unused:1"}) {
		t.Errorf("removed %v", s.removed)
	}
	for _, name := range []string{"own:1", "busy:1", "other:1", "old:1", "new:1", "newer:1"} {
		if s.images[name] == "" {
			t.Errorf("%s is gone", name)
		}
	}
}

// What a killed process has left on one engine, another engine knows nothing of: the note stays until that one is asked.
func TestANoteIsOfItsEngine(t *testing.T) {
	first, second := &shelf{name: "first"}, &shelf{name: "second"}
	folder := filepath.Join(t.TempDir(), "engine")
	killed := NewDocker(folder)
	first.engine(t)
	if _, err := killed.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	_ = killed.mine.Close() // as its process ends
	note := filepath.Join(folder, killed.id)
	second.engine(t)
	if _, err := NewDocker(folder).open(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(note); err != nil || len(second.asked) > 0 {
		t.Errorf("another engine was asked %v, and the note is gone: %v", second.asked, err)
	}
	first.engine(t)
	if _, err := NewDocker(folder).open(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(note); !os.IsNotExist(err) || len(first.asked) != 1 || !strings.Contains(first.asked[0], killed.id) {
		t.Errorf("asked %v, and the note is there: %v", first.asked, err)
	}
}

// An engine whose host has another name each time is known again, as the sidecar of a pod that keeps its data; another one that says the same
// of itself is not taken for it.
func TestAnEngineIsKnownWhateverItsHostIsCalled(t *testing.T) {
	s := &shelf{name: "builder-abcde", volumes: map[string]map[string]string{}}
	folder := filepath.Join(t.TempDir(), "engine")
	killed := NewDocker(folder)
	s.engine(t)
	if _, err := killed.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	_ = killed.mine.Close() // as its process ends
	note := filepath.Join(folder, killed.id)
	other := &shelf{name: s.name, volumes: map[string]map[string]string{}}
	other.engine(t)
	if _, err := NewDocker(folder).open(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(note); err != nil || len(other.asked) > 0 {
		t.Errorf("another engine was asked %v, and the note is gone: %v", other.asked, err)
	}
	s.name = "builder-fghij"
	s.engine(t)
	if _, err := NewDocker(folder).open(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(note); !os.IsNotExist(err) || len(s.asked) != 1 || !strings.Contains(s.asked[0], killed.id) {
		t.Errorf("asked %v, and the note is there: %v", s.asked, err)
	}
}
