package deployer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/deployer/keeper"
	"github.com/lemnis/lemnis/services/deployer/proxy"
)

// search asks for one feature of a service now and then, as a hundred users, until stop.
func search(address string) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ctx.Err() == nil; i++ {
			request, _ := http.NewRequestWithContext(ctx, http.MethodGet, address+"/search", http.NoBody)
			request.Header.Set("X-User", fmt.Sprint("user-", i%100))
			if response, err := http.DefaultClient.Do(request); err == nil {
				_ = response.Body.Close()
			}
			<-tick.C
		}
	}()
	return func() { cancel(); <-done }
}

// A feature that few users use is broken in a new version: among all requests that is little, and its guard sees it.
func TestAGuardTakesAVersionBackThatBreaksAFeature(t *testing.T) {
	shelf := newShelf(t)
	p := testProject("prod")
	p.Features = []events.Feature{{Name: "search", Service: "api", Path: "/search"}, {Name: "other", Service: "web", Path: "/other"}}
	c := p.Environments[0].Canary
	c.Deadline, c.Guards = events.Duration(time.Minute), []string{"search", "other"}
	p.Environments[0].Canary.Objective = 0.5 // whole requests fail rarely enough
	d := start(t, p, Options{})
	v1, v2 := shelf.put(t, "v1", "good"), shelf.put(t, "v2", "sly")
	d.publish(v1)
	address := url(d.await(t, "v1", published("prod", v1.Digest)))
	crowd := traffic(address, 100)
	defer crowd.stop()
	defer search(address)()
	d.publish(v2)
	judged := d.await(t, "verdict", is[events.CanaryJudged]).Content.(events.CanaryJudged)
	if judged.Verdict != events.Rollback {
		t.Fatalf("%+v", judged)
	}
	var seen events.CanaryPart
	for _, part := range judged.Parts {
		if strings.Contains(part.Name, "search") {
			seen = part
		}
		if strings.Contains(part.Name, "other") {
			t.Errorf("a feature of another service is judged: %+v", part)
		}
	}
	if seen.Canary != 1 || seen.Baseline != 0 {
		t.Errorf("parts %+v", judged.Parts)
	}
	t.Log(judged.Reason)
}

// A feature that the project gets while its service has users already is judged in the next rollout.
func TestAGuardOnAFeatureThatIsNew(t *testing.T) {
	b := newBus(t, time.Minute)
	defer b.run(Options{Data: t.TempDir(), Grace: time.Second})()
	shelf := newShelf(t)
	p := testProject("prod")
	c := p.Environments[0].Canary
	c.Deadline, c.Objective = events.Duration(time.Minute), 0.9 // it is not promoted before the guard has seen anything
	b.configure(p)
	v1, v2 := shelf.put(t, "v1", "good"), shelf.put(t, "v2", "sly")
	b.publish(v1)
	address := url(b.await("v1", published("prod", v1.Digest)))
	crowd := traffic(address, 100)
	defer crowd.stop()
	defer search(address)()
	p.Features = []events.Feature{{Name: "search", Service: "api", Path: "/search"}}
	guarded := *c
	guarded.Guards = []string{"search"}
	p.Environments = slices.Clone(p.Environments)
	p.Environments[0].Canary = &guarded
	b.configure(p)
	b.publish(v2)
	judged := b.await("verdict", is[events.CanaryJudged]).Content.(events.CanaryJudged)
	if judged.Verdict != events.Rollback || len(judged.Parts) != 2 || judged.Parts[1].Name != "search" || judged.Parts[1].Canary != 1 || judged.Parts[1].Baseline != 0 {
		t.Errorf("%+v", judged)
	}
}

// A feature that the project loses and gets back while a canary runs is counted once.
func TestAGuardThatIsAwayForAWhileIsCountedOnce(t *testing.T) {
	t.Parallel()
	snapshot := func(features map[string]proxy.Counts) proxy.Snapshot {
		return proxy.Snapshot{Versions: map[string]proxy.VersionCounts{"new": {Features: features}, "old": {Features: features}}}
	}
	var all events.Counts
	stood := events.CanaryGuard{Name: "search"}
	for _, features := range []map[string]proxy.Counts{
		{"search": {Requests: 10, Errors: 4}}, {}, {"search": {Requests: 12, Errors: 5}}, // the front remembers
		{}, {"search": {Requests: 3, Errors: 1}}, // it does not
	} {
		now := guarded(snapshot(features), stood, "new", "old")
		added := minus(now.Canary, stood.Canary)
		all.Requests, all.Errors = all.Requests+added.Requests, all.Errors+added.Errors
		stood = now
	}
	if all.Requests != 15 || all.Errors != 6 || stood.Name != "search" || !reflect.DeepEqual(stood.Canary, stood.Baseline) {
		t.Errorf("%+v, at last %+v", all, stood)
	}
}

