package judge

import (
	"io"
	"math"
	"time"

	"github.com/lemnis/lemnis/services/deployer/canary"
)

// Options of judging counts.
type Options struct {
	Policy canary.Policy
	Tick   time.Duration // length of a tick
	// Weight is the canary's share of users; 0 takes its share of the requests of each tick.
	Weight float64
}

// Look is one tick and what it made of the verdict.
type Look struct {
	Tick     int64         `json:"tick"`
	Canary   canary.Minute `json:"canary"`
	Baseline canary.Minute `json:"baseline"`
	Weight   float64       `json:"weight"`
	// Next is the weight that the risk allows for the next tick.
	Next     float64        `json:"nextWeight"`
	Outcome  canary.Outcome `json:"outcome"`
	Evidence float64        `json:"evidence"`
	Support  float64        `json:"support"`
	Parts    []canary.Part  `json:"parts"`
	Needed   int64          `json:"needed"`
}

// Judgement of a recorded canary. What a program looks for comes last.
type Judgement struct {
	// Past counts the ticks before the canary's first request: they are the baseline's history.
	Past int `json:"past"`
	// Left counts the ticks after the verdict, which were not looked at.
	Left  int    `json:"left"`
	Looks []Look `json:"looks"`

	Needed   int64          `json:"needed"`
	Reason   string         `json:"reason"`
	Verdict  canary.Outcome `json:"verdict"`
	Tick     int64          `json:"tick"`
	Evidence float64        `json:"evidence"`
	Exposed  int64          `json:"exposed"`
}

// Counts judges a recorded canary tick by tick, until there is a verdict.
func Counts(file string, in io.Reader, o Options) (Judgement, error) {
	c, err := readCounts(file, in)
	if err != nil {
		return Judgement{}, err
	}
	state, past := o.past(c)
	j := Judgement{Past: past, Looks: []Look{}}
	judged := func(v canary.Verdict) {
		j.Verdict, j.Evidence, j.Exposed, j.Needed, j.Reason = v.Outcome, v.Evidence, v.Exposed, v.Needed, v.Reason
	}
	judged(state.Verdict(o.Policy, 0))
	for i, t := range c.ticks[past:] {
		weight := o.Weight
		if all := float64(t.canary.requests) + float64(t.baseline.requests); weight == 0 && all > 0 {
			weight = float64(t.canary.requests) / all
		}
		state = state.Observe(canary.Tick{
			CanaryRequests: t.canary.requests, CanaryErrors: t.canary.errors,
			BaselineRequests: t.baseline.requests, BaselineErrors: t.baseline.errors,
			Weight: weight, Span: o.Tick, Bounds: c.bounds, CanaryBuckets: t.canary.buckets, BaselineBuckets: t.baseline.buckets,
		})
		v := state.Verdict(o.Policy, elapsed(t.number-c.ticks[past].number+1, o.Tick))
		if v.Extended {
			state = state.Extend()
		}
		judged(v)
		j.Tick = t.number
		j.Looks = append(j.Looks, Look{
			Tick: t.number, Canary: canary.Minute{Requests: t.canary.requests, Errors: t.canary.errors},
			Baseline: canary.Minute{Requests: t.baseline.requests, Errors: t.baseline.errors}, Weight: weight,
			Next: canary.Ramp(state, o.Policy), Outcome: v.Outcome, Evidence: v.Evidence, Support: v.Support, Parts: v.Parts, Needed: v.Needed,
		})
		if v.Outcome != canary.Hold {
			j.Left = len(c.ticks) - past - i - 1
			break
		}
	}
	return j, nil
}

// past is what the ticks before the canary's first request say of the baseline; without a canary none do.
func (o Options) past(c counts) (canary.State, int) {
	n := 0
	for n < len(c.ticks) && c.ticks[n].canary.requests == 0 {
		n++
	}
	if n == 0 || n == len(c.ticks) {
		return canary.State{}, 0
	}
	var minutes []canary.Minute
	var open canary.Minute
	var span time.Duration
	buckets := make([]int64, len(c.bounds)+1)
	for _, t := range c.ticks[:n] {
		open.Requests += t.baseline.requests
		open.Errors += t.baseline.errors
		if span += o.Tick; span >= time.Minute {
			minutes, open, span = append(minutes, open), canary.Minute{}, 0
		}
		for i, k := range t.baseline.buckets {
			buckets[i] = min(buckets[i]+k, mostCount)
		}
	}
	state := canary.Start(minutes)
	if len(c.bounds) > 0 {
		state = state.WithPast(c.bounds, buckets)
	}
	return state, n
}

// elapsed does not overflow.
func elapsed(ticks int64, tick time.Duration) time.Duration {
	if float64(ticks)*float64(tick) >= math.MaxInt64/2 {
		return math.MaxInt64 / 2
	}
	return time.Duration(ticks) * tick
}
