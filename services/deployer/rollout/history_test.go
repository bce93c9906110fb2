package rollout_test

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/deployer/rollout/rollouttest"
)

// Errors that come in clusters roll no harmless version back where the hour before is known; the same facts again give the same
// verdicts.
func TestTheHourBeforeTeachesHowErrorsCluster(t *testing.T) {
	const clusters, runs = 12, 60
	backs := map[bool]int{}
	for seed := range uint64(runs) {
		for _, known := range []bool{false, true} {
			rng := rand.New(rand.NewPCG(seed, 7))
			clustered := func(requests int64, rate float64) int64 { // each failing user fails so many times
				n := int64(0)
				for range requests {
					if rng.Float64() < rate/clusters {
						n += clusters
					}
				}
				return min(n, requests)
			}
			var past []events.Counts
			for range 60 {
				past = append(past, events.Counts{Requests: 2000, Errors: clustered(2000, 0.01)})
			}
			s := newTown(t, canaryProd(time.Hour, 0.95)...)
			s.publish(1)
			s.publish(2)
			id := s.State("prod/api").Current.Rollout.ID
			for tick := 1; tick <= 50 && s.State("prod/api").Current.Rollout.ID == id; tick++ {
				s.time = s.time.Add(10 * time.Second)
				c := events.CanaryObserved{Rollout: id, Tick: tick, Elapsed: float64(10 * tick), Weight: 0.1,
					Canary:   events.Counts{Requests: 200, Errors: clustered(200, 0.01)},
					Baseline: events.Counts{Requests: 1800, Errors: clustered(1800, 0.01)}}
				if tick == 1 && known {
					c.Minutes = past
				}
				s.Put(events.Result, "prod/api", "", c)
				s.settle()
			}
			for _, f := range s.Facts() {
				if c, ok := f.Content.(events.CanaryJudged); ok && c.Verdict == events.Rollback {
					backs[known]++
				}
			}
			again := &rollouttest.Stream{Project: s.Project}
			again.Restore(s.Facts())
			was, _ := json.Marshal(s.State("prod/api"))
			if is, _ := json.Marshal(again.State("prod/api")); !bytes.Equal(is, was) {
				t.Fatalf("replayed:\n%s\nwas:\n%s", is, was)
			}
		}
	}
	t.Logf("rolled back without the hour before: %d of %d, with it: %d", backs[false], runs, backs[true])
	if backs[true] > 2 || backs[false] <= backs[true] {
		t.Errorf("the hour before changes nothing: %v", backs)
	}
}
