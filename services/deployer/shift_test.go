package deployer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/deployer/keeper"
	"github.com/lemnis/lemnis/services/deployer/proxy"
	"github.com/lemnis/lemnis/services/deployer/rollout"
)

// A report whose answer is lost may be on the stream or not, and folded already or not: each request is counted once.
func TestATickWithoutAnAnswerCountsOnce(t *testing.T) {
	for _, test := range []struct {
		name           string
		landed, folded bool
		killed         bool // the deployer, before the answer
	}{
		{"lost on its way", false, false, false}, {"its answer is lost", true, false, false}, {"its answer is lost, and it is folded", true, true, false},
		{"lost on its way, and the deployer with it", false, false, true}, {"the deployer is killed before the answer", true, false, true},
		{"the deployer is killed before the answer, and it is folded", true, true, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			defer upstream.Close()
			c := keeper.Config{Folder: t.TempDir()}
			front, err := keeper.Attach(t.Context(), c, nil, func(keeper.Notice) {})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = front.Close(context.WithoutCancel(t.Context())) }() // the last one's
			where := at{"shop", "prod/api"}
			door, err := front.Open(t.Context(), where.String(), proxy.Config{Environment: "prod", Service: "api"})
			if err != nil {
				t.Fatal(err)
			}
			if err := front.Route(t.Context(), where.String(), proxy.Routes{
				Stable: proxy.Upstream{Version: "r1", URL: upstream.URL}, Canary: &proxy.Upstream{Version: "r2", URL: upstream.URL}, Weight: 0.5,
			}); err != nil {
				t.Fatal(err)
			}
			users := 0
			visit := func(n int) {
				for range n {
					users++
					request, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, door.URL, http.NoBody)
					request.Header.Set("X-User", fmt.Sprint("user-", users))
					response, err := http.DefaultClient.Do(request)
					if err != nil {
						t.Fatal(err)
					}
					_ = response.Body.Close()
				}
			}

			step := events.CanaryStepped{Rollout: events.Rollout{ID: "r2", Previous: &events.Instance{Rollout: "r1"}}, Step: 1, Weight: 0.5}
			state := rollout.State{Exposed: time.Now()}
			// The stream, as far as it counts: a tick that is not above the last changes nothing.
			var tick int
			var counted int64
			take := func(r service.Report) {
				if c, ok := r.Content.(events.CanaryObserved); ok && c.Tick > tick {
					tick = c.Tick
					counted += c.Canary.Requests + c.Baseline.Requests
				}
			}
			answers := false
			p := &place{mu: newLock(), at: where, front: front}
			observe := func(attempt uint64) error {
				job := service.NewJob(events.Event{}, events.Project{}, attempt, func(_ context.Context, r service.Report) error {
					if answers || test.landed {
						take(r)
					}
					if !answers {
						return errors.New("no answer in time")
					}
					return nil
				})
				return p.observe(t.Context(), job, step, state, time.Hour, nil)
			}
			if err := p.count(t.Context(), "r2", "r1", "r1", nil); err != nil {
				t.Fatal(err)
			}
			visit(20)
			if err := observe(1); err == nil {
				t.Fatal("the report got no answer, and nobody was told")
			}
			visit(30)
			if test.killed {
				if front, err = keeper.Attach(t.Context(), c, nil, func(keeper.Notice) {}); err != nil {
					t.Fatal(err)
				}
				p = &place{mu: newLock(), at: where, front: front}
				if err := json.Unmarshal(front.State().Doors[0].Note, &p.observed); err != nil {
					t.Fatal(err)
				}
			}
			answers = true
			if test.folded {
				state.Tick = tick
			}
			for range 2 {
				if err := observe(2); err != nil {
					t.Fatal(err)
				}
				state.Tick = tick
			}
			if counted != int64(users) || tick != 2 {
				t.Errorf("%d requests were counted in %d ticks, of %d that were sent", counted, tick, users)
			}
		})
	}
}
