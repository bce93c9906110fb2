package deployer

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/deployer/rollout"
)

const (
	// mostMinutes of the version that serves are kept: the canary test looks at no more.
	mostMinutes = 60
	// gap is how long nobody may have looked for a minute to count as one.
	gap = 2 * time.Minute
)

// history counts minute by minute what all users met, so that it is known before a canary how errors cluster. The front keeps
// it with its counts.
type history struct {
	Version string          `json:"version"`
	Minutes []events.Counts `json:"minutes,omitempty"` // the newest last
	Open    events.Counts   `json:"open"`              // of the minute that is not over
	OpenFor time.Duration   `json:"openFor"`
	Total   events.Counts   `json:"total"` // at the last look
	Looked  time.Time       `json:"looked"`
}

// look adds what was counted since the last look; closed says that a minute was over. Another version's minutes say nothing of this one.
func (h history) look(version string, total events.Counts, now time.Time) (next history, closed bool) {
	total.Buckets = nil
	passed := now.Sub(h.Looked)
	switch {
	case version != h.Version:
		return history{Version: version, Total: total, Looked: now}, true
	case total.Requests < h.Total.Requests || passed <= 0 || passed > gap: // counted by another front, or not looked at for long
		h.Open, h.OpenFor = events.Counts{}, 0
	default:
		added := minus(total, h.Total)
		h.Open = events.Counts{Requests: h.Open.Requests + added.Requests, Errors: h.Open.Errors + added.Errors}
		h.OpenFor += passed
	}
	h.Total, h.Looked = total, now
	if h.OpenFor < time.Minute {
		return h, false
	}
	h.Minutes = append(slices.Clone(h.Minutes[max(0, len(h.Minutes)-mostMinutes+1):]), h.Open)
	h.Open, h.OpenFor = events.Counts{}, 0
	return h, true
}

// countFor is how long a place may take to say what it counted.
const countFor = 5 * time.Second

// record begins to look at every place whose next version is a canary. One that is being changed is looked at the next time.
func (s *site) record(ctx context.Context, counts *turns, now time.Time) {
	s.mu.Lock()
	places := slices.Collect(maps.Values(s.places))
	s.mu.Unlock()
	began := time.Now()
	for _, p := range places {
		counts.begin(ctx, p.at, func(turn context.Context) {
			if err := s.recordAt(turn, p, now.Add(time.Since(began))); err != nil && ctx.Err() == nil {
				s.options.Log("what users met could not be counted", "at", p.at.String(), "error", err.Error())
			}
		})
	}
}

func (s *site) recordAt(ctx context.Context, p *place, now time.Time) error {
	environment, _ := rollout.SplitKey(p.at.key)
	policy, _ := s.wanted.project(p.at.project).Environment(environment)
	stable := s.wanted.running(p.at).stable
	if stable == nil || policy.Strategy != events.CanaryStrategy {
		return nil
	}
	snapshot, err := p.front.Snapshot(ctx, p.at.String()) // without the lock: it may hang
	if err != nil {
		return err
	}
	if !p.mu.try() {
		return nil
	}
	defer p.mu.free()
	var closed bool
	if p.history, closed = p.history.look(stable.id, total(snapshot, stable.id), now); closed {
		return p.remember(ctx, p.observed) // with it: what is observed must not go back to what it was before
	}
	return nil
}
