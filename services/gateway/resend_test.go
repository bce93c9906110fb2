package gateway_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/gateway"
	"github.com/lemnis/lemnis/services/gateway/access"
)

// resent is the answer of POST /api/v1/deadletters/{sequence}/resend.
type resent struct {
	Letter   uint64 `json:"letter"`
	ID       string `json:"id"`
	Sequence uint64 `json:"sequence"`
	Already  bool   `json:"already"`
	Detail   string `json:"detail"`
}

// resend sends a dead letter again and expects a status; headers may say who asks.
func (w *world) resend(want int, letter uint64, query string, headers ...string) (r resent) {
	w.t.Helper()
	resp, answer := w.send(http.MethodPost, fmt.Sprintf("/api/v1/deadletters/%d/resend%s", letter, query), "", headers...)
	if err := json.Unmarshal([]byte(answer), &r); err != nil || resp.StatusCode != want {
		w.t.Fatalf("%d, want %d: %s", resp.StatusCode, want, answer)
	}
	return r
}

// letters waits until there are n dead letters.
func (w *world) letters(n int, headers ...string) (l letters) {
	w.t.Helper()
	w.until(fmt.Sprintf("%d dead letters", n), func() bool {
		_, answer := w.send(http.MethodGet, "/api/v1/deadletters", "", headers...)
		if err := json.Unmarshal([]byte(answer), &l); err != nil {
			w.t.Fatal(err)
		}
		return len(l.DeadLetters) >= n
	})
	return l
}

// faulty runs a planner that can not decide on tickets that say "poison", until it is mended.
func (w *world) faulty(mended *atomic.Bool) {
	w.t.Helper()
	s := service.New(w.host, service.Definition{Phase: events.Plan, Aggregates: []service.Aggregate{service.Of(service.Rules[int]{
		Kind: "item", Version: 1,
		Route:  func(_ events.Project, e events.Event) []string { return []string{e.Key} },
		Evolve: func(s int, _ events.Event) int { return s + 1 },
		Decide: func(_ string, _ int, _ events.Project, e events.Event) (events.Fact, bool) {
			c, ok := e.Content.(events.TicketCreated)
			if c.Summary == "poison" && !mended.Load() {
				panic("boom")
			}
			return events.Fact{Content: c}, ok
		},
	})}})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := s.Run(ctx); err != nil {
			w.t.Errorf("planner: %v", err)
		}
	})
	w.t.Cleanup(func() { cancel(); running.Wait() })
	<-s.Ready()
}

// answersTo are the types of the facts that a claim led to, in order, up to a claim that was made behind it.
func (w *world) answersTo(claim string) (types []string) {
	w.t.Helper()
	last := w.claim(ticket("behind-"+claim+fmt.Sprint(len(w.letters(0).DeadLetters)), "x"))
	w.until("what is behind is answered", func() bool {
		var p struct {
			Events []struct{ Causationid, Type, Kind string }
		}
		w.get("/events?project=shop&limit=1000", &p)
		types = nil
		done := false
		for _, e := range p.Events {
			done = done || e.Causationid == last.ID
			if e.Kind == "fact" && e.Causationid == claim {
				types = append(types, e.Type)
			}
		}
		return done
	})
	return types
}

// A claim that was refused with a dead letter gets its real fact when a version that can handle it is there: once, however
// often and by whomever it is sent again, also by a gateway that remembers nothing.
func TestADeadLetterIsSentAgainOnce(t *testing.T) {
	w := newWorld(t)
	var mended atomic.Bool
	w.faulty(&mended)
	claimed := w.claim(ticket("p", "poison"))
	letter := w.letters(1).DeadLetters[0]
	if letter.Where != "plan" || letter.ID != claimed.ID || letter.Origin != claimed.Sequence {
		t.Fatalf("dead letter %+v", letter)
	}
	mended.Store(true)
	once := w.resend(200, letter.Sequence, "")
	e, _, subject := w.stored(once.Sequence)
	c, ok := e.Content.(events.DeadLetterResent)
	if !ok || c.Origin != claimed.Sequence || c.Event != claimed.ID || c.By != "local" || e.Principal != "local" || !strings.HasPrefix(subject, "claims.shop.plan.") {
		t.Errorf("on %s: %+v", subject, e)
	}
	if twice := w.resend(200, letter.Sequence, ""); !twice.Already || twice.Sequence != once.Sequence {
		t.Errorf("sent again twice: %+v", twice)
	}
	w.stop()
	w.start()
	if later := w.resend(200, letter.Sequence, ""); !later.Already || later.Sequence != once.Sequence {
		t.Errorf("sent again by another gateway: %+v", later)
	}
	want := "dev.cdeventsx.lemnis-claim.refused.0.1.0 dev.cdevents.ticket.created.0.2.0"
	if got := strings.Join(w.answersTo(claimed.ID), " "); got != want {
		t.Errorf("answers %s, want %s", got, want)
	}
	if more := w.resend(200, letter.Sequence, "?again=x"); more.Already || more.Sequence == once.Sequence {
		t.Errorf("another time: %+v", more)
	}
	if more := w.resend(200, letter.Sequence, "?again=x"); !more.Already {
		t.Errorf("the same other time: %+v", more)
	}
	w.resend(404, 4711, "")
	w.resend(400, 0, "")
}

