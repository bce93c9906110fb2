package simulation

import (
	"math"
	"slices"
)

// Threshold is how Flagger and Argo Rollouts judge: fixed maxima, 1 % errors and a 99th percentile of 500 ms, over each
// minute, while the weight goes up by 10 % to 50 %. A failed check keeps the weight; at Failures of them it is rolled
// back: 5 with Flagger, 1 with a failure limit of 0.
type Threshold struct {
	Failures int
	failed   int
	passed   int
}

// Past implements Judge: fixed maxima need none.
func (t *Threshold) Past([]Counts) {}

// Weight implements Judge.
func (t *Threshold) Weight() float64 { return 0.1 * float64(t.passed+1) }

// Look implements Judge.
func (t *Threshold) Look(c, _ Counts) (promoted, rolledBack bool) {
	requests := float64(c.Requests)
	if float64(c.Errors) > 0.01*requests || float64(c.above(halfSecond)) > 0.01*requests {
		t.failed++
		return false, t.failed >= t.Failures
	}
	t.passed++
	return t.passed >= 5, false
}

// Kayenta compares one value a minute of errors and of latency by Mann and Whitney's test every ten minutes, at a
// weight of 10 %, with a confidence of 0.98 and a tolerance of 0.25 of the Hodges-Lehmann estimate. Each metric is half of
// the score: one that fails takes it below 75, which rolls back; after an hour it is promoted.
type Kayenta struct {
	minutes         int
	errors, latency [2][]float64 // canary, baseline
}

// Past implements Judge: only the time of the canary is compared.
func (k *Kayenta) Past([]Counts) {}

// Weight implements Judge.
func (k *Kayenta) Weight() float64 { return 0.1 }

// Look implements Judge.
func (k *Kayenta) Look(c, b Counts) (promoted, rolledBack bool) {
	k.minutes++
	for i, v := range []Counts{c, b} {
		if v.Requests == 0 {
			continue // without data there is no value, and what has none passes
		}
		k.errors[i] = append(k.errors[i], float64(v.Errors)/float64(v.Requests))
		sum := 0.0
		for j, n := range v.Buckets {
			sum += float64(n) * bounds[min(j, len(bounds)-1)] / math.Sqrt(1.25)
		}
		k.latency[i] = append(k.latency[i], sum/float64(v.Requests))
	}
	if k.minutes%10 != 0 {
		return false, false
	}
	if higher(k.errors[0], k.errors[1]) || higher(k.latency[0], k.latency[1]) {
		return false, true
	}
	return k.minutes >= 60, false
}

// higher says whether the confidence interval of the shift lies above the tolerated part of its estimate.
func higher(canary, baseline []float64) bool {
	if len(canary) == 0 || len(baseline) == 0 {
		return false
	}
	shifts := make([]float64, 0, len(canary)*len(baseline))
	for _, c := range canary {
		for _, b := range baseline {
			shifts = append(shifts, c-b)
		}
	}
	slices.Sort(shifts)
	n, m := float64(len(canary)), float64(len(baseline))
	const z98 = 2.326 // two-sided
	low := int(math.Floor(n*m/2 - z98*math.Sqrt(n*m*(n+m+1)/12)))
	if low < 0 {
		return false
	}
	estimate := (shifts[(len(shifts)-1)/2] + shifts[len(shifts)/2]) / 2
	return shifts[low] > 0.25*math.Abs(estimate)
}
