package integration_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"github.com/lemnis/lemnis/cmd/lemnis/api"
	"github.com/lemnis/lemnis/pkg/events"
)

// The program is killed in the middle of a build and in the middle of two canaries, and started again on the same data: the
// lap goes on and closes, and each fact is there once.
func TestLapOverKills(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED in short mode: takes a minute, so nothing was killed")
	}
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	data, port := t.TempDir(), freePort(t)
	url := fmt.Sprintf("http://127.0.0.1:%d", port)
	again := func() *program {
		return start(t, filepath.Join(dir, "lemnis"), nil, "up", "--data", data, "--http", fmt.Sprintf("127.0.0.1:%d", port), "--nats-listen", "127.0.0.1:0")
	}
	running := again()
	answers(t, url+"/readyz", running)

	s := shop(t)
	moments := []struct {
		name string
		is   func(events.Event) bool
	}{
		{"while the baseline is built", func(e events.Event) bool {
			c, ok := e.Content.(events.BuildStarted)
			return ok && c.Lemnis.Merge.Change == ""
		}},
		{"while the first change is tested", func(e events.Event) bool {
			c, ok := e.Content.(events.PipelineRunStarted)
			return ok && c.Lemnis.Merge.Change == s.Good.ID
		}},
		{"in the middle of the first change's canary", func(e events.Event) bool { c, ok := e.Content.(events.CanaryObserved); return ok && c.Tick == 2 }},
		{"as the verdict on the second change falls", func(e events.Event) bool {
			c, ok := e.Content.(events.CanaryJudged)
			return ok && c.Verdict == events.Rollback
		}},
	}
	watching, stop := context.WithCancel(t.Context())
	var killer sync.WaitGroup
	killed := 0
	killer.Go(func() {
		client := api.New(url)
		defer client.Close()
		err := client.Follow(watching, api.Query{Project: s.Project.Name}, func(e events.Event) error {
			if killed == len(moments) || e.Kind != events.Stated || !moments[killed].is(e) {
				return nil
			}
			t.Logf("kill -9 %s", moments[killed].name)
			killed++
			running.kill()
			running = again()
			return nil
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("watching for the moment to kill: %v", err)
		}
	})
	result := turn(t, url, s)
	stop()
	killer.Wait()
	if killed != len(moments) {
		t.Errorf("killed %d times, want %d", killed, len(moments))
	}
	eachFactOnce(t, result.Events)
}
