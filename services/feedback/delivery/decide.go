package delivery

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
)

// Decide computes the figures anew with what happened.
func Decide(_ string, s State, _ events.Project, e events.Event) (events.Fact, bool) {
	t := tally{State: s, at: e.Stored, event: e.ID}
	var reason string
	switch c := e.Content.(type) {
	case events.ServicePublished:
		r := c.Lemnis.Rollout
		if !t.first(rollout + r.ID) {
			return events.Fact{}, false
		}
		t.deployed()
		reason = fmt.Sprintf("%s reached all users of %s", r.Service, r.Environment)
		if at, err := time.Parse(time.RFC3339, r.Artifact.Committed); err == nil && !at.After(e.Stored) {
			t.Lead = sample(t.Lead, e.Stored.Sub(at).Seconds())
		}
		if r.Artifact.Item != "" && slices.Contains(s.Troubled, r.Artifact.Item) {
			t.Figures.Rework++
			reason += ", after an incident with the same item"
		}
	case events.ServiceRolledback:
		r := c.Lemnis.Rollout
		if !t.failed(r.ID) {
			return events.Fact{}, false
		}
		reason = fmt.Sprintf("%s was taken back in %s", r.Service, r.Environment)
	case events.IncidentResolved:
		if !t.first(incident + e.Key) {
			return events.Fact{}, false
		}
		t.links[len(t.links)-1].Tags[tagItem] = c.Lemnis.Item
		if c.Lemnis.Rollout != "" {
			t.failed(c.Lemnis.Rollout)
		}
		reason = fmt.Sprintf("incident %s is resolved", e.Key)
		if at, err := time.Parse(time.RFC3339, c.Lemnis.Onset); err == nil && !at.After(e.Stored) {
			t.Recovery = sample(t.Recovery, e.Stored.Sub(at).Seconds())
		}
	default:
		return events.Fact{}, false
	}
	return events.Fact{
		Content: events.MetricsComputed{Metrics: t.figures(), LeadTimes: t.Lead, RecoveryTimes: t.Recovery, Reason: reason},
		Links:   t.links,
	}, true
}

// tally is the state while one more event is counted into it.
type tally struct {
	State
	at    time.Time
	event string
	links []events.Link
}

// first reports whether something was not counted before, and counts it.
func (t *tally) first(what string) bool {
	if slices.Contains(t.Counted, what) {
		return false
	}
	t.links = append(t.links, events.Link{Type: events.Relation, Kind: counted, Context: t.event, Tags: map[string]string{tagWhat: what}})
	return true
}

func (t *tally) deployed() { t.Figures.Deployments++ }

// failed counts a rollout that needed intervention, once; one that never reached all users was a deployment all the same.
func (t *tally) failed(id string) bool {
	if !t.first(failure + id) {
		return false
	}
	if t.first(rollout + id) {
		t.deployed()
	}
	t.Figures.Failed++
	return true
}

// figures is what follows from the counts and samples.
func (t *tally) figures() events.DeliveryMetrics {
	f := t.Figures
	if f.Since == "" {
		f.Since = t.at.UTC().Format(time.RFC3339)
	}
	f.Until = t.at.UTC().Format(time.RFC3339)
	days := 1.0
	if since, err := time.Parse(time.RFC3339, f.Since); err == nil {
		days = max(t.at.Sub(since).Hours()/24, 1)
	}
	f.PerDay = round(float64(f.Deployments) / days)
	f.LeadTime, f.RecoveryTime = median(t.Lead), median(t.Recovery)
	f.ChangeFailRate, f.ReworkRate = 0, 0
	if f.Deployments > 0 {
		f.ChangeFailRate = round(float64(f.Failed) / float64(f.Deployments))
		f.ReworkRate = round(float64(f.Rework) / float64(f.Deployments))
	}
	return f
}

func sample(all []float64, x float64) []float64 {
	all = append(slices.Clone(all), round(x))
	return all[max(0, len(all)-mostSamples):]
}

// median is −1 when there is nothing to measure.
func median(all []float64) float64 {
	if len(all) == 0 {
		return -1
	}
	sorted := slices.Sorted(slices.Values(all))
	n := len(sorted)
	return round((sorted[(n-1)/2] + sorted[n/2]) / 2)
}

func round(x float64) float64 { return math.Round(x*1000) / 1000 }
