package deployer

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/deployer/drift"
	"github.com/lemnis/lemnis/services/deployer/keeper"
	"github.com/lemnis/lemnis/services/deployer/proxy"
	"github.com/lemnis/lemnis/services/deployer/rollout"
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
	case "/stop", "/route":
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

// holds has the front hold doors with processes that nobody knows of.
func (f *sick) holds(doors ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, name := range doors {
		f.state.Doors = append(f.state.Doors, keeper.Door{Name: name, Routes: proxy.Routes{}})
		f.state.Processes = append(f.state.Processes, keeper.Process{Door: name, Version: "stray", Digest: "sha256:1"})
	}
}

// serves has the facts say that r1 serves a place, which the front runs.
func serves(s *site, where at) {
	s.wanted.states[where] = rollout.State{Serving: &events.Instance{Rollout: "r1", Artifact: events.ArtifactDetail{Digest: "sha256:1"}}}
	s.wanted.started[where.project+"/r1"] = true
	s.running[where.String()] = []keeper.Process{{Door: where.String(), Version: "r1", Digest: "sha256:1", URL: "http://127.0.0.1:1"}}
}

func looking(ctx context.Context, t *testing.T, s *site) {
	t.Helper()
	ctx, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { defer close(done); s.look(ctx, nil) }()
	t.Cleanup(func() { stop(); <-done })
}

// A mend that hangs is no reason that nothing else is looked at, nor are more than are mended at once.
func TestMendsThatHang(t *testing.T) {
	ctx, s, f := sickSite(t)
	s.patience = 100 * time.Millisecond
	for i := range 8 {
		f.holds(fmt.Sprintf("shop%d/dev/slow", i))
	}
	looking(ctx, t, s)
	f.hear(ctx, t, "/open shop1/dev/slow")
	f.holds("shop/dev/quick")
	f.hear(ctx, t, "/stop shop/dev/quick")
}

// Places that hang when a deployer comes, over the front or over a lock, hold up neither the other places nor the look.
func TestARestoreThatHangs(t *testing.T) {
	ctx, s, f := sickSite(t)
	s.patience = 100 * time.Millisecond
	for i := range 10 {
		serves(s, at{fmt.Sprint("shop", i), "dev/slow"})
		busy := at{fmt.Sprint("shop", i), "dev/busy"}
		serves(s, busy)
		p, err := s.place(ctx, busy)
		if err != nil {
			t.Fatal(err)
		}
		p.mu.Lock()
		t.Cleanup(p.mu.Unlock)
	}
	serves(s, at{"shop", "dev/quick"})
	f.holds("shop/dev/other")
	restoring, stop := context.WithCancel(ctx)
	defer stop()
	go s.restore(restoring, func() { looking(ctx, t, s) })
	f.hear(ctx, t, "/route shop/dev/quick")
	f.hear(ctx, t, "/stop shop/dev/other")
}

// One that hangs is no reason to begin looking late.
func TestTheLookDoesNotWaitForTheRestore(t *testing.T) {
	ctx, s, f := sickSite(t)
	slow := at{"shop", "dev/slow"}
	serves(s, slow)
	f.holds("shop/dev/quick")
	restoring, stop := context.WithCancel(ctx)
	defer stop()
	go s.restore(restoring, func() { looking(ctx, t, s) })
	f.hear(ctx, t, "/open shop/dev/slow")
	f.hear(ctx, t, "/stop shop/dev/quick")
	if _, ok := s.differences(slow, rollout.State{}, held{}); ok {
		t.Error("what was not tried yet is told as drift")
	}
}

