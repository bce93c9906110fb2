package canary

import "math"

// unseen is how many more canary requests it takes until a canary whose rate is Regression above the baseline's
// would on average have been rolled back.
func (s State) unseen(p Policy) int64 {
	base := rate(s.Baseline)
	bad := min(base+p.Regression, 1)
	ratio := p.trafficRatio(s.Weight)
	best := 0.0
	for _, r := range ratios {
		best = max(best, coin(bad, base*ratio, 1, ratio, r, 1))
	}
	// The errors' evidence has to carry the parts that see nothing.
	parts := float64(1 + len(s.Guards))
	if s.timed(p) {
		parts++
	}
	return missing(math.Log(float64(len(ratios))*parts/p.Alpha)*s.Dispersion(), best, float64(s.Canary.Requests))
}

// untilPromotion is how many more canary requests it takes until a canary as good as the baseline is promoted on
// average: by the coin or by the floor, whichever comes first, and by latency where it is counted.
func (s State) untilPromotion(p Policy) int64 {
	phi, base := s.Dispersion(), rate(s.Baseline)
	goal := math.Log(2 / p.Beta)
	// The ramp will have reached that weight before a promotion.
	ratio := p.trafficRatio(max(s.Weight, p.PromoteWeight))
	needed := missing((goal-s.LogEqual)*phi, coin(base, base*ratio, 1, ratio, 1, tolerated), 0)
	goal += math.Log(float64(len(floorShares)))
	for i, log := range s.logFloor(p.Floor) {
		if growth := floorEvidence(base, 1, p.Floor, floorShares[i]); growth > 0 && !math.IsInf(log, -1) {
			needed = min(needed, missing((goal-log)*phi, growth, 0))
		}
	}
	if !s.timed(p) {
		return needed
	}
	return max(needed, s.Latency.untilPromotion(p, ratio))
}

// untilPromotion is the same for latency: the information grows by what a request adds, and the mean stays the same.
func (l latency) untilPromotion(p Policy, ratio float64) int64 {
	variance := l.variance(moments{}, moments{})
	if !l.known() || variance <= 0 {
		return 0
	}
	goal, shift := math.Log(1/p.Beta), p.shift()
	short := func(more float64) bool { return halfNormal(shift*(l.I+more)-l.S, l.I+more) < goal }
	if !short(0) {
		return 0
	}
	low, high := 0.0, 1.0
	for high < 1e12 && short(high) {
		low, high = high, 2*high
	}
	for range 40 {
		if middle := (low + high) / 2; short(middle) {
			low = middle
		} else {
			high = middle
		}
	}
	return missing(high, ratio/(1+ratio)/variance, 0)
}

// trafficRatio is the baseline's requests for each one of the canary at a weight.
func (p Policy) trafficRatio(weight float64) float64 {
	if p.Equal {
		return 1
	}
	if weight <= 0 || weight >= 1 {
		weight = 0.5
	}
	return (1 - weight) / weight
}

// missing is ⌈goal/growth − have⌉, at least 0, and at most 2⁵³ so that it stays exact in JSON.
func missing(goal, growth, have float64) int64 {
	const most = 1 << 53
	if goal <= 0 {
		return 0
	}
	if n := math.Ceil(goal/growth - have); growth > 0 && n < most {
		return int64(max(n, 0))
	}
	return most
}
