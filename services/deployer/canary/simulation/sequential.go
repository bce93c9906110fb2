package simulation

import (
	"time"

	"github.com/lemnis/lemnis/services/deployer/canary"
)

// Sequential is the canary test as it is.
type Sequential struct {
	Policy  canary.Policy
	State   canary.State
	weight  float64
	minutes int
}

// Past implements Judge.
func (q *Sequential) Past(minutes []Counts) {
	var known []canary.Minute
	buckets := make([]int64, len(bounds)+1)
	for _, m := range minutes {
		known = append(known, canary.Minute{Requests: m.Requests, Errors: m.Errors})
		for i, n := range m.Buckets {
			buckets[i] += n
		}
	}
	q.State = canary.Start(known)
	if known != nil {
		q.State = q.State.WithPast(bounds, buckets)
	}
}

// Weight implements Judge.
func (q *Sequential) Weight() float64 {
	q.weight = canary.Ramp(q.State, q.Policy)
	return q.weight
}

// Look implements Judge.
func (q *Sequential) Look(c, b Counts) (promoted, rolledBack bool) {
	q.minutes++
	q.State = q.State.Observe(canary.Tick{
		CanaryRequests: c.Requests, CanaryErrors: c.Errors, BaselineRequests: b.Requests, BaselineErrors: b.Errors,
		Weight: q.weight, Span: time.Minute, Bounds: bounds, CanaryBuckets: c.Buckets, BaselineBuckets: b.Buckets,
	})
	v := q.State.Verdict(q.Policy, time.Duration(q.minutes)*time.Minute)
	if v.Extended {
		q.State = q.State.Extend()
	}
	return v.Outcome == canary.Promote, v.Outcome == canary.Rollback
}
