package canary

import (
	"fmt"
	"math"
	"strings"
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
	// Evidence is E against "the canary is no worse", the mean over Parts: a rollback at 1/Alpha.
	Evidence float64 `json:"evidence"`
	// Support is E against "the canary is worse than is bearable", the least of Parts: a promotion at 1/Beta.
	Support float64 `json:"support"`
	// Parts are what was looked at: errors, then latency where it was counted, then guards by name.
	Parts []Part `json:"parts"`
	// Exposed counts the requests that the canary has served.
	Exposed int64 `json:"exposed"`
	// Needed estimates, when on hold, how many more canary requests a decision takes if the canary is as good as the
	// baseline. Zero otherwise.
	Needed int64 `json:"needed"`
	// Extended says that the deadline found the canary neither well nor bad: it gets as much time again. The caller keeps it in
	// the state (State.Extend).
	Extended bool `json:"extended,omitempty"`
	// Reason is one sentence for people.
	Reason string `json:"reason"`
}

// Deadlines is how many of them a canary gets when the first finds some evidence against it, and not enough.
const Deadlines = 2

// Part is the evidence of one thing that is looked at.
type Part struct {
	Name     string  `json:"name"`
	Evidence float64 `json:"evidence"`
	// Support is zero for a guard: it is not asked to prove that it is well.
	Support float64 `json:"support,omitempty"`
	// Canary and Baseline are shares of errors or of a guard's events, and geometric means of latency in seconds.
	Canary   float64 `json:"canary"`
	Baseline float64 `json:"baseline"`
}

// Names of parts.
const (
	Errors  = "errors"
	Latency = "latency"
)

func (s State) parts(p Policy) []Part {
	parts := make([]Part, 1, 2+len(s.Guards))
	parts[0] = Part{Errors, s.errorEvidence(), s.errorSupport(p.Floor), rate(s.Canary), rate(s.Baseline)}
	if l := s.Latency; s.timed(p) {
		parts = append(parts, Part{Latency, l.evidence(p.Tolerance), meanExp([]float64{l.logNotSlower(p.shift())}),
			meanExp([]float64{l.Canary.mean()}), meanExp([]float64{l.Baseline.mean()})})
	}
	for _, g := range s.Guards {
		parts = append(parts, Part{Name: g.Name, Evidence: g.evidence(), Canary: rate(g.Canary), Baseline: rate(g.Baseline)})
	}
	return parts
}

func evidenceOf(parts []Part) float64 {
	sum := 0.0
	for _, q := range parts {
		sum += q.Evidence
	}
	return sum / float64(len(parts))
}

func (s State) rollbackEvidence(p Policy) float64 { return evidenceOf(s.parts(p)) }

// Verdict judges the state, elapsed after the canary's first request was possible.
func (s State) Verdict(p Policy, elapsed time.Duration) Verdict {
	p = p.withDefaults()
	v := Verdict{Parts: s.parts(p), Exposed: s.Canary.Requests}
	v.Evidence, v.Support = evidenceOf(v.Parts), v.Parts[0].Support
	if s.timed(p) {
		v.Support = min(v.Support, v.Parts[1].Support)
	}
	v.Outcome, v.Needed, v.Reason = s.decide(p, v, elapsed)
	v.Extended = v.Outcome == Hold && s.doubtful(p, v, elapsed)
	return v
}

// Extend is the state of a canary that got more time at its deadline. From then on small evidence alone does not promote it: it
// wanders below the limit and back, and the first look that finds it there would decide.
func (s State) Extend() State {
	s.Extended = true
	return s
}

// doubtful says whether the canary is within the time that doubt at its deadline gives it.
func (s State) doubtful(p Policy, v Verdict, elapsed time.Duration) bool {
	if elapsed < p.Deadline || elapsed >= Deadlines*p.Deadline || s.Canary.Requests == 0 || s.Baseline.Requests == 0 {
		return false
	}
	suspect, ok := worst(s.Guards)
	return s.Extended || v.Evidence >= p.DeadlineEvidence || ok && suspect.evidence() >= p.DeadlineEvidence
}

