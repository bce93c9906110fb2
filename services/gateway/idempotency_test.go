package gateway_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/pkg/events"
)

// shortMemory lets the stream forget message ids soon.
func (w *world) shortMemory() {
	w.t.Helper()
	s, err := w.host.JS.Stream(w.t.Context(), natsd.Lifecycle)
	if err != nil {
		w.t.Fatal(err)
	}
	cfg := s.CachedInfo().Config
	cfg.Duplicates = 100 * time.Millisecond
	if _, err := w.host.JS.UpdateStream(w.t.Context(), cfg); err != nil {
		w.t.Fatal(err)
	}
}

// forgotten waits until the stream takes a message id again that came after all others.
func (w *world) forgotten() {
	w.t.Helper()
	e := fact("shop", "probe", events.Plan, events.TicketCreated{})
	m, err := events.Encode(e)
	if err != nil {
		w.t.Fatal(err)
	}
	m.Subject = e.Subject(events.Stated)
	first := true
	w.until("the stream forgets", func() bool {
		ack, err := w.host.JS.PublishMsg(w.t.Context(), m, jetstream.WithMsgID("probe"))
		if err != nil {
			w.t.Fatal(err)
		}
		again := !first && !ack.Duplicate
		first = false
		return again
	})
}

// claims counts the claims on the stream.
func (w *world) claims() uint64 {
	w.t.Helper()
	s, err := w.host.JS.Stream(w.t.Context(), natsd.Lifecycle)
	if err != nil {
		w.t.Fatal(err)
	}
	info, err := s.Info(w.t.Context(), jetstream.WithSubjectFilter("claims.>"))
	if err != nil {
		w.t.Fatal(err)
	}
	var n uint64
	for _, of := range info.State.Subjects {
		n += of
	}
	return n
}

// A claim is known again by principal, source and id when the stream has forgotten it: by the same gateway, by one that was
// started later, after the store was wiped, and when it comes through another door. It never is one twice.
func TestClaimsAreIdempotentForEver(t *testing.T) {
	w := newWorld(t)
	w.shortMemory()
	e := ticket("t1", "Search is slow")
	first := w.claim(e)
	if first.Duplicate {
		t.Fatalf("%+v", first)
	}
	same := func(when string) {
		t.Helper()
		got := w.claim(e)
		want := first
		want.Duplicate = true
		if got != want {
			t.Errorf("%s: %+v, not %+v", when, got, want)
		}
	}
	same("at once")
	w.forgotten()
	same("by the same gateway")

	w.stop()
	w.start()
	same("by another gateway")

	if err := w.folds.Client().FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	whole := structured(t, e)
	w.until("the index is built anew", func() bool {
		resp, answer := w.send(http.MethodPost, "/events", whole, "Content-Type", "application/cloudevents+json")
		if resp.StatusCode == http.StatusServiceUnavailable {
			if resp.Header.Get("Retry-After") == "" {
				t.Errorf("no Retry-After: %s", answer)
			}
			return false
		}
		return true
	})
	same("after a wipe")

	js := w.submitter()
	w.submit(js, "submit.local.shop", whole)
	w.submit(js, "submit.local.shop", structured(t, ticket("t2", "x")))
	w.until("the inbox is read", func() bool { return w.claims() == 2 })
	same("from the inbox")
	if n := w.claims(); n != 2 {
		t.Errorf("%d claims", n)
	}
	other := e
	other.Source = "/other"
	if got := w.claim(other); got.Duplicate {
		t.Errorf("another source: %+v", got)
	}
}

// While nobody can say whether a claim is a new one, none is taken.
func TestNoClaimWithoutAMemory(t *testing.T) {
	w := newWorld(t)
	w.claim(ticket("t1", "x"))
	if err := w.folds.Client().Close(); err != nil {
		t.Fatal(err)
	}
	resp, answer := w.send(http.MethodPost, "/events", structured(t, ticket("t2", "x")), "Content-Type", "application/cloudevents+json")
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("%d %s", resp.StatusCode, answer)
	}
	if n := w.claims(); n != 1 {
		t.Errorf("%d claims", n)
	}
}

// All types that CDEvents publishes are taken, each mode after the other, and found again with equal data.
func TestAllOfCDEvents(t *testing.T) {
	dir := os.Getenv("LEMNIS_CASES")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "cases", "cdevents")
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Skip("SKIPPED: the official CDEvents examples are not here; LEMNIS_CASES names the folder that has them")
	}
	if len(files) != 45 {
		t.Errorf("%d examples, not 45", len(files))
	}
	w := newWorld(t)
	types := map[events.Type]bool{}
	published := map[string]any{}
	for i, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		e, err := events.DecodeBody(text)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		types[e.Type] = true
		// They all have one id, by which they would be one event.
		text = []byte(strings.Replace(string(text), `"`+e.ID+`"`, `"`+filepath.Base(file)+`"`, 1))
		e.ID = filepath.Base(file)
		var data any
		if err := json.Unmarshal(text, &data); err != nil {
			t.Fatal(err)
		}
		published[e.ID] = data
		envelope := map[string]any{
			"specversion": "1.0", "id": e.ID, "source": e.Source, "type": e.Type, "project": "shop", "datacontenttype": "application/json", "data": json.RawMessage(text),
		}
		whole, err := json.Marshal(envelope)
		if err != nil {
			t.Fatal(err)
		}
		var resp *http.Response
		var answer string
		switch i % 3 {
		case 0:
			resp, answer = w.send(http.MethodPost, "/events", string(whole), "Content-Type", "application/cloudevents+json")
		case 1:
			resp, answer = w.send(http.MethodPost, "/events", string(text), "Content-Type", "application/json",
				"ce-specversion", "1.0", "ce-id", e.ID, "ce-source", e.Source, "ce-type", string(e.Type), "ce-project", "shop")
		case 2:
			resp, answer = w.send(http.MethodPost, "/events", "["+string(whole)+"]", "Content-Type", "application/cloudevents-batch+json")
		}
		if resp.StatusCode != http.StatusAccepted {
			t.Errorf("%s: %d %s", filepath.Base(file), resp.StatusCode, answer)
		}
	}
	if len(types) != 45 {
		t.Errorf("%d types", len(types))
	}
	var p page
	w.get("/events?limit=1000", &p)
	if len(p.Events) != len(files) {
		t.Fatalf("%d events are found", len(p.Events))
	}
	for _, found := range p.Events {
		id, _ := found["id"].(string)
		if want := published[id]; want == nil || !reflect.DeepEqual(found["data"], want) {
			t.Errorf("%s: %v, not %v", id, found["data"], want)
		}
		delete(published, id)
	}
	if len(published) > 0 {
		t.Errorf("not found: %v", published)
	}
}