// A place that does not say what it counted is free meanwhile, and others are looked at.
func TestACountThatHangs(t *testing.T) {
	ctx, s, f := sickSite(t)
	slow := at{"shop", "prod/slow"}
	project := events.DefaultProject("shop")
	project.Environments = []events.Environment{{Name: "prod", Strategy: events.CanaryStrategy}}
	s.wanted.projects["shop"] = project
	serves(s, slow)
	p := &place{at: slow, front: s.front, instances: map[string]*instance{}}
	s.places[slow] = p
	s.untried[slow] = true // so that nothing else asks for it
	looking(ctx, t, s)
	f.hear(ctx, t, "/snapshot shop/prod/slow")
	if !p.mu.TryLock() {
		t.Fatal("the place is held")
	}
	p.mu.Unlock()
	f.holds("shop/dev/quick")
	f.hear(ctx, t, "/stop shop/dev/quick")
}

// That what ran before another tool deployed is ended, is told once it is, not at each look.
func TestAnEndForAnotherToolThatHangs(t *testing.T) {
	ctx, s, f := sickSite(t)
	s.patience = 20 * time.Millisecond
	var told atomic.Int32
	s.options.Log = func(message string, _ ...any) {
		if message == endedForAnother {
			told.Add(1)
		}
	}
	s.wanted.states[at{"shop", "dev/slow"}] = rollout.State{Serving: &events.Instance{Rollout: "theirs", Target: events.OutsideTarget}}
	f.holds("shop/dev/slow")
	looking(ctx, t, s)
	for range 4 {
		f.hear(ctx, t, "/open shop/dev/slow")
	}
	if n := told.Load(); n != 0 {
		t.Errorf("told %d times", n)
	}
}

// Lost is what was tried and could not be started, not what was never tried.
func TestWhatWasNotTriedIsNotLost(t *testing.T) {
	good, bad := events.ArtifactDetail{Digest: "sha256:1"}, events.ArtifactDetail{Digest: "none"}
	for _, test := range []struct {
		name                        string
		stable, candidate, baseline events.ArtifactDetail
		runs, lost                  []string
		hindered                    string
	}{
		{"the candidate fails, and its baseline is not tried", good, bad, good, []string{"r1"}, []string{"r2"}, "r2"},
		{"what serves fails, and what is kept is not tried", bad, good, good, []string{"r2", "r2/baseline"}, []string{"r1"}, ""},
		{"the baseline fails, and the candidate runs", good, good, bad, []string{"r1", "r2"}, []string{"r2/baseline"}, "r2/baseline"},
		{"what serves fails, and the candidate", bad, bad, good, nil, []string{"r1", "r2"}, "r2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, s, _ := sickSite(t)
			where := at{"shop", "prod/api"}
			state := rollout.State{Stage: rollout.Placed, Serving: &events.Instance{Rollout: "r1", Artifact: test.stable}, Baseline: "r2/baseline",
				Kept: &rollout.Kept{Instance: events.Instance{Rollout: "r0", Artifact: good}}}
			state.Current.Rollout = events.Rollout{ID: "r2", Artifact: test.candidate, Previous: &events.Instance{Rollout: "r1", Artifact: test.baseline}}
			s.wanted.states[where] = state
			var found []drift.Difference
			for _, id := range []string{"r0", "r1", "r2", "r2/baseline"} {
				s.wanted.started["shop/"+id] = true
				if !slices.Contains(test.runs, id) {
					found = append(found, drift.Difference{Kind: events.DriftGone, Version: id})
				}
			}
			for _, id := range test.runs {
				s.running[where.String()] = append(s.running[where.String()], keeper.Process{Version: id, Digest: good.Digest, URL: "http://127.0.0.1:1"})
			}
			lost, err := s.mend(ctx, where, held{}, found)
			var versions []string
			for _, d := range lost {
				versions = append(versions, d.Version)
				if !strings.HasPrefix(d.Found, "it can not be started again: "+d.Version+" does not run: ") {
					t.Error(d.Found)
				}
			}
			if !slices.Equal(versions, test.lost) {
				t.Errorf("lost are %v: %v", versions, err)
			}
			hinders := ""
			if e := hindered(err, state.Current.Rollout); e != nil {
				hinders = e.version
			}
			if hinders != test.hindered {
				t.Errorf("the rollout is hindered by %q", hinders)
			}
		})
	}
}
