package canary

import (
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"
)

// draw is a binomial number, by the geometric gaps between successes.
func draw(rng *rand.Rand, n int64, p float64) int64 {
	if p <= 0 {
		return 0
	}
	var hits int64
	scale := math.Log1p(-p)
	for at := int64(math.Log(1-rng.Float64()) / scale); at < n; at += 1 + int64(math.Log(1-rng.Float64())/scale) {
		hits++
	}
	return hits
}

const perMinute = 6000

// scenario gives the error rates of canary and baseline in a minute.
type scenario func(minute int) (canary, baseline float64)

func steady(canary, baseline float64) scenario {
	return func(int) (float64, float64) { return canary, baseline }
}

func outage(minute int) (float64, float64) {
	if minute >= 5 && minute < 15 {
		return 0.1, 0.1
	}
	return 0.001, 0.001
}

type ending struct {
	outcome Outcome
	exposed int64
	minutes int
}

// roll plays one rollout in ticks of a minute, after an hour of history.
func roll(rng *rand.Rand, rates scenario) ending {
	history := make([]Minute, 60)
	for i := range history {
		_, base := rates(-1)
		history[i] = Minute{perMinute, draw(rng, perMinute, base)}
	}
	s := Start(history)
	for minute := 0; ; minute++ {
		weight := Ramp(s, Policy{})
		pc, pb := rates(minute)
		mc := int64(perMinute*weight + rng.Float64())
		mb := perMinute - mc
		s = s.Observe(Tick{CanaryRequests: mc, CanaryErrors: draw(rng, mc, pc), BaselineRequests: mb, BaselineErrors: draw(rng, mb, pb), Weight: weight, Span: time.Minute})
		if v := s.Verdict(Policy{}, time.Duration(minute+1)*time.Minute); v.Outcome != Hold {
			return ending{v.Outcome, v.Exposed, minute + 1}
		}
	}
}

func runs() int {
	if os.Getenv("LEMNIS_LONG") != "" {
		return 20000
	}
	return 600
}

// plausible says whether hits of n could come from a binomial with the share: no tail of the exact distribution beyond
// the hits is smaller than 1 in 1,000.
func plausible(hits, n int, share float64) bool {
	var below, above float64
	for k := 0; k <= n; k++ {
		ln, _ := math.Lgamma(float64(n + 1))
		lk, _ := math.Lgamma(float64(k + 1))
		lr, _ := math.Lgamma(float64(n - k + 1))
		p := math.Exp(ln - lk - lr + float64(k)*math.Log(share) + float64(n-k)*math.Log1p(-share))
		if k <= hits {
			below += p
		}
		if k >= hits {
			above += p
		}
	}
	return below > 0.001 && above > 0.001
}

// The method's figures are of the whole test, whose evidence is the mean of the error and the latency part: a quiet latency
// part halves it. The error part alone is compared with 1/α unhalved, so it decides a little sooner (never later), of what is twice
// as bad the sooner the less of the users it gets (38,000 requests where it gets half of them as in the method's figures), and rolls back 0.43 % of same versions (20,000 runs) where the whole test does 0.15 %; α allows 1 %.
func TestSimulationReachesTheMethodsFigures(t *testing.T) {
	for i, test := range []struct {
		name    string
		rates   scenario
		rolled  float64 // share
		exposed float64 // mean requests on the canary; 0: not compared
		promote int     // median minutes to promote; 0: not compared
	}{
		{"same version", steady(0.001, 0.001), 0.0043, 0, 14},
		{"same version, shared outage", outage, 0.001, 0, 0},
		{"0.1 to 0.2 %", steady(0.002, 0.001), 0.991, 33000, 0},
		{"0.1 to 0.5 %", steady(0.005, 0.001), 0.9999, 2900, 0},
		{"0.1 to 1 %", steady(0.01, 0.001), 0.9999, 831, 0},
		{"0.1 to 5 %", steady(0.05, 0.001), 0.9999, 106, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(1, uint64(i)))
			n, rolled := runs(), 0
			var sum, squares float64
			var minutes []int
			for range n {
				end := roll(rng, test.rates)
				if end.outcome == Rollback {
					rolled++
				} else {
					minutes = append(minutes, end.minutes)
				}
				sum += float64(end.exposed)
				squares += float64(end.exposed) * float64(end.exposed)
			}
			mean := sum / float64(n)
			deviation := math.Sqrt((squares/float64(n) - mean*mean) / float64(n))
			t.Logf("%d runs: rolled back %.2f %%, mean exposed %.0f ± %.0f", n, 100*float64(rolled)/float64(n), mean, deviation)
			if !plausible(rolled, n, test.rolled) {
				t.Errorf("rolled back %d of %d, expected a share of %g", rolled, n, test.rolled)
			}
			if test.exposed > 0 && (mean > test.exposed+3*deviation || mean < 0.75*test.exposed) {
				t.Errorf("mean exposed %.0f ± %.0f, expected about %.0f", mean, deviation, test.exposed)
			}
			if test.promote > 0 {
				slices.Sort(minutes)
				if median := minutes[len(minutes)/2]; median > test.promote+3 || median < test.promote-3 {
					t.Errorf("median minutes to promote %d, expected about %d", median, test.promote)
				}
			}
		})
	}
}

// clustered draws errors that come in groups of one to nine, at a mean rate of 0.1 %.
func clustered(rng *rand.Rand, n int64) int64 {
	var errors int64
	for range draw(rng, n, 0.0002) {
		errors += 1 + rng.Int64N(9)
	}
	return min(errors, n)
}

func TestClusteredErrorsDoNotRollBack(t *testing.T) {
	falsely := func(history int) (rolled int) {
		rng := rand.New(rand.NewPCG(2, 2))
		for range runs() / 2 {
			minutes := make([]Minute, history)
			for i := range minutes {
				minutes[i] = Minute{perMinute, clustered(rng, perMinute)}
			}
			s := Start(minutes)
			for minute := 1; ; minute++ {
				weight := Ramp(s, Policy{})
				mc := int64(perMinute*weight + rng.Float64())
				s = s.Observe(Tick{CanaryRequests: mc, CanaryErrors: clustered(rng, mc), BaselineRequests: perMinute - mc, BaselineErrors: clustered(rng, perMinute-mc), Weight: weight, Span: time.Minute})
				if v := s.Verdict(Policy{}, time.Duration(minute)*time.Minute); v.Outcome != Hold {
					if v.Outcome == Rollback {
						rolled++
					}
					break
				}
			}
		}
		return rolled
	}
	known, prior := falsely(60), falsely(0)
	t.Logf("of %d runs rolled back: %d with history, %d without", runs()/2, known, prior)
	if share := float64(known) / float64(runs()/2); share > 0.03 {
		t.Errorf("with an hour of history %.1f %% of clustered same versions are rolled back", 100*share)
	}
	if share := float64(prior) / float64(runs()/2); share > 0.13 {
		t.Errorf("without history %.1f %% of clustered same versions are rolled back", 100*share)
	}
}

func BenchmarkObserveAndVerdict(b *testing.B) {
	s := Start([]Minute{{6000, 6}, {6000, 5}})
	for b.Loop() {
		s = s.Observe(Tick{CanaryRequests: 60, BaselineRequests: 5940, BaselineErrors: 6, Weight: 0.01, Span: time.Second})
		s.Verdict(Policy{}, time.Minute)
	}
}
