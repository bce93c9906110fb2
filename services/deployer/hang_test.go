package deployer

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lemnis/lemnis/internal/oci"
	"github.com/lemnis/lemnis/internal/service"
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
	shy   string // refuses the next route of this door
	mute  bool   // it does not say what it holds
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
		mute := f.mute && r.URL.Path == "/state"
		answer = f.state
		f.mu.Unlock()
		if mute {
			<-r.Context().Done()
			return
		}
	case "/open":
		answer = keeper.Door{Name: door, Addr: "127.0.0.1:20001", URL: "http://127.0.0.1:20001"}
	case "/stop", "/route":
		f.asked <- r.URL.Path + " " + door
		f.mu.Lock()
		refuses := r.URL.Path == "/route" && f.shy == door
		if refuses {
			f.shy = ""
		}
		f.mu.Unlock()
		if refuses {
			http.Error(w, "not now", http.StatusUnprocessableEntity)
			return
		}
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
	o := newDeployer(Options{Data: data, Look: 10 * time.Millisecond, Patience: 5 * time.Second}).options
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
		s.beside(ctx, slow)
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
	s.share = 10 * time.Millisecond
	for i := range 8 {
		f.holds(fmt.Sprintf("shop%d/dev/slow", i))
	}
	looking(ctx, t, s)
	f.hear(ctx, t, "/open shop1/dev/slow")
	f.holds("shop/dev/quick")
	f.hear(ctx, t, "/stop shop/dev/quick")
}

// A front that does not say what it holds is told of, and looked at as soon as it does.
func TestALookAtAFrontThatHangs(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	data := t.TempDir()
	f := newSick(t, data)
	f.mute = true
	told := make(chan string, 100)
	o := newDeployer(Options{Data: data, Look: 10 * time.Millisecond, Patience: 50 * time.Millisecond, Log: func(message string, fields ...any) { told <- fmt.Sprint(message, fields) }}).options
	s, err := openSite(ctx, o, newWanted())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.leave)
	looking(ctx, t, s)
	select {
	case text := <-told:
		if !strings.Contains(text, "can not look for drift") || !strings.Contains(text, keeper.ErrHangs.Error()) {
			t.Error(text)
		}
	case <-ctx.Done():
		t.Fatal("the look hangs with it")
	}
	f.holds("shop/dev/quick")
	f.mu.Lock()
	f.mute = false
	f.mu.Unlock()
	f.hear(ctx, t, "/stop shop/dev/quick")
}

// Places that hang when a deployer comes, over the front or over a lock, hold up neither the other places nor the look.
func TestARestoreThatHangs(t *testing.T) {
	ctx, s, f := sickSite(t)
	s.share = 10 * time.Millisecond
	for i := range 10 {
		serves(s, at{fmt.Sprint("shop", i), "dev/slow"})
		busy := at{fmt.Sprint("shop", i), "dev/busy"}
		serves(s, busy)
		p, err := s.place(ctx, busy)
		if err != nil {
			t.Fatal(err)
		}
		if !p.mu.try() {
			t.Fatal("the place is busy")
		}
	}
	serves(s, at{"shop", "dev/quick"})
	f.holds("shop/dev/other")
	restoring, stop := context.WithCancel(ctx)
	defer stop()
	go s.restore(restoring, func() { looking(ctx, t, s) })
	f.hear(ctx, t, "/route shop/dev/quick")
	f.hear(ctx, t, "/stop shop/dev/other")
}

// Nor do they hold up that one is tried again.
func TestARestoreThatFailsBesideOneThatHangs(t *testing.T) {
	ctx, s, f := sickSite(t)
	serves(s, at{"shop", "dev/slow"})
	serves(s, at{"shop", "dev/shy"})
	f.shy = "shop/dev/shy"
	restoring, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { defer close(done); s.restore(restoring, func() {}) }()
	f.hear(ctx, t, "/route shop/dev/shy")
	f.hear(ctx, t, "/route shop/dev/shy")
	stop()
	<-done
}

// silent is a registry that takes connections and says nothing; asked is told of the first.
func silent(t *testing.T, address string) (host string, asked <-chan struct{}) {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	first, done := make(chan struct{}), make(chan struct{})
	var connections []net.Conn
	go func() {
		defer close(done)
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			if connections = append(connections, c); len(connections) == 1 {
				close(first)
			}
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-done
		for _, c := range connections {
			_ = c.Close()
		}
	})
	return listener.Addr().String(), first
}

// placing converges a place with a candidate whose registry hangs; end looks that it still does, and gives up.
func placing(ctx context.Context, t *testing.T, s *site, where at) (end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	placed := make(chan error, 1)
	go func() { placed <- s.converge(ctx, where) }()
	return func() {
		t.Helper()
		select {
		case err := <-placed:
			t.Error("the registry did not hang: ", err)
			placed <- err
		default:
		}
		cancel()
		<-placed
	}
}

