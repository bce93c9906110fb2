package deployer

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
)

// Who goes back is there once no user comes to the bad version any more. Its last requests, which a bad version may never answer, hold
// up neither that fact, for which what belongs together waits, nor another service's way back; then it is ended.
func TestTheWayBackDoesNotWaitForTheLastRequests(t *testing.T) {
	shelf := newShelf(t)
	p := testProject("prod")
	p.Environments[0].Canary.Deadline = events.Duration(time.Hour)
	p.Environments[0].Canary.Objective = 0.999
	const grace = 4 * time.Second
	d := start(t, p, Options{Grace: grace, Look: 100 * time.Millisecond})
	v1, v2 := shelf.put(t, "v1", "good"), shelf.put(t, "v2", "good")
	d.publish(v1)
	address := url(d.await(t, "v1", published("prod", v1.Digest)))
	d.publish(v2)
	d.await(t, "first step of v2", func(f events.Event) bool {
		c, ok := f.Content.(events.CanaryStepped)
		return ok && c.Weight < 1
	})
	pid := ""
	for i := 0; pid == ""; i++ { // the first user of v2 asks for what takes long
		ask := func(path string) *http.Response {
			request, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, address+path, nil)
			request.Header.Set("X-User", fmt.Sprint(i))
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			return response
		}
		response := ask("")
		body, err := io.ReadAll(response.Body)
		if _ = response.Body.Close(); err != nil {
			t.Fatal(err)
		}
		if _, of, ok := strings.Cut(string(body), "v2 "); ok {
			pid = of
			long := ask("/long")
			t.Cleanup(func() { _ = long.Body.Close() })
		}
	}
	d.stream.Put(events.Claim, "x", "bo", events.DeploymentAborted{Rollout: events.Rollout{Environment: "prod", Service: "api"}})
	began := time.Now()
	d.await(t, "rollback", is[events.ServiceRolledback])
	if took := time.Since(began); took > grace/2 {
		t.Errorf("users are back after %s", took)
	}
	for i := range 50 {
		if body := get(t, address+"/?"+fmt.Sprint(i)); !strings.HasPrefix(body, "v1 ") {
			t.Fatalf("a user sees %s", body)
		}
	}
	if !poll(func() bool { _, err := os.Stat("/proc/" + pid); return errors.Is(err, os.ErrNotExist) }) {
		t.Error("it runs on")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if slices.ContainsFunc(d.facts, is[events.DriftFound]) {
		t.Errorf("its end is held to be drift:\n%s", tale(d.facts))
	}
}

// What serves goes back while as many versions as are started at once take long to get healthy: it waits for none of them.
func TestTheWayBackDoesNotWaitForOtherStarts(t *testing.T) {
	b := newBus(t, time.Minute)
	const starting = 12 * time.Second
	data := t.TempDir()
	defer b.run(Options{Data: data, Grace: time.Second, StartTimeout: starting})()
	shelf := newShelf(t)
	b.configure(testProject("dev"))
	v1, v2 := shelf.put(t, "v1", "good"), shelf.put(t, "v2", "good")
	b.publish(v1)
	b.await("v1", published("dev", v1.Digest))
	b.publish(v2)
	bad := b.await("v2", published("dev", v2.Digest)).Content.(events.ServicePublished).Lemnis
	for i := range 4 {
		deaf := shelf.put(t, fmt.Sprint("deaf-", i), "deaf")
		deaf.Service = fmt.Sprint("other-", i)
		b.publish(deaf)
		b.await("start", is[events.DeploymentStarted])
	}
	if !poll(func() bool {
		records, _ := filepath.Glob(filepath.Join(data, "processes", "*.json"))
		return len(records) == 5
	}) {
		t.Fatal("they are not being started")
	}
	began := time.Now()
	b.state(events.Event{Project: "shop", Phase: events.Operate, Key: "i-1", SubjectID: "i-1", Content: events.IncidentDetected{
		Incident: events.Incident{Environment: events.Reference{ID: "dev"}, Service: &events.Reference{ID: "api"}},
		Lemnis:   events.IncidentDetail{Rollout: bad.Rollout.ID},
	}})
	b.await("rollback", is[events.ServiceRolledback])
	if took := time.Since(began); took > starting/2 {
		t.Errorf("users are back after %s", took)
	}
	if got := get(t, bad.URL); !strings.HasPrefix(got, "v1 ") {
		t.Errorf("users are served by %s", got)
	}
}