// A front that hangs says nothing about the version that it was to start, however often it is asked.
func TestAFrontThatHangsIsNoVersionsFault(t *testing.T) {
	t.Parallel()
	r := events.Rollout{ID: "prod/api@2"}
	job := service.NewJob(events.Event{}, events.Project{}, 1, nil)
	job.Tries = patience
	for _, c := range []struct {
		err  error
		lost bool
	}{{keeper.ErrHangs, false}, {keeper.ErrGone, false}, {errStart, true}, {errors.New("no room"), true}} {
		if why := lost(t.Context(), job, r, &startError{version: r.Runs(), err: fmt.Errorf("start it: %w", c.err)}); (why != "") != c.lost {
			t.Errorf("%v: %q", c.err, why)
		}
	}
}

// ordering is a project whose canaries are guarded by what the service counts itself.
func ordering() events.Project {
	p := testProject("prod")
	p.Metrics = []events.Metric{
		{Name: "orders", Service: "api", Total: "orders_total", Bad: `orders_total{outcome="lost"}`},
		{Name: "other", Service: "web", Total: "other_total", Bad: "other_bad_total"},
	}
	c := p.Environments[0].Canary
	c.Deadline, c.Guards = events.Duration(time.Minute), []string{"orders", "other"}
	return p
}

// No request fails, and yet orders get lost: the service counts them, and its guard sees it.
func TestAGuardThatTheServiceCounts(t *testing.T) {
	shelf := newShelf(t)
	d := start(t, ordering(), Options{})
	v1, v2 := shelf.put(t, "v1", "good"), shelf.put(t, "v2", "lossy")
	d.publish(v1)
	crowd := traffic(url(d.await(t, "v1", published("prod", v1.Digest))), 100)
	defer crowd.stop()
	d.publish(v2)
	judged := d.await(t, "verdict", is[events.CanaryJudged]).Content.(events.CanaryJudged)
	if judged.Verdict != events.Rollback || judged.Errors != 0 || len(judged.Parts) != 2 || judged.Parts[1].Name != "orders" || judged.Parts[1].Canary < 0.3 || judged.Parts[1].Baseline != 0 {
		t.Errorf("%+v", judged)
	}
	t.Log(judged.Reason)
}

// A guard that the new version does not count ends the rollout before it has users.
func TestAGuardThatTheServiceDoesNotCount(t *testing.T) {
	shelf := newShelf(t)
	d := start(t, ordering(), Options{})
	d.publish(shelf.put(t, "v1", "mute"))
	f := d.await(t, "failure", failed("test")).Content.(events.DeploymentFailed)
	if !strings.Contains(f.Reason, "orders is not counted: GET /metrics: no orders_total") {
		t.Error(f.Reason)
	}
}

// What can not be read for a while is read later, as a whole; for long, it ends the canary.
func TestCountersThatCanNotBeRead(t *testing.T) {
	broken := atomic.Bool{}
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if broken.Load() {
			http.Error(w, "no", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, `orders_total{outcome="lost"} 2`)
	}))
	defer service.Close()
	p := &place{mu: newLock(), instances: map[string]*instance{"r1": {url: service.URL}, "r2": {url: service.URL}}}
	c := newCounters(ordering().Metrics[:1], 0)
	read := func() (*events.CanaryGuard, error) {
		all, err := c.read(t.Context(), p, "r2", "r1")
		return all["orders"], err
	}
	if g, err := read(); err != nil || g == nil || g.Canary.Errors != 2 || g.Baseline.Requests != 2 {
		t.Fatalf("%+v, %v", g, err)
	}
	broken.Store(true)
	for range unread - 1 {
		if g, err := read(); g != nil || err != nil {
			t.Fatalf("%+v, %v", g, err)
		}
	}
	if _, err := read(); err == nil || !strings.Contains(err.Error(), "the guard orders can not be counted") {
		t.Error(err)
	}
}
