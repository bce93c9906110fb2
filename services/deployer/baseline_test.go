package deployer

import (
	"errors"
	"net/http"
	"os"
	"testing"

	"github.com/lemnis/lemnis/pkg/events"
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
