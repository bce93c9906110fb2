package deployer

import (
	"errors"
	"net/http"
	"os"
	"testing"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/deployer/rollout"
	"github.com/lemnis/lemnis/services/deployer/runtimetest"
)

// A canary is compared with a process of the version before that was started with it, which ends with the canary: it is judged by as
// many users on either side, and no user meets an error but the bad version's own.
func TestAFreshBaselineBesideTheCanary(t *testing.T) {
	shelf := newShelf(t)
	p := testProject("prod")
	p.Environments[0].Canary.Baseline = events.FreshBaseline
	p.Environments[0].Canary.Deadline = 0
	d := start(t, p, Options{})
	v1, v2, v3 := shelf.put(t, "v1", "good"), shelf.put(t, "v2", "bad"), shelf.put(t, "v3", "good")
	d.publish(v1)
	crowd := traffic(url(d.await(t, "v1", published("prod", v1.Digest))), 200)
	defer crowd.stop()
	d.publish(v2)
	d.await(t, "bar", is[events.ArtifactBarred])
	pids := func(version string) []string {
		crowd.mu.Lock()
		defer crowd.mu.Unlock()
		var all []string
		for pid := range crowd.pids[version] {
			all = append(all, pid)
		}
		return all
	}
	if n := len(pids("v1")); n != 2 {
		t.Errorf("v1 answered as %d processes", n)
	}
	d.publish(v3)
	d.await(t, "v3", published("prod", v3.Digest))
	for _, pid := range append(pids("v1"), pids("v2")...) {
		if !poll(func() bool { _, err := os.Stat("/proc/" + pid); return errors.Is(err, os.ErrNotExist) }) {
			t.Errorf("%s runs on", pid)
		}
	}
	crowd.stop()
	var canary, baseline int64
	for _, f := range d.stream.Facts() {
		if c, ok := f.Content.(events.CanaryObserved); ok {
			canary, baseline = canary+c.Canary.Requests, baseline+c.Baseline.Requests
			if c.Baseline.Errors > 0 {
				t.Errorf("the baseline failed: %+v", c)
			}
		}
	}
	if canary == 0 || float64(baseline) > 1.5*float64(canary) || float64(canary) > 1.5*float64(baseline) {
		t.Errorf("%d requests of the canaries, %d of their baselines", canary, baseline)
	}
	for status := range crowd.status {
		if status != http.StatusOK && status != http.StatusInternalServerError {
			t.Errorf("users met %v", crowd.status)
		}
	}
	t.Logf("%d requests of the canaries, %d of their baselines", canary, baseline)
}

// Both have served as much when they meet their first users.
func TestAFreshBaselineIsAskedWhatTheCanaryIs(t *testing.T) {
	shelf := newShelf(t)
	p := testProject("prod")
	p.Environments[0].Canary.Baseline = events.FreshBaseline
	p.Environments[0].Runtime.Paths = []string{"/"}
	var d *driver
	served := map[string]int64{}
	ready := make(chan struct{})
	d = driveWatched(p, Options{Data: t.TempDir()}, nil, func(f events.Event) {
		<-ready
		c, ok := f.Content.(events.CanaryStepped)
		if !ok || c.Step != 1 || c.Weight == 1 {
			return
		}
		state, _ := d.deployer.wanted.get(at{"shop", "prod/api"})
		baseline := state.Baseline
		s, err := d.deployer.use(d.ctx)
		if err != nil {
			t.Error(err)
			return
		}
		for name, id := range map[string]string{"canary": c.Rollout.Runs(), "baseline": baseline} {
			process, err := s.front.Process(d.ctx, "shop/prod/api", id)
			if err != nil {
				t.Error(err)
				return
			}
			found, err := runtimetest.Counters(d.ctx, http.DefaultClient, process.URL+"/metrics", "orders_total")
			if err != nil {
				t.Error(err)
			}
			served[name] = found["orders_total"]
		}
	})
	defer d.stop()
	close(ready)
	d.publish(shelf.put(t, "v1", "good"))
	d.await(t, "v1", is[events.ServicePublished])
	d.publish(shelf.put(t, "v2", "good"))
	d.await(t, "a canary", func(f events.Event) bool { c, ok := f.Content.(events.CanaryStepped); return ok && c.Weight < 1 })
	if served["canary"] < 20 || served["baseline"] != served["canary"] {
		t.Errorf("before their first users they served %v", served)
	}
}

// The first rollout has nothing to be compared with, also when the next one has come with its baseline while it was tested.
func TestTheBaselineIsTheRollouts(t *testing.T) {
	next := events.Rollout{ID: "2", Previous: &events.Instance{Rollout: "1", Artifact: events.ArtifactDetail{Digest: "sha256:1"}}}
	s := rollout.State{Baseline: "2/baseline"}
	s.Current.Rollout = next
	if got, is := compared(s, events.Rollout{ID: "1"}); is {
		t.Errorf("compared with %+v", got)
	}
	if got, is := compared(s, next); !is || got.ID != "2/baseline" || got.Artifact.Digest != "sha256:1" {
		t.Errorf("compared with %+v, %v", got, is)
	}
}
