package simulation

import (
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
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

// Run plays a scenario again and again, each time with a new judge, on all cores: the runs of a chunk share a source of chance, so that
// the tally is the same on every machine.
func Run(seed uint64, runs int, s Scenario, judge func() Judge) Tally {
	const chunk = 250
	endings := make([]Ending, runs)
	var next atomic.Int64
	var all sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		all.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i*chunk >= runs {
					return
				}
				w := &world{rng: rand.New(rand.NewPCG(seed, uint64(i+1))), shares: map[float64][]float64{}} //nolint:gosec // a simulation that can be repeated
				for k := i * chunk; k < min((i+1)*chunk, runs); k++ {
					endings[k] = w.play(s, judge())
				}
			}
		})
	}
	all.Wait()
	return tally(endings)
}

func tally(endings []Ending) Tally {
	t := Tally{Runs: len(endings)}
	var sum, squares float64
	var minutes []int
	for _, end := range endings {
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
	n := float64(len(endings))
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
	caught := 1.05*t.Share() >= r.RolledBack || atLeast(t.Runs-t.RolledBack, t.Runs, 1-r.RolledBack) > 0.025
	return caught && (r.Exposed == 0 || t.Exposed <= max(1.05*r.Exposed, r.Exposed+1.96*t.Error))
}

// Interval of the share that was rolled back, 95 % (Wilson).
func (t Tally) Interval() (low, high float64) {
	const z = 1.96
	n, p := float64(t.Runs), t.Share()
	middle, half := p+z*z/(2*n), z*math.Sqrt(p*(1-p)/n+z*z/(4*n*n))
	return max(middle-half, 0) / (1 + z*z/n), (middle + half) / (1 + z*z/n)
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
