package canary

import (
	"fmt"
	"math"
	"time"
)

// Outcome is what to do with the canary.
type Outcome string

// The outcomes. Hold means: go on, at the weight that Ramp gives.
const (
	Promote  Outcome = "promote"
	Rollback Outcome = "rollback"
	Hold     Outcome = "hold"
)

// Verdict is the decision at one look.
type Verdict struct {
	Outcome Outcome `json:"outcome"`
	// Evidence is E against "the canary is no worse": a rollback at 1/Alpha.
	Evidence float64 `json:"evidence"`
	// Support is E against "the canary is twice as bad": a promotion at 1/Beta.
	Support float64 `json:"support"`
	// Exposed counts the requests that the canary has served.
	Exposed int64 `json:"exposed"`
	// Needed estimates, when on hold, how many more canary requests a decision takes if the canary is as good as the
	// baseline. Zero otherwise.
	Needed int64 `json:"needed"`
	// Reason is one sentence for people.
	Reason string `json:"reason"`
}

// Verdict judges the state, elapsed after the canary's first request was possible.
func (s State) Verdict(p Policy, elapsed time.Duration) Verdict {
	p = p.withDefaults()
	v := Verdict{Evidence: s.rollbackEvidence(), Support: s.promoteEvidence(p.Floor), Exposed: s.Canary.Requests}
	counts := fmt.Sprintf("canary %d of %d requests failed (%s), baseline %d of %d (%s)",
		s.Canary.Errors, s.Canary.Requests, percent(rate(s.Canary)),
		s.Baseline.Errors, s.Baseline.Requests, percent(rate(s.Baseline)))
	late := elapsed >= p.Deadline
	unseen := s.unseen(p)

	switch {
	case v.Evidence >= 1/p.Alpha:
		v.Outcome = Rollback
		v.Reason = fmt.Sprintf("%s: evidence %.3g that it is worse reaches %.3g", counts, v.Evidence, 1/p.Alpha)
	case v.Support >= 1/p.Beta && s.Weight >= p.PromoteWeight:
		v.Outcome = Promote
		v.Reason = fmt.Sprintf("%s: evidence %.3g that it is not twice as bad reaches %.3g", counts, v.Support, 1/p.Beta)
	case late && v.Evidence >= p.DeadlineEvidence:
		v.Outcome = Rollback
		v.Reason = fmt.Sprintf("%s: at the deadline of %s the evidence %.3g that it is worse is not below %.3g",
			counts, p.Deadline, v.Evidence, p.DeadlineEvidence)
	case late && unseen > 0:
		v.Outcome, v.Needed = Hold, unseen
		v.Reason = fmt.Sprintf("too little traffic: %s; after %s a rise by %s could still be unseen; about %d more canary requests are needed",
			counts, p.Deadline, percent(p.Regression), unseen)
	case late:
		v.Outcome = Promote
		v.Reason = fmt.Sprintf("%s: at the deadline of %s the evidence %.3g that it is worse is below %.3g",
			counts, p.Deadline, v.Evidence, p.DeadlineEvidence)
	default:
		v.Outcome, v.Needed = Hold, s.untilPromotion(p)
		v.Reason = fmt.Sprintf("%s: undecided; about %d more canary requests if it is as good as the baseline", counts, v.Needed)
		if s.Canary.Requests == 0 {
			v.Reason = fmt.Sprintf("no request has reached the canary; a decision needs about %d", v.Needed)
		} else if v.Support >= 1/p.Beta {
			v.Reason = fmt.Sprintf("%s: good so far; waits until %s of the users see it (now %s)",
				counts, percent(p.PromoteWeight), percent(s.Weight))
		}
	}
	return v
}

// unseen is how many more canary requests it takes until a canary whose rate is Regression above the baseline's
// would on average have been rolled back.
func (s State) unseen(p Policy) int64 {
	base := rate(s.Baseline)
	bad := min(base+p.Regression, 1)
	ratio := s.trafficRatio(s.Weight)
	best := 0.0
	for _, r := range ratios {
		best = max(best, coin(bad, base*ratio, 1, ratio, r, 1))
	}
	return missing(math.Log(float64(len(ratios))/p.Alpha)*s.Dispersion(), best, float64(s.Canary.Requests))
}

// untilPromotion is how many more canary requests it takes until a canary as good as the baseline is promoted on
// average, by the coin or by the floor, whichever comes first.
func (s State) untilPromotion(p Policy) int64 {
	phi, base := s.Dispersion(), rate(s.Baseline)
	goal := math.Log(2 / p.Beta)
	// The ramp will have reached that weight before a promotion.
	ratio := s.trafficRatio(max(s.Weight, p.PromoteWeight))
	needed := missing((goal-s.LogEqual)*phi, coin(base, base*ratio, 1, ratio, 1, tolerated), 0)
	goal += math.Log(float64(len(floorShares)))
	for i, log := range s.logFloor(p.Floor) {
		if growth := floorEvidence(base, 1, p.Floor, floorShares[i]); growth > 0 && !math.IsInf(log, -1) {
			needed = min(needed, missing((goal-log)*phi, growth, 0))
		}
	}
	return needed
}

// trafficRatio is the baseline's requests for each one of the canary at a weight.
func (s State) trafficRatio(weight float64) float64 {
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

func percent(share float64) string { return fmt.Sprintf("%.3g %%", 100*share) }
