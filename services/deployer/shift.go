package deployer

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/deployer/canary"
	"github.com/lemnis/lemnis/services/deployer/proxy"
	"github.com/lemnis/lemnis/services/deployer/rollout"
)

const (
	defaultTick = time.Second
	// shifts is how many steps are worked on at once. A canary takes one place for as long as it is watched: who moves all users waits for
	// one too where as many are in flight.
	shifts = 128
)

// shift sets the share of users that the new version serves. At the full share the version of before has been drained and
// stopped when it is done; at a part it counts what both versions answer until the next step is known.
func (d *deployer) shift(ctx context.Context, job *service.Job) error {
	c, ok := job.Event.Content.(events.CanaryStepped)
	if !ok || !job.Project.Runs(events.Deploy) {
		return nil
	}
	began := time.Now()
	s, where, err := d.begin(ctx, job)
	if s == nil {
		return err
	}
	state, _ := d.wanted.get(where)
	if !isStep(state, c) {
		return nil
	}
	if err != nil {
		if reason := lost(ctx, job, c.Rollout, err); reason != "" {
			return job.Report(ctx, service.Report{Content: events.DeploymentFailed{Rollout: c.Rollout, Step: "canary", Reason: reason}, Phase: events.Deploy})
		}
		return err
	}
	p, err := s.place(ctx, where)
	if err != nil {
		return err
	}
	if c.Weight < 1 {
		return d.watch(ctx, job, p, c)
	}
	return job.Report(ctx, service.Report{
		Content: events.ServicePublished{Environment: events.Reference{ID: c.Rollout.Environment}, Lemnis: events.ServiceDetail{
			Rollout: c.Rollout, URL: p.url, Reason: c.Reason, Seconds: time.Since(began).Seconds(),
		}},
		SubjectID: c.Rollout.Service, Phase: events.Deploy,
	})
}

// isStep reports whether the place is at this very step.
func isStep(s rollout.State, c events.CanaryStepped) bool {
	return s.Current.Rollout.ID == c.Rollout.ID && s.Step == c.Step && (s.Stage == rollout.Observing || s.Stage == rollout.Shifting)
}

// watch reports what each tick counted until the facts say something else than this step.
func (d *deployer) watch(ctx context.Context, job *service.Job, p *place, c events.CanaryStepped) error {
	environment, _ := job.Project.Environment(c.Rollout.Environment)
	tick, deadline := defaultTick, time.Hour
	if policy := environment.Canary; policy != nil {
		if policy.Tick > 0 {
			tick = time.Duration(policy.Tick)
		}
		if policy.Deadline > 0 {
			deadline = time.Duration(policy.Deadline)
		}
	}
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	counters := newCounters(metered(job.Project, c.Rollout.Environment, c.Rollout.Service), tick)
	for {
		state, changed := d.wanted.get(p.at)
		if !isStep(state, c) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
			continue
		case <-ticker.C:
		}
		own, err := counters.read(ctx, p, c.Rollout.Runs(), cmp.Or(state.Baseline, previous(c.Rollout)))
		if err != nil {
			return job.Report(ctx, service.Report{Content: events.DeploymentFailed{Rollout: c.Rollout, Step: "canary", Reason: err.Error()}, Phase: events.Deploy})
		}
		observing, cancel := context.WithTimeout(ctx, observeFor) // it holds the lock
		err = p.observe(observing, job, c, state, deadline, own)
		cancel()
		if err != nil {
			return err
		}
	}
}

// observeFor is how long the front and the bus may take for one tick; what was not reported then is, with the next attempt.
const observeFor = time.Minute

// observed is how far the counts of a canary were reported. The front keeps it beside the counts.
type observed struct {
	Rollout  string               `json:"rollout"`
	Canary   events.Counts        `json:"canary"` // totals
	Baseline events.Counts        `json:"baseline"`
	Past     []int64              `json:"past,omitempty"`    // the baseline's latency buckets from before the canary, until they are reported
	Minutes  []events.Counts      `json:"minutes,omitempty"` // and its requests and errors, minute by minute
	Tick     int                  `json:"tick"`
	Guards   []events.CanaryGuard `json:"guards,omitempty"` // totals
	Late     int                  `json:"late,omitempty"`   // deadlines after which a tick was reported
	Sent     *sent                `json:"sent,omitempty"`
}

