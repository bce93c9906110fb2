// Package drift compares what runs of a service in an environment with what the stream says has to run there. It is pure.
package drift

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/lemnis/lemnis/pkg/events"
)

// Version is an artifact that has to run.
type Version struct{ ID, Digest string }

// Want is what has to run: Stable for all users but Candidate's share, and Baseline's, which is as large; Spare for nobody. Coming
// may run, or not yet.
type Want struct {
	Stable, Candidate, Baseline, Spare *Version
	Coming                             []string
	Weight                             float64
}

// Have is what there is: the versions that the door sends users to, and the processes.
type Have struct {
	Stable, Canary, Baseline string
	Weight                   float64
	Processes                map[string]Process
}

// Process is a version that somebody started.
type Process struct {
	Digest   string
	Ending   bool   // it was told to end, and drains
	Over     string // what it took beyond its limits, not long ago, and was ended for
	Flapping string // why it ended the last time, of many; empty: it does not flap
}

// Difference is one thing that is not as it has to be.
type Difference struct{ Kind, Version, Expected, Found string }

// Compare lists the differences, in a fixed order.
func Compare(w Want, h Have) []Difference {
	var all []Difference
	needed := map[string]bool{}
	for _, id := range w.Coming {
		needed[id] = true
	}
	for _, v := range []*Version{w.Stable, w.Candidate, w.Baseline, w.Spare} {
		if v == nil || needed[v.ID] {
			continue
		}
		needed[v.ID] = true
		p, there := h.Processes[v.ID]
		expected := fmt.Sprintf("%s runs %s", v.ID, v.Digest)
		switch {
		case !there:
			all = append(all, Difference{events.DriftGone, v.ID, expected, "it does not run"})
		case p.Digest != v.Digest:
			all = append(all, Difference{events.DriftArtifact, v.ID, expected, "it runs " + p.Digest})
		case p.Flapping != "" || p.Over != "":
			if p.Over != "" {
				all = append(all, Difference{events.DriftLimit, v.ID, expected, p.Over})
			}
			if p.Flapping != "" {
				all = append(all, Difference{events.DriftFlapping, v.ID, expected, p.Flapping})
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(h.Processes)) {
		if p := h.Processes[id]; !needed[id] && !p.Ending {
			all = append(all, Difference{events.DriftUnknown, id, "nothing else runs", fmt.Sprintf("%s runs %s", id, p.Digest)})
		}
	}
	if w.Stable == nil {
		return all
	}
	should := Have{Stable: w.Stable.ID}
	if w.Candidate != nil && w.Weight > 0 {
		should.Canary, should.Weight = w.Candidate.ID, w.Weight
		if w.Baseline != nil {
			should.Baseline = w.Baseline.ID
		}
	}
	if h.Stable != should.Stable || h.Canary != should.Canary || h.Baseline != should.Baseline || h.Weight != should.Weight {
		all = append(all, Difference{events.DriftRoutes, w.Stable.ID, should.routes(), h.routes()})
	}
	return all
}

func (h Have) routes() string {
	stable := cmp.Or(h.Stable, "nobody")
	switch {
	case h.Canary == "":
		return "all users go to " + stable
	case h.Baseline == "":
		return fmt.Sprintf("%.4g %% of the users go to %s, the others to %s", 100*h.Weight, h.Canary, stable)
	}
	return fmt.Sprintf("%.4g %% of the users go to %s, as many to %s, the others to %s", 100*h.Weight, h.Canary, h.Baseline, stable)
}
