package canary

import (
	"bytes"
	"encoding/json"
	"math"
	"reflect"
	"testing"
	"time"
)

var someBounds = []float64{0.05, 0.1, 0.2, 0.4}

// latencyTick has a thousand requests of each version.
func latencyTick(canary, baseline []int64) Tick {
	return Tick{CanaryRequests: 1000, BaselineRequests: 1000, Weight: 0.5, Span: time.Minute, Bounds: someBounds, CanaryBuckets: canary, BaselineBuckets: baseline}
}

func TestLatencyEvidence(t *testing.T) {
	base := []int64{300, 400, 250, 40, 10}
	slow := []int64{200, 380, 330, 70, 20}
	past := func() State { return Start(steadyHour()).WithPast(someBounds, []int64{18000, 24000, 15000, 2400, 600}) }

	same := past().Observe(latencyTick(base, base))
	if v := same.Verdict(Policy{}, time.Minute); v.Evidence > 1 || len(v.Parts) != 2 || v.Parts[1].Name != Latency {
		t.Errorf("the same: %+v", v)
	}
	slower := past().Observe(latencyTick(slow, base))
	if v := slower.Verdict(Policy{}, time.Minute); v.Outcome != Rollback {
		t.Errorf("slower: %+v", v)
	}
	if v := slower.Verdict(Policy{Tolerance: 1}, time.Minute); v.Outcome == Rollback {
		t.Errorf("slower, and tolerated: %+v", v)
	}
	faster := past().Observe(latencyTick(base, slow))
	if v := faster.Verdict(Policy{}, time.Minute); v.Outcome == Rollback {
		t.Errorf("faster: %+v", v)
	}
	points := slower.Evidence(Policy{})
	if last := points[len(points)-1]; last.Evidence != slower.Verdict(Policy{}, 0).Evidence || last.Tick != 1 {
		t.Errorf("%+v", points)
	}
}

// Requests that all fall in one bucket have no variance that is seen; one that does not is no proof.
func TestOneBucketProvesNothing(t *testing.T) {
	s := State{}
	for range 3 {
		s = s.Observe(latencyTick([]int64{0, 1000}, []int64{0, 1000}))
	}
	if v := s.Observe(latencyTick([]int64{0, 999, 1}, []int64{0, 1000})).Verdict(Policy{}, 0); v.Evidence > 2 {
		t.Errorf("%+v", v)
	}
}

func TestOddBucketsAreTaken(t *testing.T) {
	for name, tick := range map[string]Tick{
		"no bounds":          {CanaryBuckets: []int64{1}, BaselineBuckets: []int64{1}},
		"falling bounds":     {Bounds: []float64{2, 1}, CanaryBuckets: []int64{1}, BaselineBuckets: []int64{1}},
		"NaN":                {Bounds: []float64{math.NaN()}, CanaryBuckets: []int64{1}},
		"infinite":           {Bounds: []float64{1, math.Inf(1)}, CanaryBuckets: []int64{1}},
		"negative":           {Bounds: someBounds, CanaryBuckets: []int64{-5, 3}, BaselineBuckets: []int64{-1 << 62, 1}},
		"too many buckets":   {Bounds: []float64{1}, CanaryBuckets: []int64{1, 2, 3, 4}, BaselineBuckets: []int64{5, 6, 7}},
		"one version only":   {Bounds: someBounds, CanaryBuckets: []int64{1000, 1000}},
		"huge":               {Bounds: someBounds, CanaryBuckets: []int64{1 << 53, 1 << 53, 1 << 53}, BaselineBuckets: []int64{math.MaxInt64, math.MaxInt64}},
		"tiny bound":         {Bounds: []float64{5e-324, 1e-300, 1e300}, CanaryBuckets: []int64{500, 1, 1}, BaselineBuckets: []int64{500, 500}},
		"guards":             {Guards: []Guard{{Name: "a", Canary: Minute{-1, 5}, Baseline: Minute{1 << 53, 1 << 53}}, {Name: "b", Canary: Minute{1, 1 << 53}, Baseline: Minute{1, 0}}}},
		"too many bounds":    {Bounds: make([]float64, MaxBounds+1), CanaryBuckets: []int64{1}},
		"other bounds later": {Bounds: []float64{0.1, 7}, CanaryBuckets: []int64{100, 100, 100}, BaselineBuckets: []int64{100, 100, 100}},
	} {
		before := Start(steadyHour()).Observe(latencyTick([]int64{300, 400, 250, 40, 10}, []int64{300, 400, 250, 40, 10}))
		same, _ := json.Marshal(before)
		after := before
		for range 30 {
			after = after.Observe(tick)
		}
		body, err := json.Marshal(after)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var back State
		if err := json.Unmarshal(body, &back); err != nil || !reflect.DeepEqual(back.Verdict(Policy{}, time.Minute), after.Verdict(Policy{}, time.Minute)) {
			t.Errorf("%s: %v: what was stored judges otherwise", name, err)
		}
		if _, err := json.Marshal(after.Verdict(Policy{}, 2*time.Hour)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if unchanged, _ := json.Marshal(before); !bytes.Equal(unchanged, same) {
			t.Errorf("%s changed the state that it was observed on", name)
		}
	}
}

func TestGuards(t *testing.T) {
	tick := func(canary, baseline int64, fewer bool) Tick {
		return Tick{CanaryRequests: 12000, BaselineRequests: 12000, Weight: 0.5, Guards: []Guard{
			{Name: "orders", Canary: Minute{12000, canary}, Baseline: Minute{12000, baseline}, Fewer: fewer}}}
	}
	for _, test := range []struct {
		name string
		tick Tick
		want Outcome
	}{
		{"the same", tick(60, 60, false), Promote},
		{"more", tick(600, 60, false), Rollback},
		{"more is better", tick(600, 60, true), Promote},
		{"fewer is worse", tick(60, 600, true), Rollback},
		{"a suspicion holds", tick(100, 50, false), Hold},
	} {
		t.Run(test.name, func(t *testing.T) {
			if v := Start(steadyHour()).Observe(test.tick).Verdict(Policy{}, time.Minute); v.Outcome != test.want {
				t.Errorf("%+v", v)
			}
		})
	}
}

func TestTheCourseStaysShort(t *testing.T) {
	s := State{}
	for range 10000 {
		s = s.Observe(Tick{CanaryRequests: 10, BaselineRequests: 90, CanaryErrors: 1, BaselineErrors: 1, Weight: 0.1})
	}
	points := s.Evidence(Policy{})
	if len(points) > maxPoints+1 || points[len(points)-1].Tick != 10000 || points[0].Tick > 1000 {
		t.Errorf("%d points: %+v", len(points), points)
	}
}