// What is no event stays a dead letter with its reason.
func TestAMalformedDeadLetterStays(t *testing.T) {
	w := newWorld(t)
	js := w.submitter()
	w.submit(js, "submit.local.shop", "hello")
	f := sourced(events.New("shop", "f", events.FeedbackReceived{User: "ann", Text: []byte("so slow"), Key: "k"}))
	w.submit(js, "submit.local.shop", structured(t, f))
	for _, l := range w.letters(2).DeadLetters {
		if r := w.resend(map[uint64]int{1: 400, 2: 409}[l.Sequence], l.Sequence, ""); r.Detail == "" {
			t.Errorf("%+v", r)
		}
	}
	if got := w.letters(2).DeadLetters; len(got) != 2 || got[0].Reason == "" {
		t.Errorf("left %+v", got)
	}
}

// What an inbox refused passes the same checks again, with the rights that its principal has now; who sent it again is on
// the stream.
func TestAnInboxsDeadLetter(t *testing.T) {
	var granted atomic.Bool
	c := newClosed(t, func(o *gateway.Options) {
		o.Principals = func() ([]access.Identity, error) {
			of := "publish@other"
			if granted.Load() {
				of = "publish@shop"
			}
			return []access.Identity{{Principal: "jenkins", Scopes: scopes(t, of)}}, nil
		}
	})
	admin := []string{"Authorization", "Bearer " + c.text["admin"]}
	c.until("the inbox is there", func() bool {
		_, err := c.host.JS.Publish(t.Context(), "submit.jenkins.x", []byte(structured(t, ticket("a", "x"))))
		return err == nil
	})
	l := c.letters(1, admin...).DeadLetters[0]
	if l.Where != "inbox-jenkins" || !strings.Contains(l.Reason, "publish:plan@shop") {
		t.Fatalf("dead letter %+v", l)
	}
	if r := c.resend(403, l.Sequence, "", admin...); !strings.Contains(r.Detail, "jenkins may not") {
		t.Errorf("still without the right: %+v", r)
	}
	granted.Store(true)
	for i := range 2 {
		if r := c.resend(200, l.Sequence, "", admin...); r.Already != (i == 1) {
			t.Errorf("time %d: %+v", i, r)
		}
	}
	said, claims := 0, 0
	c.until("it is on the stream", func() bool {
		said, claims = 0, 0
		end, err := service.LastSequence(t.Context(), c.host)
		if err != nil {
			t.Fatal(err)
		}
		for at := uint64(1); at <= end; at++ {
			switch e, _, subject := c.stored(at); e.Content.(type) {
			case events.DeadLetterResent:
				said++
				if e.Principal != "admin" || !strings.HasPrefix(subject, "claims._.") {
					t.Errorf("sent again by %q on %s", e.Principal, subject)
				}
			case events.TicketCreated:
				claims++
				if e.Principal != "jenkins" || e.Kind == events.Stated {
					t.Errorf("claimed by %q", e.Principal)
				}
			}
		}
		return claims > 0
	})
	if said != 1 || claims != 1 {
		t.Errorf("%d times sent again, %d claims", said, claims)
	}
}

