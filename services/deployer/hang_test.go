package deployer

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lemnis/lemnis/services/deployer/keeper"
	"github.com/lemnis/lemnis/services/deployer/proxy"
)

// sick is a front that answers, but not what is asked of doors whose name ends in "slow".
type sick struct {
	asked chan string // what hangs, and what was drained

	mu    sync.Mutex
	state keeper.State
}

func newSick(t *testing.T, folder string) *sick {
	t.Helper()
	f := &sick{asked: make(chan string, 100), state: keeper.State{Protocol: keeper.Protocol, Life: "1"}}
	socket := filepath.Join(folder, "front", "socket")
	if err := os.MkdirAll(filepath.Dir(socket), 0o700); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(f.serve), ReadHeaderTimeout: time.Second}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close(); <-done })
	return f
}

func (f *sick) serve(w http.ResponseWriter, r *http.Request) {
	var q struct{ Name, Door string }
	_ = json.NewDecoder(r.Body).Decode(&q)
	door := q.Name + q.Door
	if strings.HasSuffix(door, "slow") {
		f.asked <- r.URL.Path + " " + door
		<-r.Context().Done()
		return
	}
	answer := any(struct{}{})
	switch r.URL.Path {
	case "/attach", "/state":
		f.mu.Lock()
		answer = f.state
		f.mu.Unlock()
	case "/open":
		answer = keeper.Door{Name: door, Addr: "127.0.0.1:20001", URL: "http://127.0.0.1:20001"}
	case "/stop":
		f.asked <- r.URL.Path + " " + door
	}
	_ = json.NewEncoder(w).Encode(answer)
	if r.URL.Path == "/attach" {
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
}

func (f *sick) hear(ctx context.Context, t *testing.T, what string) {
	t.Helper()
	for {
		select {
		case got := <-f.asked:
			if got == what {
				return
			}
		case <-ctx.Done():
			t.Fatalf("%s was not asked", what)
		}
	}
}

func sickSite(t *testing.T) (context.Context, *site, *sick) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	data := t.TempDir()
	f := newSick(t, data)
	o := newDeployer(Options{Data: data, Look: 10 * time.Millisecond}).options
	s, err := openSite(ctx, o, newWanted())
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); s.leave() })
	return ctx, s, f
}

// A front that hangs over one place is no reason that another is not opened, looked at, or given up.
func TestAFrontThatHangsOverOnePlace(t *testing.T) {
	ctx, s, f := sickSite(t)
	hanging, giveUp := context.WithCancel(ctx)
	defer giveUp()
	failed := make(chan error, 2)
	slow := at{"shop", "dev/slow"}
	for range 2 {
		go func() { _, err := s.place(hanging, slow); failed <- err }()
	}
	f.hear(ctx, t, "/open shop/dev/slow")
	opened := make(chan error, 1)
	go func() {
		_, err := s.place(ctx, at{"shop", "dev/quick"})
		s.beside(slow)
		opened <- err
	}()
	select {
	case err := <-opened:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the site hangs with the place")
	}
	giveUp()
	for range 2 {
		if err := <-failed; err == nil {
			t.Error("it was opened")
		}
	}
}

// A mend that hangs is no reason that nothing else is looked at.
func TestAMendThatHangs(t *testing.T) {
	ctx, s, f := sickSite(t)
	holds := func(doors ...string) {
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, name := range doors {
			f.state.Doors = append(f.state.Doors, keeper.Door{Name: name, Routes: proxy.Routes{}})
			f.state.Processes = append(f.state.Processes, keeper.Process{Door: name, Version: "stray", Digest: "sha256:1"})
		}
	}
	holds("shop/dev/slow")
	looking, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { defer close(done); s.look(looking, nil) }()
	defer func() { stop(); <-done }()
	f.hear(ctx, t, "/open shop/dev/slow")
	holds("shop/dev/quick")
	f.hear(ctx, t, "/stop shop/dev/quick")
}
