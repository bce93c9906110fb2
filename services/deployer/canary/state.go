package canary

import (
	"math"
	"time"
)

// ratios are the error-rate ratios that the rollback test mixes over, evenly.
var ratios = [8]float64{1.25, 1.5, 2, 3, 5, 10, 30, 100}

// tolerated is the ratio at which a canary counts as worse for the promotion test.
const tolerated = 2

// Tick is what was counted since the last tick: increments, not totals.
type Tick struct {
	CanaryRequests   int64 `json:"canaryRequests"`
	CanaryErrors     int64 `json:"canaryErrors"`
	BaselineRequests int64 `json:"baselineRequests"`
	BaselineErrors   int64 `json:"baselineErrors"`
	// Weight is the canary's share of users during the tick, 0 to 1.
	Weight float64 `json:"weight"`
	// Span is the length of the tick. It only serves to learn the dispersion from whole minutes; zero leaves it out.
	Span time.Duration `json:"span,omitempty"`
	// Bounds are the upper bounds of the latency buckets, in seconds, rising; nil: those of the tick before.
	Bounds []float64 `json:"bounds,omitempty"`
	// CanaryBuckets and BaselineBuckets count requests by bucket, not summed up; the last is above all bounds. Zeros at
	// the end may be left out; without any the tick says nothing about latency.
	CanaryBuckets   []int64 `json:"canaryBuckets,omitempty"`
	BaselineBuckets []int64 `json:"baselineBuckets,omitempty"`
	// Guards are counted beside errors and latency.
	Guards []Guard `json:"guards,omitempty"`
}

// Minute counts one minute of the baseline.
type Minute struct {
	Requests int64 `json:"requests"`
	Errors   int64 `json:"errors"`
}

// State is all that the test remembers: a value, safe to copy and to store as JSON. The zero State is a rollout
// without history; Start makes one with history.
type State struct {
	Ticks    int64  `json:"ticks"`
	Canary   Minute `json:"canary"`   // totals
	Baseline Minute `json:"baseline"` // totals
	// Weight is that of the last tick.
	Weight float64 `json:"weight"`
	// LogRollback holds ln E for each ratio of the mixture; LogEqual the coin of promotion, ln E against "twice as bad".
	LogRollback [len(ratios)]float64 `json:"logRollback"`
	LogEqual    float64              `json:"logEqual"`
	// ScaledRequests and ScaledErrors are the canary's totals, each tick divided by the φ of its time.
	ScaledRequests float64 `json:"scaledRequests"`
	ScaledErrors   float64 `json:"scaledErrors"`
	// Minutes are the baseline's, the newest last, at most 60; Open is the minute not yet full.
	Minutes []Minute      `json:"minutes,omitempty"`
	Open    Minute        `json:"open"`
	OpenFor time.Duration `json:"openFor,omitempty"`

	// Extended says that the deadline has passed and gave it as much time again.
	Extended bool `json:"extended,omitempty"`

	Latency latency      `json:"latency,omitzero"`
	Guards  []guardState `json:"guards,omitempty"`
	Course  course       `json:"course,omitzero"`
}

// Start is the state of a new rollout. history is the baseline minute by minute, the newest last; the last 60 count.
func Start(history []Minute) State { return State{}.WithHistory(history) }

// WithHistory is the state with what is known of the baseline before the rollout, as Start makes it.
func (s State) WithHistory(history []Minute) State {
	s.Minutes = nil
	for _, m := range history[max(0, len(history)-maxMinutes):] {
		requests, errors := possible(m.Requests, m.Errors)
		s.Minutes = append(s.Minutes, Minute{requests, errors})
	}
	return s
}

// WithPast adds what is known of the baseline's latency before the rollout, as in a Tick.
func (s State) WithPast(bounds []float64, buckets []int64) State {
	if usable(bounds) {
		s.Latency = s.Latency.remember(bounds, buckets)
	}
	return s
}

// Observe adds a tick and returns the new state; s is unchanged. Negative counts, and errors beyond requests, are
// cut to what is possible: the function is total, so that a replay never stops.
func (s State) Observe(t Tick) State {
	mc, xc := possible(t.CanaryRequests, t.CanaryErrors)
	mb, xb := possible(t.BaselineRequests, t.BaselineErrors)
	phi := s.Dispersion() // of what was known before the tick: evidence must not choose its own scale

	if mc > 0 && mb > 0 {
		c, b := float64(xc)/phi, float64(xb)/phi
		for i, r := range ratios {
			s.LogRollback[i] += coin(c, b, float64(mc), float64(mb), r, 1)
		}
		s.LogEqual += coin(c, b, float64(mc), float64(mb), 1, tolerated)
	}
	s.ScaledRequests += float64(mc) / phi
	s.ScaledErrors += float64(xc) / phi
	s.Latency = s.Latency.observe(t, phi)
	s.Guards = observeGuards(s.Guards, t.Guards, phi)
	s.Canary = Minute{add(s.Canary.Requests, mc), add(s.Canary.Errors, xc)}
	s.Baseline = Minute{add(s.Baseline.Requests, mb), add(s.Baseline.Errors, xb)}
	s.Weight = 0
	if t.Weight >= 0 && t.Weight <= 1 { // not so for NaN, which JSON could not hold
		s.Weight = t.Weight
	}
	s.Ticks++
	s.Course = s.Course.add(s)
	return s.learn(mb, xb, t.Span)
}

// coin is ln of the likelihood ratio of "the canary's rate is a times the baseline's" against "b times".
func coin(xc, xb, mc, mb, a, b float64) float64 {
	ta, tb := a*mc/(a*mc+mb), b*mc/(b*mc+mb)
	return xc*math.Log(ta/tb) + xb*math.Log((1-ta)/(1-tb))
}

func possible(requests, errors int64) (int64, int64) {
	requests = max(requests, 0)
	return requests, min(max(errors, 0), requests)
}

// add does not pass the largest number that JSON holds exactly.
func add(a, b int64) int64 {
	const most = 1 << 53
	return min(min(a, most)+min(b, most), most)
}

// errorEvidence is E against "the canary fails no more often", capped so that it stays a JSON number.
func (s State) errorEvidence() float64 {
	return meanExp(s.LogRollback[:])
}

// errorSupport is E against "at least twice the baseline's rate and at least the floor".
func (s State) errorSupport(floor float64) float64 {
	return (meanExp([]float64{s.LogEqual}) + meanExp(s.logFloor(floor))) / 2
}

// logFloor is ln E against "at least floor of the canary's requests fail", one for each alternative.
func (s State) logFloor(floor float64) []float64 {
	logs := make([]float64, 0, len(floorShares))
	for _, share := range floorShares {
		logs = append(logs, floorEvidence(s.ScaledErrors, s.ScaledRequests, floor, share))
	}
	return logs
}

// floorShares are the alternatives of the floor test as shares of the floor.
var floorShares = [...]float64{0, 0.1, 0.25, 0.5}

func floorEvidence(x, n, floor, share float64) float64 {
	log := (n - x) * (math.Log1p(-share*floor) - math.Log1p(-floor))
	if x == 0 {
		return log // 0·ln 0 is 0 here, not NaN
	}
	return log + x*math.Log(share)
}

const maxLog = 600 // e^600 is within float64

func meanExp(logs []float64) float64 {
	sum := 0.0
	for _, l := range logs {
		sum += math.Exp(min(l, maxLog))
	}
	return sum / float64(len(logs))
}