// While the registry of a candidate hangs, users are taken back from it.
func TestARegistryThatHangsHoldsNobody(t *testing.T) {
	ctx, s, f := sickSite(t)
	where := at{"shop", "prod/api"}
	host, asked := silent(t, "127.0.0.1:0")
	digest := "sha256:" + strings.Repeat("0", 64)
	serves(s, where)
	state := s.wanted.states[where]
	state.Stage = rollout.Starting
	state.Current.Rollout = events.Rollout{ID: "r2", Artifact: events.ArtifactDetail{Digest: digest, Reference: host + "/shop/api@" + digest}}
	s.wanted.states[where] = state
	end := placing(ctx, t, s, where)
	select {
	case <-asked:
	case <-ctx.Done():
		t.Fatal("the registry was not asked")
	}
	s.wanted.mu.Lock()
	state.Stage, state.Current = rollout.Idle, rollout.Request{}
	s.wanted.states[where] = state
	s.wanted.mu.Unlock()
	undoing, over := context.WithTimeout(ctx, 5*time.Second)
	defer over()
	if err := s.converge(undoing, where); err != nil {
		t.Error(err)
	}
	f.hear(ctx, t, "/route shop/prod/api")
	end()
}

// After the machine was started again, users are served while the registry of a candidate hangs.
func TestWhatServesDoesNotWaitForTheCandidatesRegistry(t *testing.T) {
	ctx, s, f := sickSite(t)
	where := at{"shop", "prod/api"}
	host, asked := silent(t, "127.0.0.1:0")
	s.options.OCI = []oci.Option{oci.Silence(time.Hour)}
	serves(s, where)
	delete(s.running, where.String())
	executable := []byte("what serves")
	digest := fmt.Sprintf("sha256:%x", sha256.Sum256(executable))
	folder := filepath.Join(s.options.Data, "executables", strings.TrimPrefix(digest, "sha256:"))
	if err := errors.Join(os.MkdirAll(folder, 0o700), os.WriteFile(filepath.Join(folder, "api"), executable, 0o600)); err != nil {
		t.Fatal(err)
	}
	candidate := "sha256:" + strings.Repeat("0", 64)
	state := s.wanted.states[where]
	state.Serving.Artifact = events.ArtifactDetail{Digest: digest, Reference: host + "/shop/api@" + digest}
	state.Stage = rollout.Starting
	state.Current.Rollout = events.Rollout{ID: "r2", Artifact: events.ArtifactDetail{Digest: candidate, Reference: host + "/shop/api@" + candidate}}
	s.wanted.states[where] = state
	end := placing(ctx, t, s, where)
	f.hear(ctx, t, "/route shop/prod/api")
	<-asked
	end()
}

// Of two calls after a restart one may have what the other waits for still: that one does not take users back from it.
func TestWhatServesTakesNobodyBack(t *testing.T) {
	ctx, s, _ := sickSite(t)
	where := at{"shop", "prod/api"}
	serves(s, where)
	p, err := s.place(ctx, where)
	if err != nil {
		t.Fatal(err)
	}
	routes := proxy.Routes{Stable: proxy.Upstream{Version: "r1", URL: "http://127.0.0.1:1"}, Canary: &proxy.Upstream{Version: "r2", URL: "http://127.0.0.1:2"}, Weight: 0.4}
	p.routes = routes
	s.serve(ctx, p, version{id: "r1", artifact: events.ArtifactDetail{Digest: "sha256:1"}}, file{})
	if p.routes.Canary == nil || p.routes.Weight != routes.Weight {
		t.Errorf("%+v", p.routes)
	}
}

// A registry that sends a little now and then is given up for the version, and the effect ends before its place's turn does.
func TestARegistryThatTrickles(t *testing.T) {
	ctx, s, _ := sickSite(t)
	s.options.FetchTimeout = 100 * time.Millisecond
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for strings.Contains(r.URL.Path, "/manifests/") && r.Context().Err() == nil {
			_, _ = w.Write([]byte(" "))
			_ = http.NewResponseController(w).Flush()
			<-tick.C
		}
	}))
	defer server.Close()
	digest := "sha256:" + strings.Repeat("0", 64)
	a := events.ArtifactDetail{Digest: digest, Reference: strings.TrimPrefix(server.URL, "http://") + "/shop/api@" + digest}
	if _, err := s.executable(ctx, a); !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
		t.Error(err)
	}
	if err := s.registered(ctx, a); !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
		t.Error(err)
	}
}

