package deployer

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
)

// A feature that few users use is broken in a new version: among all requests that is little, and its guard sees it.
func TestAGuardTakesAVersionBackThatBreaksAFeature(t *testing.T) {
	shelf := newShelf(t)
	p := testProject("prod")
	p.Features = []events.Feature{{Name: "search", Service: "api", Path: "/search"}, {Name: "other", Service: "web", Path: "/other"}}
	c := p.Environments[0].Canary
	c.Deadline, c.Guards = events.Duration(time.Minute), []string{"search", "other"}
	p.Environments[0].Canary.Objective = 0.5 // whole requests fail rarely enough
	d := start(t, p, Options{})
	v1, v2 := shelf.put(t, "v1", "good"), shelf.put(t, "v2", "sly")
	d.publish(v1)
	address := url(d.await(t, "v1", published("prod", v1.Digest)))
	crowd := traffic(address, 100)
	defer crowd.stop()
	searching, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	defer func() { stop(); <-done }()
	go func() { // one request of many is a search
		defer close(done)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for i := 0; searching.Err() == nil; i++ {
			request, _ := http.NewRequestWithContext(searching, http.MethodGet, address+"/search", http.NoBody)
			request.Header.Set("X-User", fmt.Sprint("user-", i%100))
			if response, err := http.DefaultClient.Do(request); err == nil {
				_ = response.Body.Close()
			}
			<-tick.C
		}
	}()
	d.publish(v2)
	judged := d.await(t, "verdict", is[events.CanaryJudged]).Content.(events.CanaryJudged)
	if judged.Verdict != events.Rollback {
		t.Fatalf("%+v", judged)
	}
	var seen events.CanaryPart
	for _, part := range judged.Parts {
		if strings.Contains(part.Name, "search") {
			seen = part
		}
		if strings.Contains(part.Name, "other") {
			t.Errorf("a feature of another service is judged: %+v", part)
		}
	}
	if seen.Canary != 1 || seen.Baseline != 0 {
		t.Errorf("parts %+v", judged.Parts)
	}
	t.Log(judged.Reason)
}