// note is what the front keeps with its counts.
type note struct {
	observed
	History history `json:"history"`
}

// sent is a report whose answer is not known yet: it may stand on the stream, or not.
type sent struct {
	Report events.CanaryObserved `json:"report"`
	Then   observed              `json:"then"` // once it is there
}

// total reads a version's counts.
func total(snapshot proxy.Snapshot, id string) events.Counts {
	v := snapshot.Versions[id]
	return events.Counts{Requests: v.Requests, Errors: v.Errors, Buckets: noticed(v.Buckets)}
}

// unnoticed is the latency, in seconds, below which nobody notices a difference: what is quicker is one bucket, so that a
// version is not judged by it.
const unnoticed = 0.005

// latencyBounds are the proxy's from there on.
var latencyBounds = proxy.Bounds[firstNoticed():]

func firstNoticed() int {
	i, _ := slices.BinarySearch(proxy.Bounds, unnoticed)
	return i
}

// noticed are the proxy's buckets between latencyBounds.
func noticed(buckets []int64) []int64 {
	first := firstNoticed()
	if len(buckets) <= first {
		return nil
	}
	out := slices.Clone(buckets[first:])
	for _, n := range buckets[:first] {
		out[0] += n
	}
	return out
}

// remember has the front keep how far the counts were reported.
func (p *place) remember(ctx context.Context, o observed) error {
	text, err := json.Marshal(note{o, p.history})
	if err == nil {
		err = p.front.Remember(ctx, p.at.String(), text)
	}
	if err == nil {
		p.observed = o
	}
	return err
}

// guarded is what a guard's feature has come to since before. A feature that the front does not tell of just now stands where it
// stood: given back, it goes on counting.
func guarded(snapshot proxy.Snapshot, before events.CanaryGuard, canary, baseline string) events.CanaryGuard {
	of := func(id string, stood events.Counts) events.Counts {
		c, told := snapshot.Versions[id].Features[before.Name]
		if !told {
			return stood
		}
		return events.Counts{Requests: c.Requests, Errors: c.Errors}
	}
	return events.CanaryGuard{Name: before.Name, Canary: of(canary, before.Canary), Baseline: of(baseline, before.Baseline)}
}

// guards are the features of a service that the project wants its canaries judged by.
func guards(p events.Project, environment, service string) []string {
	e, _ := p.Environment(environment)
	if e.Canary == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(e.Canary.Guards), func(name string) bool {
		return !slices.ContainsFunc(p.Features, func(f events.Feature) bool { return f.Name == name && f.Service == service })
	})
}

// count begins to count for a rollout and what it is compared with, unless that was done. The past is that of the version before.
func (p *place) count(ctx context.Context, id, baseline, previous string, guards []string) error {
	if p.observed.Rollout == id {
		return nil
	}
	snapshot, err := p.front.Snapshot(ctx, p.at.String())
	if err != nil {
		return err
	}
	o := observed{Rollout: id, Canary: total(snapshot, id), Baseline: total(snapshot, baseline)}
	o.Past = trimmed(total(snapshot, previous).Buckets)
	if p.history.Version == previous {
		o.Minutes = p.history.Minutes
	}
	for _, name := range guards {
		o.Guards = append(o.Guards, guarded(snapshot, events.CanaryGuard{Name: name}, id, baseline))
	}
	return p.remember(ctx, o)
}

