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

// Want is what has to run: Stable for all users but Candidate's share, Spare for nobody. Coming may run, or not yet.
type Want struct {
	Stable, Candidate, Spare *Version
	Coming                   string
	Weight                   float64
}

// Have is what there is: the versions that the door sends users to, and the processes.
type Have struct {
	Stable, Canary string
	Weight         float64
	Processes      map[string]Process
}

// Process is a version that somebody started.
type Process struct {
	Digest   string
	Ending   bool   // it was told to end, and drains
	Flapping string // why it ended the last time, of many; empty: it does not flap
}

// Difference is one thing that is not as it has to be.
type Difference struct{ Kind, Version, Expected, Found string }

// Compare lists the differences, in a fixed order.
func Compare(w Want, h Have) []Difference {
	var all []Difference
	needed := map[string]bool{w.Coming: w.Coming != ""}
	for _, v := range []*Version{w.Stable, w.Candidate, w.Spare} {
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
		case p.Flapping != "":
			all = append(all, Difference{events.DriftFlapping, v.ID, expected, p.Flapping})
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
	canary, weight := "", 0.0
	if w.Candidate != nil && w.Weight > 0 {
		canary, weight = w.Candidate.ID, w.Weight
	}
	if h.Stable != w.Stable.ID || h.Canary != canary || h.Weight != weight {
		all = append(all, Difference{events.DriftRoutes, w.Stable.ID, routes(w.Stable.ID, canary, weight), routes(h.Stable, h.Canary, h.Weight)})
	}
	return all
}

func routes(stable, canary string, weight float64) string {
	text := "all users go to " + cmp.Or(stable, "nobody")
	if canary != "" {
		text = fmt.Sprintf("%.4g %% of the users go to %s, the others to %s", 100*weight, canary, cmp.Or(stable, "nobody"))
	}
	return text
}
