package sample

import (
	"fmt"
	"math"
	"slices"
)

// Outcome of a comparison.
type Outcome string

// The outcomes.
const (
	Bad  Outcome = "bad"
	Good Outcome = "good"
	Hold Outcome = "hold"
)

// Worse says which way of a metric is worse.
type Worse string

// The ways.
const (
	Higher Worse = "higher"
	Lower  Worse = "lower"
	Either Worse = "either"
)

// Policy holds what the user may choose; a zero field takes the default that its comment names.
type Policy struct {
	Alpha     float64 // probability of calling a canary bad that is the same; 0.02
	Undecided float64 // up to this p it is not good either; 0.05
	Tolerance float64 // how much worse it may be: 0.1 is a tenth of the baseline's values; 0
	Worse     Worse   // higher
}

func (p Policy) withDefaults() Policy {
	if !(p.Alpha > 0 && p.Alpha < 1) {
		p.Alpha = 0.02
	}
	if !(p.Undecided > 0 && p.Undecided < 1) {
		p.Undecided = 0.05
	}
	p.Undecided = max(p.Undecided, p.Alpha)
	if !(p.Tolerance >= 0 && p.Tolerance <= 100) {
		p.Tolerance = 0
	}
	if p.Worse == "" {
		p.Worse = Higher
	}
	return p
}

// Verdict on the samples.
type Verdict struct {
	Outcome Outcome `json:"outcome"`
	// P is how probable it is that samples of the same version look at least this bad.
	P float64 `json:"p"`
	// Level, Spread and Tail are that of each statistic alone; 1 where it has nothing to say.
	Level  float64 `json:"level"`
	Spread float64 `json:"spread"`
	Tail   float64 `json:"tail"`
	// Canary and Baseline describe the samples.
	Canary   Summary `json:"canary"`
	Baseline Summary `json:"baseline"`
	// Needed is how many samples of each version a verdict takes at least; zero where there are enough.
	Needed int    `json:"needed,omitempty"`
	Reason string `json:"reason"`
}

// Summary of one version's samples.
type Summary struct {
	Samples  int     `json:"samples"`
	Median   float64 `json:"median"`
	P90      float64 `json:"p90"` // towards higher values
	Smallest float64 `json:"min"`
	Largest  float64 `json:"max"`
}

// Compare the samples, which are finite numbers in any order.
func Compare(canary, baseline []float64, p Policy) Verdict {
	p = p.withDefaults()
	v := Verdict{P: 1, Level: 1, Spread: 1, Tail: 1, Canary: summary(canary), Baseline: summary(baseline)}
	if len(canary) == 0 || len(baseline) == 0 {
		v.Outcome, v.Needed = Hold, enough(p.Alpha)
		v.Reason = fmt.Sprintf("there are %d samples of the canary and %d of the baseline: nothing to compare", len(canary), len(baseline))
		return v
	}
	switch p.Worse {
	case Lower:
		v.take(oneSided(negated(canary), eased(negated(baseline), p.Tolerance)), "lower", 1)
	case Either:
		up, down := oneSided(canary, eased(baseline, p.Tolerance)), oneSided(negated(canary), eased(negated(baseline), p.Tolerance))
		if up.p <= down.p {
			v.take(up, "higher", 2)
		} else {
			v.take(down, "lower", 2)
		}
	default:
		v.take(oneSided(canary, eased(baseline, p.Tolerance)), "higher", 1)
	}
	v.judge(p)
	return v
}

func (v *Verdict) take(t test, way string, sides float64) {
	at := func(x float64) float64 { return min(1, sides*x) }
	v.P, v.Level, v.Spread, v.Tail = at(t.p), at(t.level), at(t.spread), at(t.tail)
	v.Reason = way
}

func (v *Verdict) judge(p Policy) {
	way := v.Reason
	values := fmt.Sprintf("canary %d samples, median %.4g, 90th percentile %.4g; baseline %d, %.4g, %.4g",
		v.Canary.Samples, v.Canary.Median, v.Canary.P90, v.Baseline.Samples, v.Baseline.Median, v.Baseline.P90)
	switch {
	case v.P <= p.Alpha:
		what := "level is " + way
		switch least := min(v.Level, v.Spread, v.Tail); {
		case v.Level == least:
		case v.Spread == least:
			what = "spread is larger"
		default:
			what = "worst values are " + way
		}
		v.Outcome, v.Reason = Bad, fmt.Sprintf("%s: the canary's %s (p = %.2g, at most %.2g)", values, what, v.P, p.Alpha)
	case !couldShow(v.Canary.Samples, v.Baseline.Samples, p.Alpha):
		v.Outcome, v.Needed = Hold, enough(p.Alpha)
		v.Reason = fmt.Sprintf("%s: too few to tell; %d of each would do", values, v.Needed)
	case v.P <= p.Undecided:
		v.Outcome, v.Reason = Hold, fmt.Sprintf("%s: it may be worse (p = %.2g); more samples would tell", values, v.P)
	default:
		v.Outcome, v.Reason = Good, fmt.Sprintf("%s: no sign that the canary is worse (p = %.2g)", values, v.P)
	}
}

// least is how many samples of a version say something of it, whatever the other has.
const least = 5

// couldShow says whether a canary of which 60 % is worse than all of the baseline would be bad at these sizes.
func couldShow(n, m int, alpha float64) bool {
	if min(n, m) < least {
		return false
	}
	worse := int(math.Ceil(0.6 * float64(n)))
	return math.Exp(logChoose(n+m-worse, m)-logChoose(n+m, m)) <= alpha
}

// enough is the least number of samples of each version that could show it.
func enough(alpha float64) int {
	n := 1
	for n < 1000 && !couldShow(n, n, alpha) {
		n++
	}
	return n
}

func logChoose(n, k int) float64 {
	a, _ := math.Lgamma(float64(n) + 1)
	b, _ := math.Lgamma(float64(k) + 1)
	c, _ := math.Lgamma(float64(n-k) + 1)
	return a - b - c
}

func summary(values []float64) Summary {
	s := Summary{Samples: len(values)}
	if len(values) > 0 {
		sorted := slices.Sorted(slices.Values(values))
		s.Median, s.P90 = quantile(sorted, 0.5), quantile(sorted, 0.9)
		s.Smallest, s.Largest = sorted[0], sorted[len(sorted)-1]
	}
	return s
}

// quantile is the least of the sorted values that a share q of them does not exceed.
func quantile(sorted []float64, q float64) float64 {
	return sorted[max(int(math.Ceil(q*float64(len(sorted))))-1, 0)]
}

func negated(values []float64) []float64 {
	out := make([]float64, len(values))
	for i, x := range values {
		out[i] = -x
	}
	return out
}

// eased makes the baseline look worse by a share of each value's size: what is tolerated is then the same.
func eased(values []float64, share float64) []float64 {
	if share == 0 {
		return values
	}
	out := make([]float64, len(values))
	for i, x := range values {
		out[i] = x + math.Abs(x)*share
	}
	return out
}
