package canary

import (
	"math"
	"slices"
	"time"
)

const (
	// PriorDispersion is φ where nothing is known about how the errors of a service cluster: every failing action
	// is seen twice. See the package's documentation.
	PriorDispersion = 2.0

	maxMinutes    = 60
	enoughFreedom = 30
)

// Dispersion is φ, at least 1: the factor by which errors vary more, minute to minute, than independent ones would.
func (s State) Dispersion() float64 {
	estimate, freedom := pearson(s.Minutes)
	missing := math.Max(0, enoughFreedom-freedom)
	return math.Max(1, (estimate*freedom+PriorDispersion*missing)/(freedom+missing))
}

// pearson is the dispersion of the minutes and the degrees of freedom that it rests on: not more than there were
// errors, for an hour with three errors says little about clusters.
func pearson(minutes []Minute) (estimate, freedom float64) {
	var requests, errors, counted float64
	for _, m := range minutes {
		if m.Requests > 0 {
			requests += float64(m.Requests)
			errors += float64(m.Errors)
			counted++
		}
	}
	if counted < 2 || errors == 0 || errors >= requests {
		return 0, 0
	}
	rate, sum := errors/requests, 0.0
	for _, m := range minutes {
		if m.Requests > 0 {
			expected := rate * float64(m.Requests)
			sum += (float64(m.Errors) - expected) * (float64(m.Errors) - expected) / (expected * (1 - rate))
		}
	}
	return math.Max(sum/(counted-1), 1), math.Min(counted-1, errors)
}

// learn puts the tick's baseline into the open minute and closes it when it is full.
func (s State) learn(requests, errors int64, span time.Duration) State {
	if span <= 0 {
		return s
	}
	if _, freedom := pearson(s.Minutes); freedom >= enoughFreedom {
		return s
	}
	s.Open = Minute{add(s.Open.Requests, requests), add(s.Open.Errors, errors)}
	s.OpenFor += min(span, time.Hour)
	if s.OpenFor < time.Minute {
		return s
	}
	// A new slice: older states share the old one.
	s.Minutes = slices.Concat(s.Minutes[max(0, len(s.Minutes)-maxMinutes+1):], []Minute{s.Open})
	s.Open, s.OpenFor = Minute{}, 0
	return s
}
