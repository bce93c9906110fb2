package canary

import (
	"slices"
	"strings"
)

// MaxGuards is how many guards a rollout may have.
const MaxGuards = 8

// Guard is what one guard metric of the project counted in a tick: events among trials, which shall not get more frequent.
type Guard struct {
	Name     string `json:"name"`
	Canary   Minute `json:"canary"` // trials and events
	Baseline Minute `json:"baseline"`
	// Fewer turns it round: they shall not get rarer.
	Fewer bool `json:"fewer,omitempty"`
}

// guardState is a guard's totals, with ln E of "the canary is no worse" for each of ratios.
type guardState struct {
	Name     string               `json:"name"`
	Canary   Minute               `json:"canary"`
	Baseline Minute               `json:"baseline"`
	Log      [len(ratios)]float64 `json:"log"`
}

func (g guardState) evidence() float64 { return meanExp(g.Log[:]) }

// observeGuards adds a tick's guards. How they cluster is not known from before the rollout, so they are scaled by the prior
// at least.
func observeGuards(states []guardState, tick []Guard, phi float64) []guardState {
	if len(tick) == 0 {
		return states
	}
	states = slices.Clone(states)
	phi = max(phi, PriorDispersion)
	for _, g := range tick {
		i, found := slices.BinarySearchFunc(states, g.Name, func(s guardState, name string) int { return strings.Compare(s.Name, name) })
		if !found {
			if len(states) >= MaxGuards {
				continue
			}
			states = slices.Insert(states, i, guardState{Name: g.Name})
		}
		s := &states[i]
		mc, xc := max(g.Canary.Requests, 0), max(g.Canary.Errors, 0) // there may be several events a trial
		mb, xb := max(g.Baseline.Requests, 0), max(g.Baseline.Errors, 0)
		if mc > 0 && mb > 0 {
			for j, r := range ratios {
				if g.Fewer {
					s.Log[j] += coin(float64(xb)/phi, float64(xc)/phi, float64(mb), float64(mc), r, 1)
				} else {
					s.Log[j] += coin(float64(xc)/phi, float64(xb)/phi, float64(mc), float64(mb), r, 1)
				}
			}
		}
		s.Canary = Minute{add(s.Canary.Requests, mc), add(s.Canary.Errors, xc)}
		s.Baseline = Minute{add(s.Baseline.Requests, mb), add(s.Baseline.Errors, xb)}
	}
	return states
}

// worst is the guard with the most evidence against the canary; ok is false without guards.
func worst(guards []guardState) (g guardState, ok bool) {
	for i, other := range guards {
		if i == 0 || other.evidence() > g.evidence() {
			g, ok = other, true
		}
	}
	return g, ok
}
