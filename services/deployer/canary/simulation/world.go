package simulation

import (
	"math"
	"math/rand/v2"
)

const (
	perMinute = 6000
	history   = 60  // minutes
	horizon   = 120 // minutes
	sigma     = 0.6
)

// bounds of the latency buckets in seconds; one of them is the half second that other tools' rules ask for.
var bounds = func() (all []float64) {
	for i := -24; i <= 12; i++ {
		all = append(all, 0.5*math.Pow(1.25, float64(i)))
	}
	return all
}()

const halfSecond = 24 // index into bounds

// Behaviour is that of one version in one minute.
type Behaviour struct {
	Errors  float64 // share of requests that fail
	Slower  float64 // factor on latency; 0 is 1
	Cluster bool    // errors come in groups of one to nine, five on average
}

// Scenario says how canary and baseline behave in a minute after the canary began, and how many requests come, 0 for
// the usual. Minutes before it are negative. At is drawn once a run from [0, 1).
type Scenario struct {
	Name string
	At   func(minute int, at float64) (canary, baseline Behaviour, requests int64)
	// Fresh gives the canary a fresh baseline of the same size, which behaves as the scenario's baseline. Otherwise
	// everybody else is the baseline.
	Fresh bool
	// Unknown leaves out the hour before.
	Unknown bool
}

// Counts of a version in a minute.
type Counts struct {
	Requests, Errors int64
	Buckets          []int64
}

func (c Counts) above(bound int) (n int64) {
	for _, k := range c.Buckets[bound+1:] {
		n += k
	}
	return n
}

type world struct {
	rng    *rand.Rand
	shares map[float64][]float64 // of the buckets, by factor
}

func (w *world) count(requests int64, b Behaviour) Counts {
	c := Counts{Requests: requests}
	if b.Cluster {
		for range binomial(w.rng, requests, b.Errors/5) {
			c.Errors += 1 + w.rng.Int64N(9)
		}
		c.Errors = min(c.Errors, requests)
	} else {
		c.Errors = binomial(w.rng, requests, b.Errors)
	}
	if b.Slower == 0 {
		b.Slower = 1
	}
	c.Buckets = multinomial(w.rng, requests, w.bucketShares(b.Slower))
	return c
}

func (w *world) bucketShares(slower float64) []float64 {
	if s := w.shares[slower]; s != nil {
		return s
	}
	shares, before := make([]float64, len(bounds)+1), 0.0
	for i := range shares {
		below := 1.0
		if i < len(bounds) {
			below = math.Erfc(-math.Log(bounds[i]/(0.1*slower))/sigma/math.Sqrt2) / 2
		}
		shares[i], before = below-before, below
	}
	if len(w.shares) < 1000 {
		w.shares[slower] = shares
	}
	return shares
}

// Judge is a rule for rollouts, made anew for each.
type Judge interface {
	// Past is an hour of the baseline; nil when it is not known.
	Past(minutes []Counts)
	// Weight is the share of users that the canary shall have in the next minute.
	Weight() float64
	// Look is told what a minute counted; both are false while it goes on.
	Look(canary, baseline Counts) (promoted, rolledBack bool)
}

// Ending of one rollout.
type Ending struct {
	RolledBack bool
	Minutes    int
	Exposed    int64 // requests that the canary served until the horizon
	Undecided  bool
}

// Play one rollout.
func Play(rng *rand.Rand, s Scenario, j Judge) Ending {
	w := &world{rng: rng, shares: map[float64][]float64{}}
	return w.play(s, j)
}

func (w *world) play(s Scenario, j Judge) Ending {
	at := w.rng.Float64()
	var past []Counts
	for minute := -history; minute < 0 && !s.Unknown; minute++ {
		_, baseline, requests := s.at(minute, at)
		past = append(past, w.count(requests, baseline))
	}
	j.Past(past)
	var end Ending
	for minute := range horizon {
		canary, baseline, requests := s.at(minute, at)
		mc := int64(float64(requests)*j.Weight() + w.rng.Float64())
		mb := requests - mc
		if s.Fresh {
			mb = min(mc, mb)
		}
		end.Exposed += mc
		end.Minutes = minute + 1
		promoted, rolledBack := j.Look(w.count(mc, canary), w.count(mb, baseline))
		if rolledBack {
			end.RolledBack = true
			return end
		}
		if promoted {
			for later := minute + 1; later < horizon; later++ {
				_, _, requests := s.at(later, at)
				end.Exposed += requests
			}
			return end
		}
	}
	end.Undecided = true
	return end
}

func (s Scenario) at(minute int, at float64) (canary, baseline Behaviour, requests int64) {
	canary, baseline, requests = s.At(minute, at)
	if requests == 0 {
		requests = perMinute
	}
	return canary, baseline, requests
}
