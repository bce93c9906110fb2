package deployer

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lemnis/lemnis/internal/oci"
	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/deployer/keeper"
	"github.com/lemnis/lemnis/services/deployer/process"
	"github.com/lemnis/lemnis/services/deployer/proxy"
	"github.com/lemnis/lemnis/services/deployer/rollout"
)

func drifted(kind string) func(events.Event) bool {
	return func(f events.Event) bool { c, ok := f.Content.(events.DriftFound); return ok && c.Kind == kind }
}

// awaitMended waits for the end of the last difference of the kind. It may be met already: nothing orders it among the facts of the
// deployment that mends it.
func (b *bus) awaitMended(kind string) {
	b.tb.Helper()
	mended := func(f events.Event) bool { c, ok := f.Content.(events.DriftMended); return ok && c.Kind == kind }
	for i := len(b.met) - 1; i >= 0 && !drifted(kind)(b.met[i]); i-- {
		if mended(b.met[i]) {
			return
		}
	}
	b.await("end of "+kind, mended)
}

// Somebody changes what runs behind the deployer's back: each difference is a fact, once, and what the stream says runs again.
func TestDrift(t *testing.T) {
	b := newBus(t, time.Minute)
	d, stop := b.deploy(Options{Data: t.TempDir(), Grace: time.Second, Look: 400 * time.Millisecond})
	defer stop()
	shelf := newShelf(t)
	b.configure(testProject("dev"))
	v1 := shelf.put(t, "v1", "good")
	b.publish(v1)
	first := b.await("v1", published("dev", v1.Digest)).Content.(events.ServicePublished).Lemnis
	s, err := d.use(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const door = "shop/dev/api"
	serves := func() {
		t.Helper()
		if got := get(t, first.URL); !strings.HasPrefix(got, "v1 ") {
			t.Errorf("users see %q", got)
		}
	}

	if err := s.front.Stop(t.Context(), door, first.Rollout.ID); err != nil {
		t.Fatal(err)
	}
	found := b.await("drift", drifted(events.DriftGone)).Content.(events.DriftFound)
	if found.Rollout != first.Rollout.ID || found.Environment != "dev" || found.Service != "api" || found.Found == "" || found.Expected == "" {
		t.Errorf("%+v", found)
	}
	b.awaitMended(events.DriftGone)
	serves()

	file, err := s.executable(t.Context(), v1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.front.Start(t.Context(), door, "stranger", v1.Digest, process.Spec{Name: "stranger", Executable: file}); err != nil {
		t.Fatal(err)
	}
	b.await("drift", drifted(events.DriftUnknown))
	b.awaitMended(events.DriftUnknown)
	if _, err := s.front.Process(t.Context(), door, "stranger"); err == nil {
		t.Error("the stranger runs")
	}

	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	if err := s.front.Route(t.Context(), door, proxy.Routes{Stable: proxy.Upstream{Version: "other", URL: other.URL}}); err != nil {
		t.Fatal(err)
	}
	b.await("drift", drifted(events.DriftRoutes))
	b.awaitMended(events.DriftRoutes)
	serves()
	n := 0
	for _, f := range b.met {
		if is[events.DriftFound](f) {
			n++
		}
	}
	if n != 3 {
		t.Errorf("%d facts of three differences:\n%s", n, tale(b.met))
	}
}

// What ends again and again is a fact, and a newer version ends it.
func TestAServiceThatFlaps(t *testing.T) {
	b := newBus(t, time.Minute)
	defer b.run(Options{Data: t.TempDir(), Grace: time.Second, Look: 50 * time.Millisecond})()
	shelf := newShelf(t)
	b.configure(testProject("dev"))
	v1, v2 := shelf.put(t, "v1", "frail"), shelf.put(t, "v2", "good")
	b.publish(v1)
	crowd := traffic(url(b.await("v1", published("dev", v1.Digest))), 10)
	found := b.await("flapping", drifted(events.DriftFlapping)).Content.(events.DriftFound)
	crowd.stop()
	if !strings.Contains(found.Found, "exit status 3") {
		t.Error(found.Found)
	}
	b.publish(v2)
	b.awaitMended(events.DriftFlapping)
}

// A version that eats memory is ended when it has had enough: it is a fact, and no other service's memory.
func TestAServiceThatEatsMemory(t *testing.T) {
	b := newBus(t, time.Minute)
	defer b.run(Options{Data: t.TempDir(), Grace: time.Second, Look: 50 * time.Millisecond})()
	shelf := newShelf(t)
	p := testProject("dev")
	p.Environments[0].Limits = &events.Limits{Memory: 100 << 20}
	b.configure(p)
	v1 := shelf.put(t, "v1", "greedy")
	b.publish(v1)
	crowd := traffic(url(b.await("v1", published("dev", v1.Digest))), 10)
	defer crowd.stop()
	found := b.await("drift", drifted(events.DriftLimit)).Content.(events.DriftFound)
	if !strings.Contains(found.Found, "of memory, of 100.0 at most, and was ended") {
		t.Error(found.Found)
	}
}

// A version that ends again and again soon after all users got it is taken back, without anybody asking for it.
func TestAServiceThatFlapsOnTrialIsTakenBack(t *testing.T) {
	b := newBus(t, time.Minute)
	defer b.run(Options{Data: t.TempDir(), Grace: time.Second, Look: 50 * time.Millisecond})()
	shelf := newShelf(t)
	b.configure(testProject("dev"))
	v1, v2 := shelf.put(t, "v1", "good"), shelf.put(t, "v2", "frail")
	b.publish(v1)
	address := url(b.await("v1", published("dev", v1.Digest)))
	b.publish(v2)
	b.await("v2", published("dev", v2.Digest))
	crowd := traffic(address, 10)
	back := b.await("rollback", is[events.ServiceRolledback]).Content.(events.ServiceRolledback)
	crowd.stop()
	if back.Lemnis.Rollout.Artifact.Digest != v2.Digest || !strings.Contains(back.Lemnis.Reason, "it does not stay up: it ended 6 times") {
		t.Errorf("%+v", back.Lemnis)
	}
	if got := get(t, address); !strings.HasPrefix(got, "v1 ") {
		t.Error(got)
	}
}

// What serves can not be started again after the machine was: what mends it is deployed all the same, though it would be a canary.
func TestTheNextVersionComesWhereWhatServesIsLost(t *testing.T) {
	for _, test := range []string{"the registry is away", "the registry hangs"} {
		t.Run(test, func(t *testing.T) {
			b := newBus(t, time.Minute)
			o := Options{Data: t.TempDir(), Grace: time.Second, Look: 50 * time.Millisecond, OCI: []oci.Option{oci.Silence(200 * time.Millisecond)}}
			stop := b.run(o)
			lost, shelf := newShelf(t), newShelf(t)
			b.configure(testProject("prod"))
			v1, v2 := lost.put(t, "v1", "good"), shelf.put(t, "v2", "good")
			b.publish(v1)
			address := url(b.await("v1", published("prod", v1.Digest)))
			stop()
			lost.server.Close()
			if test == "the registry hangs" {
				silent(t, lost.host)
			}
			if err := os.RemoveAll(filepath.Join(o.Data, "executables")); err != nil {
				t.Fatal(err)
			}
			defer b.run(o)()
			b.await("drift", drifted(events.DriftGone))
			if c := b.await("the end of hope", drifted(events.DriftLost)).Content.(events.DriftFound); !strings.Contains(c.Found, "it can not be started again") {
				t.Error(c.Found)
			}
			b.publish(v2)
			b.await("v2", published("prod", v2.Digest))
			b.awaitMended(events.DriftLost)
			if got := get(t, address); !strings.HasPrefix(got, "v2 ") {
				t.Error(got)
			}
		})
	}
}

// The process is gone between its start and its tests: it is started again, and tested.
func TestAProcessThatIsGoneBeforeItsTests(t *testing.T) {
	shelf := newShelf(t)
	v1 := shelf.put(t, "v1", "good")
	var d *driver
	ready := make(chan struct{})
	d = driveWatched(testProject("dev"), Options{Data: t.TempDir(), Look: 50 * time.Millisecond}, nil, func(f events.Event) {
		if c, ok := f.Content.(events.ServiceDeployed); ok {
			<-ready
			if s, err := d.deployer.use(d.ctx); err != nil || s.front.Stop(d.ctx, "shop/dev/api", c.Lemnis.Rollout.ID) != nil {
				t.Error("it could not be stopped")
			}
		}
	})
	defer d.stop()
	close(ready)
	d.publish(v1)
	d.await(t, "v1", published("dev", v1.Digest))
}

// What is kept to go back to and could not be had is asked for again, but not at every look: nobody is served by it.
func TestWhatIsKeptIsNotAskedForAtEveryLook(t *testing.T) {
	ctx, s, f := sickSite(t)
	var asked atomic.Int64
	shelf := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		http.Error(w, "it is not here", http.StatusNotFound)
	}))
	defer shelf.Close()
	where := at{"shop", "prod/api"}
	serves(s, where)
	digest := "sha256:" + strings.Repeat("0", 64)
	state := s.wanted.states[where]
	state.Kept = &rollout.Kept{Instance: events.Instance{Rollout: "r0", Artifact: events.ArtifactDetail{Digest: digest, Reference: strings.TrimPrefix(shelf.URL, "http://") + "/shop/api@" + digest}}}
	state.Drifts = []rollout.Drift{{Kind: events.DriftLost, Runs: "r0"}}
	s.wanted.states[where] = state
	s.wanted.started["shop/r0"] = true
	f.mu.Lock()
	f.state.Doors = []keeper.Door{{Name: where.String(), Routes: proxy.Routes{Stable: proxy.Upstream{Version: "r1", URL: "http://127.0.0.1:1"}}}}
	f.state.Processes = []keeper.Process{{Door: where.String(), Version: "r1", Digest: "sha256:1", URL: "http://127.0.0.1:1"}}
	f.mu.Unlock()
	looking(ctx, t, s)
	if !poll(func() bool { return asked.Load() > 0 }) {
		t.Fatal("it is not tried again")
	}
	<-time.After(100 * time.Millisecond)
	once := asked.Load() // of one mend
	<-time.After(time.Second)
	if now := asked.Load(); now != once {
		t.Errorf("its registry was asked %d times, and then %d", once, now)
	}
}
