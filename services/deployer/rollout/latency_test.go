package rollout_test

import (
	"testing"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
)

// A canary that fails as rarely as its baseline but is twice as slow: it is rolled back where the project says how much slower
// it may be, and only there.
func TestLatencyIsJudgedWhereAToleranceIsGiven(t *testing.T) {
	for _, judged := range []bool{true, false} {
		policy := &events.CanaryPolicy{Deadline: events.Duration(time.Hour)}
		if judged {
			tolerance := 0.1
			policy.Tolerance = &tolerance
		}
		s := newShop(t, events.Environment{Name: "prod", Target: "process", Strategy: "canary", Canary: policy})
		s.publish(1)
		s.publish(2)
		for range 3 {
			st := s.State("prod/api")
			s.time = s.time.Add(time.Second)
			o := events.CanaryObserved{
				Rollout: st.Current.Rollout.ID, Tick: st.Tick + 1, Elapsed: s.time.Sub(st.Exposed).Seconds(), Weight: st.Weight,
				Canary:   events.Counts{Requests: 200, Buckets: []int64{0, 20, 100, 80}},
				Baseline: events.Counts{Requests: 1800, Buckets: []int64{180, 900, 720}},
			}
			if st.Tick == 0 {
				o.Bounds, o.Past = []float64{0.05, 0.1, 0.2}, []int64{1000, 5000, 4000}
			}
			s.Put(events.Result, "prod/api", "", o)
			s.settle()
		}
		var verdicts []events.CanaryJudged
		for _, f := range s.Facts() {
			if c, ok := f.Content.(events.CanaryJudged); ok {
				verdicts = append(verdicts, c)
			}
		}
		switch {
		case !judged && len(verdicts) > 0:
			t.Errorf("%+v", verdicts)
		case judged && (len(verdicts) != 1 || verdicts[0].Verdict != events.Rollback || len(verdicts[0].Parts) != 2 || len(verdicts[0].Course) == 0):
			t.Errorf("%+v", verdicts)
		}
	}
}
