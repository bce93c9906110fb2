package simulation

import (
	"math"
	"math/rand/v2"
	"slices"
)

// Tally of many runs.
type Tally struct {
	Runs, RolledBack, Undecided int
	Exposed, Error              float64 // mean, and its standard error
	MedianToPromote             int     // minutes; 0 when none was promoted
}

// Share that was rolled back.
func (t Tally) Share() float64 { return float64(t.RolledBack) / float64(t.Runs) }

// Promoted is the share that was promoted.
func (t Tally) Promoted() float64 {
	return float64(t.Runs-t.RolledBack-t.Undecided) / float64(t.Runs)
}

// Run plays a scenario again and again, each time with a new judge.
func Run(seed uint64, runs int, s Scenario, judge func() Judge) Tally {
	w := &world{rng: rand.New(rand.NewPCG(seed, 1)), shares: map[float64][]float64{}} //nolint:gosec // a simulation that can be repeated
	t := Tally{Runs: runs}
	var sum, squares float64
	var minutes []int
	for range runs {
		end := w.play(s, judge())
		switch {
		case end.RolledBack:
			t.RolledBack++
		case end.Undecided:
			t.Undecided++
		default:
			minutes = append(minutes, end.Minutes)
		}
		sum += float64(end.Exposed)
		squares += float64(end.Exposed) * float64(end.Exposed)
	}
	n := float64(runs)
	t.Exposed = sum / n
	t.Error = math.Sqrt(max(squares/n-t.Exposed*t.Exposed, 0) / n)
	if len(minutes) > 0 {
		slices.Sort(minutes)
		t.MedianToPromote = minutes[len(minutes)/2]
	}
	return t
}

// Reaches says whether the tally reaches a row of the page: within a factor of 1.05, or such that the page's figure is in the
// 95 % interval of what was measured, or better.
func (t Tally) Reaches(r Row) bool {
	if r.Same {
		if r.Most > 0 {
			return t.Share() <= r.Most
		}
		return t.Share() <= 1.05*r.RolledBack || atLeast(t.RolledBack, t.Runs, r.RolledBack) > 0.025
	}
	caught := t.Share() >= r.RolledBack || atLeast(t.Runs-t.RolledBack, t.Runs, 1-r.RolledBack) > 0.025
	return caught && (r.Exposed == 0 || t.Exposed <= max(1.05*r.Exposed, r.Exposed+1.96*t.Error))
}

// atLeast is the probability of hits or more in n trials.
func atLeast(hits, n int, share float64) float64 {
	if share <= 0 {
		return 0
	}
	below := 0.0
	for k := range hits {
		below += math.Exp(logChoices(float64(n), float64(k)) - logChoices(float64(n), 0) + float64(k)*math.Log(share) + float64(n-k)*math.Log1p(-share))
	}
	return 1 - below
}

// Peers are the judges of the table by name, the canary test last.
func Peers() []struct {
	Name string
	New  func() Judge
} {
	return []struct {
		Name string
		New  func() Judge
	}{
		{"Flagger", func() Judge { return &Threshold{Failures: 5} }},
		{"Argo", func() Judge { return &Threshold{Failures: 1} }},
		{"Kayenta", func() Judge { return &Kayenta{} }},
		{"sequential", func() Judge { return &Sequential{} }},
	}
}