// What a sink refused is delivered to it after all, to that subscription alone.
func TestASubscriptionsDeadLetter(t *testing.T) {
	w := newWorld(t, openSinks)
	var mended atomic.Bool
	var got atomic.Int64
	sink := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("WebHook-Allowed-Origin", "*")
		switch {
		case r.Method != http.MethodPost:
		case !mended.Load():
			rw.WriteHeader(http.StatusBadRequest)
		default:
			got.Add(1)
		}
	}))
	defer sink.Close()
	resp, body := w.send(http.MethodPost, "/subscriptions", `{"protocol":"HTTP","sink":"`+sink.URL+`","config":{"project":"shop"}}`, "Content-Type", "application/json")
	if resp.StatusCode != http.StatusCreated {
		t.Fatal(body)
	}
	path := resp.Header.Get("Location")
	w.state(fact("shop", "t1", events.Plan, ticket("t1", "x").Content))
	l := w.letters(1).DeadLetters[0]
	if l.Where != "subscriptions" {
		t.Fatalf("dead letter %+v", l)
	}
	mended.Store(true)
	w.resend(200, l.Sequence, "")
	w.until("it is delivered", func() bool { return got.Load() == 1 })
	if r := w.resend(200, l.Sequence, ""); !r.Already {
		t.Errorf("sent again twice: %+v", r)
	}
	w.state(fact("shop", "t2", events.Plan, ticket("t2", "x").Content))
	w.until("the next is delivered", func() bool {
		var one subscribed
		w.get(path, &one)
		return one.Status.Delivered == 2
	})
	if n := got.Load(); n != 2 {
		t.Errorf("%d deliveries", n)
	}
	w.send(http.MethodDelete, path, "")
	if r := w.resend(409, l.Sequence, "?again=x"); !strings.Contains(r.Detail, "no subscription") {
		t.Errorf("of a subscription that is gone: %+v", r)
	}
}

// A sink that refuses once more makes another dead letter, at once too, which can be sent again in its turn.
func TestASubscriptionsDeadLetterFailsAgain(t *testing.T) {
	w := newWorld(t, openSinks)
	sink := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("WebHook-Allowed-Origin", "*")
		if r.Method == http.MethodPost {
			rw.WriteHeader(http.StatusBadRequest)
		}
	}))
	defer sink.Close()
	resp, body := w.send(http.MethodPost, "/subscriptions", `{"protocol":"HTTP","sink":"`+sink.URL+`","config":{"project":"shop"}}`, "Content-Type", "application/json")
	if resp.StatusCode != http.StatusCreated {
		t.Fatal(body)
	}
	w.state(fact("shop", "t1", events.Plan, ticket("t1", "x").Content))
	first := w.letters(1).DeadLetters[0]
	w.resend(200, first.Sequence, "")
	second := w.letters(2).DeadLetters[1]
	if second.Origin != first.Origin || second.ID != first.ID {
		t.Errorf("%+v, then %+v", first, second)
	}
	if r := w.resend(200, second.Sequence, ""); r.Already {
		t.Errorf("the second was not sent again yet: %+v", r)
	}
	w.letters(3)
}

func TestDeadLettersAreFound(t *testing.T) {
	w := newWorld(t)
	js := w.submitter()
	for _, e := range []events.Event{ticket("a", "x"), ticket("b", "x")} {
		e.Project = "No!"
		body, err := e.AppendBody(nil)
		if err != nil {
			t.Fatal(err)
		}
		w.submit(js, "submit.local.shop", string(body), "ce-specversion", "1.0", "ce-type", string(e.Type), "ce-id", e.ID, "ce-source", "/test", "ce-project", "No!", "content-type", "application/json")
	}
	all := w.letters(2).DeadLetters
	for query, want := range map[string]int{
		"?id=" + all[1].ID: 1, "?id=nobody": 0, "?type=ticket.created": 2, "?type=ticket.closed": 0, "?since=1h": 2, "?since=0s": 0,
		"?since=2020-01-01T00:00:00Z": 2, "?project=shop": 0, "?id=" + all[0].ID + "&type=ticket.created": 1,
	} {
		var l letters
		if w.get("/api/v1/deadletters"+query, &l); len(l.DeadLetters) != want {
			t.Errorf("%s: %d, want %d", query, len(l.DeadLetters), want)
		}
	}
	for _, query := range []string{"?since=yesterday", "?type=nothing", "?what=x"} {
		if resp, answer := w.send(http.MethodGet, "/api/v1/deadletters"+query, ""); resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %d %s", query, resp.StatusCode, answer)
		}
	}
}
