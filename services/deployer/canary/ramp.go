package canary

import "math"

// boundLevel is the chance that upperBound is ever wrong.
const boundLevel = 0.05

// suspicion is the evidence against the canary from which it is given no more users: what a rollback still takes comes as well
// from those it has.
const suspicion = 20

// Ramp is the weight for the next tick: κ(1−SLO)/(U − p_b) within the policy's limits, where U bounds the canary's
// error rate from above at every look (95 %) and p_b is the baseline's rate. In the worst case that the data still
// allow, the canary then burns κ times the error budget. It can fall when errors arrive: the budget comes before a
// user's stickiness. While the evidence against the canary is at suspicion or above, it does not rise.
func Ramp(s State, p Policy) float64 {
	p = p.withDefaults()
	top := max(p.MaxWeight, p.MinWeight)
	if s.Weight > 0 && s.rollbackEvidence(p) >= suspicion {
		top = max(min(top, s.Weight), p.MinWeight)
	}
	risk := upperBound(s.ScaledErrors, s.ScaledRequests) - rate(s.Baseline)
	if risk <= 0 {
		return top
	}
	return min(max(p.Kappa*(1-p.SLO)/risk, p.MinWeight), top)
}

func rate(m Minute) float64 {
	if m.Requests == 0 {
		return 0
	}
	return float64(m.Errors) / float64(m.Requests)
}

// upperBound is the upper end of a 1−boundLevel confidence sequence for a rate, x of n: the largest p whose likelihood
// is not 1/boundLevel times below that of the Beta(½,½) mixture. Valid at every look. x and n need not be whole.
func upperBound(x, n float64) float64 {
	if n <= 0 {
		return 1
	}
	x = min(x, n)
	mixture := logBeta(x+0.5, n-x+0.5) - logBeta(0.5, 0.5)
	outside := func(p float64) bool {
		log := (n - x) * math.Log1p(-p)
		if x > 0 {
			log += x * math.Log(p)
		}
		return mixture-log > -math.Log(boundLevel)
	}
	low, high := x/n, 1.0
	for range 60 {
		if middle := (low + high) / 2; outside(middle) {
			high = middle
		} else {
			low = middle
		}
	}
	return high
}

func logBeta(a, b float64) float64 {
	la, _ := math.Lgamma(a)
	lb, _ := math.Lgamma(b)
	lab, _ := math.Lgamma(a + b)
	return la + lb - lab
}
