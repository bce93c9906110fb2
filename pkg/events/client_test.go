package events_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/lemnis/lemnis/pkg/events"
)

// ticket is a fact about the nth work item.
func ticket(n int) events.Event {
	e := smallFact()
	e.ID, e.Key = fmt.Sprintf("fact-%d", n), fmt.Sprintf("T-%d", n)
	e.SubjectID = e.Key
	return e
}

// receive waits for one value, at most for some seconds.
func receive[T any](t testing.TB, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(10 * time.Second):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

func TestSubmit(t *testing.T) {
	srv := startServer(t)
	c := srv.client(t, events.WithSource("https://ci.example.org"))
	e := events.New("shop", "42", events.ChangeCreated{Description: "faster search", Lemnis: events.ChangeDetail{Repository: "api", Head: "4f0c"}})
	for range 2 { // the second changes nothing
		if err := c.Submit(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	inbox, err := srv.services.Stream(t.Context(), "SUBMIT_jenkins")
	if err != nil {
		t.Fatal(err)
	}
	if n := inbox.CachedInfo().State.Msgs; n != 1 {
		t.Fatalf("%d messages in the inbox", n)
	}
	m, err := inbox.GetMsg(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if m.Subject != "submit.jenkins.shop.develop.change.created" {
		t.Errorf("it is on %s", m.Subject)
	}
	got, _, err := events.DecodeMessage(m.Header, m.Data)
	if err != nil {
		t.Fatal(err)
	}
	e.Source = "https://ci.example.org"
	equal(t, e, got)

	for name, change := range map[string]struct {
		edit func(e *events.Event)
		want error
	}{
		"project":     {func(e *events.Event) { e.Project = "Shop!" }, events.ErrInvalidEvent},
		"subject":     {func(e *events.Event) { e.SubjectID = "" }, events.ErrInvalidEvent},
		"content":     {func(e *events.Event) { e.Content = "text" }, events.ErrInvalidEvent},
		"phase":       {func(e *events.Event) { e.Phase = "lunch" }, events.ErrInvalidEvent},
		"custom data": {func(e *events.Event) { e.Custom = []byte("{") }, events.ErrInvalidEvent},
		"internal":    {func(e *events.Event) { e.Content, e.Type = events.ClaimRefused{}, "" }, events.ErrNotClaimable},
		"over 1 MiB":  {func(e *events.Event) { e.Custom = []byte(`{"x":"` + strings.Repeat("x", 1<<20) + `"}`) }, events.ErrTooLarge},
	} {
		bad := e
		change.edit(&bad)
		if err := c.Submit(t.Context(), bad); !errors.Is(err, change.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	other, err := events.Connect("", events.WithPrincipal("other"), events.WithNATS(nats.InProcessServer(srv), nats.UserInfo("services", "s")))
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Submit(t.Context(), e); !errors.Is(err, events.ErrNoInbox) {
		t.Errorf("without an inbox: %v", err)
	}
	if err := errors.Join(other.Close(), other.Close()); err != nil {
		t.Error(err)
	}
	if err := other.Submit(t.Context(), e); !errors.Is(err, events.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	if _, err := events.Connect("", events.WithPrincipal("a.b")); err == nil {
		t.Error("a principal of two tokens was taken")
	}
}

// The same verdicts for subscriptions that the server remembers and that it does not.
func TestSubscribe(t *testing.T) {
	for name, opts := range map[string][]events.SubscribeOption{"ordered": nil, "durable": {events.Durable("ci")}} {
		t.Run(name, func(t *testing.T) {
			srv := startServer(t)
			c := srv.client(t)
			srv.state(t, ticket(0)) // before the subscription
			var mu sync.Mutex
			var log []string
			tries := map[string]int{}
			rejected, done := make(chan events.Event, 2), make(chan events.Event, 20)
			handle := func(_ context.Context, e events.Event) error {
				mu.Lock()
				defer mu.Unlock()
				log = append(log, e.ID)
				tries[e.ID]++
				switch {
				case e.ID == "fact-3" && tries[e.ID] < 3:
					return errors.New("not yet")
				case e.ID == "fact-5" && tries[e.ID] < 2:
					return events.Retry(time.Millisecond, errors.New("in a moment"))
				case e.ID == "fact-7":
					return events.Reject(errors.New("never"))
				}
				done <- e
				return nil
			}
			all := append([]events.SubscribeOption{}, opts...)
			all = append(all, events.Backoff(time.Millisecond, 5*time.Millisecond), events.OnReject(func(e events.Event, err error) {
				if err.Error() == "never" {
					rejected <- e
				}
			}))
			stop, err := c.Subscribe(t.Context(), events.Selector{Project: "shop", Phase: events.Plan}, handle, all...)
			if err != nil {
				t.Fatal(err)
			}
			other := ticket(99)
			other.Project = "else"
			srv.state(t, other)
			var want []string
			for i := 1; i <= 9; i++ {
				srv.state(t, ticket(i))
				id := fmt.Sprintf("fact-%d", i)
				want = append(want, id)
				switch i {
				case 3:
					want = append(want, id, id)
				case 5:
					want = append(want, id)
				}
			}
			for i := 1; i <= 9; i++ {
				if i == 7 {
					continue
				}
				e := receive(t, done)
				if e.ID != fmt.Sprintf("fact-%d", i) || e.Kind != events.Stated || e.Sequence == 0 || e.Stored.IsZero() {
					t.Errorf("fact %d: %+v", i, e)
				}
			}
			if e := receive(t, rejected); e.ID != "fact-7" {
				t.Errorf("rejected %+v", e)
			}
			stop()
			stop()
			mu.Lock()
			if fmt.Sprint(log) != fmt.Sprint(want) {
				t.Errorf("handled %v\nnot     %v", log, want)
			}
			mu.Unlock()

			// What is stated meanwhile comes when the subscription does again, if the server remembers it.
			srv.state(t, ticket(10))
			got := make(chan events.Event, 20)
			stop, err = c.Subscribe(t.Context(), events.Selector{Project: "shop", Phase: events.Plan}, func(_ context.Context, e events.Event) error {
				got <- e
				return nil
			}, all...)
			if err != nil {
				t.Fatal(err)
			}
			srv.state(t, ticket(11))
			first := "fact-11"
			if name == "durable" {
				first = "fact-10"
			}
			if e := receive(t, got); e.ID != first {
				t.Errorf("after a pause the first is %s", e.ID)
			}
			stop()
		})
	}
}

func TestSubscribeReportsTheUnreadable(t *testing.T) {
	srv := startServer(t)
	c := srv.client(t)
	type rejection struct {
		e   events.Event
		err error
	}
	rejected, done := make(chan rejection, 1), make(chan events.Event, 1)
	stop, err := c.Subscribe(t.Context(), events.Selector{}, func(_ context.Context, e events.Event) error {
		done <- e
		return nil
	}, events.Durable("ci"), events.OnReject(func(e events.Event, err error) { rejected <- rejection{e, err} }))
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	if _, err := srv.services.Publish(t.Context(), "lifecycle.shop.plan.ticket.eaten.x", []byte("?")); err != nil {
		t.Fatal(err)
	}
	srv.state(t, ticket(1))
	if r := receive(t, rejected); !errors.Is(r.err, events.ErrNoCloudEvent) || r.e.Sequence != 1 || r.e.Stored.IsZero() {
		t.Errorf("got %+v", r)
	}
	if e := receive(t, done); e.ID != "fact-1" {
		t.Errorf("got %+v", e)
	}
}

// Closing waits for the handler, whose event is then done and does not come again.
func TestCloseDrains(t *testing.T) {
	srv := startServer(t)
	c, err := srv.connect()
	if err != nil {
		t.Fatal(err)
	}
	began, finish := make(chan struct{}), make(chan struct{})
	if _, err := c.Subscribe(t.Context(), events.Selector{}, func(context.Context, events.Event) error {
		close(began)
		<-finish
		return nil
	}, events.Durable("ci"), events.From(1)); err != nil {
		t.Fatal(err)
	}
	srv.state(t, ticket(1))
	receive(t, began)
	srv.state(t, ticket(2))
	closed := make(chan error, 1)
	go func() { closed <- c.Close() }()
	select {
	case <-closed:
		t.Fatal("closed under the handler's feet")
	case <-time.After(20 * time.Millisecond):
	}
	close(finish)
	if err := receive(t, closed); err != nil {
		t.Error(err)
	}
	got := make(chan events.Event, 2)
	again := srv.client(t)
	if _, err := again.Subscribe(t.Context(), events.Selector{}, func(_ context.Context, e events.Event) error {
		got <- e
		return nil
	}, events.Durable("ci")); err != nil {
		t.Fatal(err)
	}
	if e := receive(t, got); e.ID != "fact-2" {
		t.Errorf("%s came", e.ID)
	}
}

// A handler that is waiting to try again does not hold up the end.
func TestStopWhileBackingOff(t *testing.T) {
	srv := startServer(t)
	c := srv.client(t)
	tried := make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(t.Context())
	stop, err := c.Subscribe(ctx, events.Selector{}, func(context.Context, events.Event) error {
		tried <- struct{}{}
		return errors.New("no")
	}, events.Backoff(time.Hour, time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	srv.state(t, ticket(1))
	receive(t, tried)
	cancel()
	stop()
}

func TestReplay(t *testing.T) {
	srv := startServer(t)
	c := srv.client(t)
	replay := func(sel events.Selector, from uint64) (ids []string) {
		t.Helper()
		for e, err := range c.Replay(t.Context(), sel, from) {
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, e.ID)
		}
		return ids
	}
	if ids := replay(events.Selector{}, 1); ids != nil {
		t.Errorf("an empty stream has %v", ids)
	}
	const n = 700 // more than one batch
	for i := 1; i <= n; i++ {
		srv.state(t, ticket(i))
	}
	ranked := largeFact()
	ranked.ID = "ranked"
	srv.state(t, ranked)
	if ids := replay(events.Selector{}, 0); len(ids) != n+1 || ids[0] != "fact-1" || ids[n] != "ranked" {
		t.Errorf("replayed %d", len(ids))
	}
	if ids := replay(events.Selector{Types: []events.Type{smallFact().Type}}, n-1); fmt.Sprint(ids) != "[fact-699 fact-700]" {
		t.Errorf("from a sequence: %v", ids)
	}
	if ids := replay(events.Selector{Project: "shop", Key: "T-17"}, 1); fmt.Sprint(ids) != "[fact-17]" {
		t.Errorf("of one aggregate: %v", ids)
	}
	if ids := replay(events.Selector{Types: []events.Type{ranked.Type, "dev.cdevents.ticket.closed.0.2.0"}}, 1); fmt.Sprint(ids) != "[ranked]" {
		t.Errorf("of two types: %v", ids)
	}
	if ids := replay(events.Selector{Project: "else"}, 1); ids != nil {
		t.Errorf("of another project: %v", ids)
	}
	if ids := replay(events.Selector{}, n+10); ids != nil {
		t.Errorf("beyond the end: %v", ids)
	}
	for e, err := range c.Replay(t.Context(), events.Selector{}, 1) {
		if err != nil || e.ID != "fact-1" {
			t.Errorf("%v, %v", e.ID, err)
		}
		break
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last error
	for _, err := range c.Replay(ctx, events.Selector{}, 1) {
		cancel()
		last = err
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("cancelled: %v", last)
	}
	for _, sel := range []events.Selector{{Project: "A"}, {Phase: "lunch"}, {Types: []events.Type{"ticket.created"}}} {
		if _, err := c.Subscribe(t.Context(), sel, nil); err == nil {
			t.Errorf("%+v was taken", sel)
		}
	}
	// No consumer stays behind.
	deadline := time.Now().Add(10 * time.Second)
	for {
		stream, err := srv.services.Stream(t.Context(), "LIFECYCLE")
		if err != nil {
			t.Fatal(err)
		}
		left := stream.CachedInfo().State.Consumers
		if left == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d consumers are left", left)
		}
	}
}

func TestNoLemnis(t *testing.T) {
	srv := startServer(t)
	if err := srv.services.DeleteStream(t.Context(), "LIFECYCLE"); err != nil {
		t.Fatal(err)
	}
	c := srv.client(t)
	if _, err := c.Subscribe(t.Context(), events.Selector{}, func(context.Context, events.Event) error { return nil }); !errors.Is(err, events.ErrNoLemnis) {
		t.Errorf("subscribe: %v", err)
	}
	for _, err := range c.Replay(t.Context(), events.Selector{}, 1) {
		if !errors.Is(err, events.ErrNoLemnis) {
			t.Errorf("replay: %v", err)
		}
	}
}