func (s State) decide(p Policy, v Verdict, elapsed time.Duration) (outcome Outcome, needed int64, reason string) {
	counts := s.counts(p, v.Parts)
	late := elapsed >= p.Deadline
	unseen := s.unseen(p)
	suspect, guarded := worst(s.Guards)
	guarded = guarded && suspect.evidence() >= p.DeadlineEvidence

	switch {
	case v.Evidence >= 1/p.Alpha:
		return Rollback, 0, fmt.Sprintf("%s: evidence %.3g that it is worse reaches %.3g", counts, v.Evidence, 1/p.Alpha)
	case v.Support >= 1/p.Beta && s.Weight >= p.PromoteWeight && !guarded:
		return Promote, 0, fmt.Sprintf("%s: evidence %.3g that it is not %s reaches %.3g", counts, v.Support, s.bearable(p), 1/p.Beta)
	case late && s.Canary.Requests > 0 && s.Baseline.Requests == 0:
		return Hold, unseen, fmt.Sprintf("too little traffic: %s; there is nothing to compare with", counts)
	case s.doubtful(p, v, elapsed):
		return Hold, s.untilPromotion(p), fmt.Sprintf("%s: the deadline of %s found evidence that it is worse, and not enough: until %s it has to show that it is not %s (evidence %.3g of %.3g)",
			counts, p.Deadline, Deadlines*p.Deadline, s.bearable(p), v.Support, 1/p.Beta)
	case late && v.Evidence >= p.DeadlineEvidence:
		return Rollback, 0, fmt.Sprintf("%s: after the deadline of %s and as long again the evidence %.3g that it is worse is not below %.3g",
			counts, p.Deadline, v.Evidence, p.DeadlineEvidence)
	case late && unseen > 0:
		return Hold, unseen, fmt.Sprintf("too little traffic: %s; after %s a rise by %s could still be unseen; about %d more canary requests are needed",
			counts, p.Deadline, percent(p.Regression), unseen)
	case late && guarded:
		return Rollback, 0, fmt.Sprintf("%s: after the deadline of %s and as long again the evidence %.3g that %s is worse is not below %.3g",
			counts, p.Deadline, suspect.evidence(), suspect.Name, p.DeadlineEvidence)
	case late:
		return Promote, 0, fmt.Sprintf("%s: at the deadline of %s the evidence %.3g that it is worse is below %.3g",
			counts, p.Deadline, v.Evidence, p.DeadlineEvidence)
	}
	needed = s.untilPromotion(p)
	switch {
	case s.Canary.Requests == 0:
		reason = fmt.Sprintf("no request has reached the canary; a decision needs about %d", needed)
	case s.Baseline.Requests == 0:
		reason = fmt.Sprintf("%s: no request has reached the baseline, there is nothing to compare with", counts)
	case v.Support >= 1/p.Beta && guarded:
		reason = fmt.Sprintf("%s: good so far, but for the guard %s with evidence %.3g", counts, suspect.Name, suspect.evidence())
	case v.Support >= 1/p.Beta:
		reason = fmt.Sprintf("%s: good so far; waits until %s of the users see it (now %s)",
			counts, percent(p.PromoteWeight), percent(s.Weight))
	default:
		reason = fmt.Sprintf("%s: undecided; about %d more canary requests if it is as good as the baseline", counts, needed)
	}
	return Hold, needed, reason
}

// bearable is what a promotion has to exclude.
func (s State) bearable(p Policy) string {
	if !s.timed(p) {
		return "twice as bad"
	}
	return fmt.Sprintf("twice as bad or %s slower", percent(math.Expm1(p.shift())))
}

// counts are the values that a verdict rests on.
func (s State) counts(p Policy, parts []Part) string {
	var b strings.Builder
	fmt.Fprintf(&b, "canary %d of %d requests failed (%s), baseline %d of %d (%s)",
		s.Canary.Errors, s.Canary.Requests, percent(rate(s.Canary)),
		s.Baseline.Errors, s.Baseline.Requests, percent(rate(s.Baseline)))
	if s.timed(p) && s.Latency.I > 0 {
		slower, word := math.Expm1(s.Latency.S/s.Latency.I), "slower"
		if slower < 0 {
			slower, word = -slower, "faster"
		}
		fmt.Fprintf(&b, ", %s %s (evidence %.3g)", percent(slower), word, parts[1].Evidence)
	}
	if g, ok := worst(s.Guards); ok && g.evidence() > 1 {
		fmt.Fprintf(&b, ", %s %s against %s (evidence %.3g)", g.Name, percent(rate(g.Canary)), percent(rate(g.Baseline)), g.evidence())
	}
	return b.String()
}

func percent(share float64) string { return fmt.Sprintf("%.3g %%", 100*share) }