// An effect gives its slot back, over the front or over the lock of its place.
func TestAnEffectThatHangs(t *testing.T) {
	ctx, s, _ := sickSite(t)
	d := &deployer{wanted: s.wanted, site: s}
	for _, key := range []string{"dev/slow", "dev/busy"} {
		where := at{"shop", key}
		serves(s, where)
		if key == "dev/busy" {
			p, err := s.place(ctx, where)
			if err != nil {
				t.Fatal(err)
			}
			if err := p.mu.take(ctx); err != nil {
				t.Fatal(err)
			}
		}
		s.patience = 50 * time.Millisecond
		job := service.NewJob(events.Event{Project: "shop", Key: key}, events.Project{}, 1, nil)
		_, _, err := d.begin(ctx, job)
		if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			t.Errorf("%s: %v", key, err)
		}
	}
}

// What is in order again when a mend has its turn is left alone.
func TestAMendOfWhatIsInOrder(t *testing.T) {
	ctx, s, f := sickSite(t)
	where := at{"shop", "prod/api"}
	serves(s, where)
	right := proxy.Routes{Stable: proxy.Upstream{Version: "r1", URL: "http://127.0.0.1:1"}}
	f.state.Doors = []keeper.Door{{Name: where.String(), Routes: right}}
	f.state.Processes = []keeper.Process{{Door: where.String(), Version: "r1", Digest: "sha256:1", URL: "http://127.0.0.1:1"}}
	p, err := s.place(ctx, where)
	if err != nil {
		t.Fatal(err)
	}
	p.routes = right
	for _, kind := range []string{events.DriftArtifact, events.DriftRoutes, events.DriftGone} {
		d := drift.Difference{Kind: kind, Version: "r1"}
		if lost, err := s.mend(ctx, where, []drift.Difference{d}); err != nil || len(lost) > 0 {
			t.Errorf("%s: %v, %v", kind, lost, err)
		}
	}
	if p.instances["r1"] == nil || p.routes != right || len(f.asked) > 0 {
		t.Errorf("it was changed: %v, %v", p.instances, p.routes)
	}
	f.mu.Lock()
	f.state.Doors[0].Routes = proxy.Routes{Stable: proxy.Upstream{Version: "other"}}
	f.mu.Unlock()
	if _, err := s.mend(ctx, where, []drift.Difference{{Kind: events.DriftRoutes, Version: "r1"}}); err != nil {
		t.Error(err)
	}
	f.hear(ctx, t, "/route shop/prod/api")
}

// What is kept to go back to is of no user: no effect waits for it, and it is told where it can not be had.
func TestWhatIsKeptAndCanNotBeHad(t *testing.T) {
	ctx, s, f := sickSite(t)
	s.options.OCI = []oci.Option{oci.Silence(time.Hour)}
	where := at{"shop", "prod/api"}
	serves(s, where)
	host, _ := silent(t, "127.0.0.1:0")
	digest := "sha256:" + strings.Repeat("0", 64)
	state := s.wanted.states[where]
	state.Kept = &rollout.Kept{Instance: events.Instance{Rollout: "r0", Artifact: events.ArtifactDetail{Digest: digest, Reference: host + "/shop/api@" + digest}}}
	s.wanted.states[where] = state
	s.wanted.started["shop/r0"] = true
	if err := s.converge(ctx, where); err != nil {
		t.Fatal(err)
	}
	f.hear(ctx, t, "/route shop/prod/api")
	f.mu.Lock()
	f.state.Doors = []keeper.Door{{Name: where.String(), Routes: proxy.Routes{Stable: proxy.Upstream{Version: "r1", URL: "http://127.0.0.1:1"}}}}
	f.state.Processes = []keeper.Process{{Door: where.String(), Version: "r1", Digest: "sha256:1", URL: "http://127.0.0.1:1"}}
	f.mu.Unlock()
	s.options.OCI = []oci.Option{oci.Silence(10 * time.Millisecond)}
	lost, err := s.mend(ctx, where, []drift.Difference{{Kind: events.DriftGone, Version: "r0"}})
	if len(lost) != 1 || lost[0].Kind != events.DriftLost || lost[0].Version != "r0" || err == nil {
		t.Errorf("%+v, %v", lost, err)
	}
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
	p := &place{mu: newLock(), at: slow, front: s.front, instances: map[string]*instance{}}
	s.places[slow] = p
	s.untried[slow] = true // so that nothing else asks for it
	looking(ctx, t, s)
	f.hear(ctx, t, "/snapshot shop/prod/slow")
	if !p.mu.try() {
		t.Fatal("the place is held")
	}
	p.mu.free()
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
		{"the candidate fails, and its baseline is not tried", good, bad, good, []string{"r0", "r1"}, []string{"r2"}, "r2"},
		{"what serves fails, and what is kept", bad, good, good, []string{"r2", "r2/baseline"}, []string{"r0", "r1"}, ""},
		{"the baseline fails, and the candidate runs", good, good, bad, []string{"r0", "r1", "r2"}, []string{"r2/baseline"}, "r2/baseline"},
		{"what serves fails, and the candidate", bad, bad, good, []string{"r0"}, []string{"r1", "r2"}, "r2"},
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
			lost, err := s.mend(ctx, where, found)
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