// observe reports one tick. A report without an answer goes again as it was, under the same number, until it is known to
// be on the stream: so each request is counted in one tick. The front keeps the report before it is sent, for the case that
// this process does not live to hear the answer.
func (p *place) observe(ctx context.Context, job *service.Job, c events.CanaryStepped, state rollout.State, deadline time.Duration, own map[string]*events.CanaryGuard) error {
	if err := p.mu.take(ctx); err != nil {
		return err
	}
	defer p.mu.free()
	if p.observed.Rollout != c.Rollout.Runs() || c.Rollout.Previous == nil {
		return nil
	}
	next := p.observed.Sent
	if next == nil {
		var err error
		if next, err = p.tick(ctx, c, state, deadline, own); err != nil || next == nil {
			return err
		}
		o := p.observed
		o.Sent = next
		if err := p.remember(ctx, o); err != nil {
			return err
		}
	}
	if r := next.Report; state.Tick < r.Tick {
		if err := job.Report(ctx, service.Report{Content: r, Once: strconv.Itoa(r.Tick), Phase: events.Deploy}); err != nil {
			return fmt.Errorf("report tick %d: %w", r.Tick, err)
		}
	}
	p.observed = next.Then
	return nil
}

// tick is the next report; nil without a request, but for one after each deadline, which needs a verdict.
func (p *place) tick(ctx context.Context, c events.CanaryStepped, state rollout.State, deadline time.Duration, own map[string]*events.CanaryGuard) (*sent, error) {
	o := p.observed
	snapshot, err := p.front.Snapshot(ctx, p.at.String())
	if err != nil {
		return nil, err
	}
	compared := cmp.Or(state.Baseline, c.Rollout.Previous.Runs())
	tested, baseline := total(snapshot, c.Rollout.Runs()), total(snapshot, compared)
	report := events.CanaryObserved{
		Rollout: c.Rollout.ID, Tick: max(o.Tick, state.Tick) + 1, Elapsed: time.Since(state.Exposed).Seconds(), Weight: c.Weight,
		Canary: minus(tested, o.Canary), Baseline: minus(baseline, o.Baseline),
	}
	var totals []events.CanaryGuard
	for _, before := range o.Guards {
		now := before
		switch read, isOwn := own[before.Name]; {
		case !isOwn:
			now = guarded(snapshot, before, c.Rollout.Runs(), compared)
		case read != nil:
			now = *read
		}
		delete(own, before.Name)
		totals = append(totals, now)
		report.Guards = append(report.Guards, events.CanaryGuard{Name: now.Name, Canary: minus(now.Canary, before.Canary), Baseline: minus(now.Baseline, before.Baseline)})
	}
	for _, name := range slices.Sorted(maps.Keys(own)) { // from now on
		if own[name] != nil {
			totals = append(totals, *own[name])
		}
	}
	if o.Tick == 0 { // also where an earlier front counted: its buckets may have been others
		report.Bounds, report.Past, report.Minutes = latencyBounds, o.Past, o.Minutes
	}
	late := int(min(time.Since(state.Exposed)/deadline, canary.Deadlines))
	if report.Canary.Requests+report.Baseline.Requests == 0 && late <= o.Late {
		return nil, nil
	}
	return &sent{report, observed{Rollout: o.Rollout, Canary: tested, Baseline: baseline, Tick: report.Tick, Late: late, Guards: totals}}, nil
}

// minus is what was added; a version that was forgotten in between counts from nothing.
func minus(now, before events.Counts) events.Counts {
	if now.Requests < before.Requests {
		now.Buckets = trimmed(now.Buckets)
		return now
	}
	added := events.Counts{Requests: now.Requests - before.Requests, Errors: max(now.Errors-before.Errors, 0), Buckets: slices.Clone(now.Buckets)}
	for i := range min(len(added.Buckets), len(before.Buckets)) {
		added.Buckets[i] = max(added.Buckets[i]-before.Buckets[i], 0)
	}
	added.Buckets = trimmed(added.Buckets)
	return added
}

// trimmed leaves out the zeros at the end.
func trimmed(buckets []int64) []int64 {
	n := len(buckets)
	for n > 0 && buckets[n-1] == 0 {
		n--
	}
	return buckets[:n:n]
}
