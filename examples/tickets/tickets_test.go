package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/pkg/events/eventstest"
)

const patience = time.Minute

// tracker writes down what it is told.
func tracker(t *testing.T) (url string, told <-chan string) {
	t.Helper()
	all := make(chan string, 100)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		all <- r.Method + " " + r.URL.Path + " " + string(body)
	}))
	t.Cleanup(s.Close)
	return s.URL, all
}

// What goes back to the tracker, without a NATS server.
func TestTrackerIsTold(t *testing.T) {
	url, told := tracker(t)
	b := &bridge{http: http.DefaultClient, project: "shop", tracker: url}
	closed := events.TicketClosed{Resolution: "completed"}
	verdicts := eventstest.Deliver(t, b.tell,
		eventstest.Fact(events.ReleasePlanned{Release: "R1", Items: []events.Place{{Item: "T-1", Reason: "most value per cost"}}}),
		eventstest.Fact(events.ChangeMerged{Lemnis: events.MergeDetail{Item: "T-1", Commit: "9a8b"}}, eventstest.Key("42")),
		eventstest.Fact(closed, eventstest.Key("T-1")),
		eventstest.Fact(closed, eventstest.Key("T-2"), eventstest.CausedBy(eventstest.Claim(closed, eventstest.ID(ours+"d1")))),
	)
	for _, v := range verdicts {
		if v.Action != eventstest.Done {
			t.Errorf("%s: %s, %v", v.Event.Type.Short(), v.Action, v.Err)
		}
	}
	for _, want := range []string{
		`POST /tickets/T-1/comments {"text":"Planned for release R1: most value per cost"}`,
		`POST /tickets/T-1/comments {"text":"Change 42 is merged as 9a8b"}`,
		`PUT /tickets/T-1/state {"resolution":"completed","state":"closed"}`,
	} {
		if got := <-told; got != want {
			t.Errorf("%s, not %s", got, want)
		}
	}
	if len(told) != 0 {
		t.Errorf("the tracker is told what it said: %s", <-told)
	}
}

// A tracker's webhooks become facts of an installation, once each, and what is closed there comes back.
func TestBridge(t *testing.T) {
	program, httpURL, natsURL := startLemnis(t)
	url, told := tracker(t)
	b := &bridge{http: http.DefaultClient, project: "shop", tracker: url}
	if err := b.connect(t.Context(), natsURL); err != nil {
		t.Fatal(err)
	}
	defer b.client.Close()
	facts := make(chan string, 100)
	watcher, err := events.Connect(natsURL)
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.Close()
	types := []events.Type{events.TypeOf(events.TicketCreated{}), events.TypeOf(events.TicketClosed{})}
	if _, err := watcher.Subscribe(t.Context(), events.Selector{Project: "shop", Types: types}, func(_ context.Context, e events.Event) error {
		facts <- e.SubjectID + " " + e.Type.Short() + " " + e.Cause
		return nil
	}, events.From(1)); err != nil {
		t.Fatal(err)
	}
	next := func(from <-chan string) string {
		t.Helper()
		select {
		case s := <-from:
			return s
		case <-time.After(patience):
			t.Fatal("nothing comes")
			return ""
		}
	}
	hook := func(delivery, action, id string, want int) {
		t.Helper()
		w := httptest.NewRecorder()
		body := fmt.Sprintf(`{"delivery":%q,"action":%q,"ticket":{"id":%q,"title":"Search is slow","author":"ann","url":"https://tracker.example.org/%s","kind":"bug"}}`, delivery, action, id, id)
		b.hook(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/hook", strings.NewReader(body)))
		if w.Code != want {
			t.Errorf("%s %s: %d %s", action, id, w.Code, w.Body)
		}
	}
	hook("d1", "opened", "T-1", http.StatusAccepted)
	hook("d1", "opened", "T-1", http.StatusAccepted) // delivered twice
	hook("d2", "opened", "T-2", http.StatusAccepted)
	hook("d3", "praised", "T-2", http.StatusNoContent)
	hook("d4", "closed", "T-2", http.StatusAccepted)
	hook("", "opened", "T-3", http.StatusBadRequest)
	got := []string{next(facts), next(facts), next(facts)}
	slices.SortStableFunc(got, func(a, b string) int { return strings.Compare(a[:3], b[:3]) }) // facts of one ticket come in order, tickets in any
	if want := []string{"T-1 ticket.created tracker/d1", "T-2 ticket.created tracker/d2", "T-2 ticket.closed tracker/d4"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}

	closing := exec.CommandContext(t.Context(), program, "events", "publish", "ticket.closed", "--id", "T-1", "--resolution", "completed", "--event-id", "by-hand")
	closing.Env = append(os.Environ(), "LEMNIS_SERVER="+httpURL, "LEMNIS_PROJECT=shop")
	if out, err := closing.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got, want := next(facts), "T-1 ticket.closed by-hand"; got != want {
		t.Errorf("%s, not %s", got, want)
	}
	if got, want := next(told), `PUT /tickets/T-1/state {"resolution":"completed","state":"closed"}`; got != want {
		t.Errorf("%s, not %s", got, want)
	}
}

// startLemnis starts an installation in a process of its own.
func startLemnis(t *testing.T) (program, httpURL, natsURL string) {
	t.Helper()
	dir := t.TempDir()
	program = filepath.Join(dir, "lemnis")
	if out, err := exec.Command("go", "build", "-o", program, "../../cmd/lemnis").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	up := exec.Command(program, "up", "--data", filepath.Join(dir, "data"), "--http", "127.0.0.1:0", "--nats-listen", "127.0.0.1:0")
	stdout, err := up.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := up.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = up.Process.Signal(os.Interrupt)
		_ = up.Wait()
	})
	for lines := bufio.NewScanner(stdout); lines.Text() != "ready"; {
		if !lines.Scan() {
			t.Fatal("lemnis up ended")
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, "data", "addresses.json"))
	if err != nil {
		t.Fatal(err)
	}
	var at struct{ HTTP, NATS string }
	if err := json.Unmarshal(text, &at); err != nil {
		t.Fatal(err)
	}
	return program, at.HTTP, at.NATS
}
