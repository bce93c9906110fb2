package service

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/lemnis/lemnis/internal/fold"
	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/internal/natsd/natsdtest"
	"github.com/lemnis/lemnis/pkg/events"
)

// patience bounds every wait in these tests; a healthy run needs a fraction of it.
const patience = 30 * time.Second

// running starts a service and returns how to stop it; stop returns Run's error.
func running(t *testing.T, h Host, def Definition) (s *Service, stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s = New(h, def)
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	var once sync.Once
	var err error
	stop = func() error {
		once.Do(func() { cancel(); err = <-done })
		return err
	}
	t.Cleanup(func() { _ = stop() })
	select {
	case <-s.Ready():
	case <-time.After(patience):
		t.Fatal("the service is not ready")
	}
	return s, stop
}

// awaitEvent reads the stream from its beginning until an event satisfies the condition.
func awaitEvent(t *testing.T, js jetstream.JetStream, what string, filter string, is func(events.Event) bool) events.Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var found events.Event
	err := tail(ctx, js, zap.NewNop(), []string{filter}, 1, func(m Message) error {
		e, err := m.Event()
		if err != nil {
			return nil //nolint:nilerr // poison is part of some tests
		}
		if is(e) {
			found = e
			return errStop
		}
		return nil
	})
	if err != nil {
		t.Fatalf("waiting for %s: %v", what, err)
	}
	return found
}

// awaitLetters waits until there are n dead letters and returns them, the oldest first.
func awaitLetters(t *testing.T, js jetstream.JetStream, n int) []jetstream.Msg {
	t.Helper()
	c, err := js.OrderedConsumer(t.Context(), natsd.DeadLetter, jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	var letters []jetstream.Msg
	for len(letters) < n {
		m, err := c.Next(jetstream.FetchMaxWait(patience))
		if err != nil {
			t.Fatalf("waiting for dead letter %d: %v", len(letters)+1, err)
		}
		letters = append(letters, m)
	}
	return letters
}

// awaitOwner waits until the process decides.
func awaitOwner(t *testing.T, s *Service) {
	t.Helper()
	for deadline := time.Now().Add(patience); !s.Owns(); wait(t.Context(), time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the process does not own the phase")
		}
	}
}

func ticket(s string) events.TicketCreated {
	return events.TicketCreated{Ticket: events.Ticket{Summary: s, Creator: "ann", URI: "/" + s}}
}

func TestClaimsGetAnswers(t *testing.T) {
	b := newBus(t)
	_, _ = running(t, b.host, proofDefinition())
	for _, c := range []struct {
		id, key string
		content any
		want    string // reason of the refusal; empty for a fact
	}{
		{"new", "a", ticket("a"), ""},
		{"again", "a", ticket("a"), "it exists"},
		{"unknown", "b", events.TicketUpdated{Ticket: ticket("b").Ticket}, "it is not open"},
		{"unrouted", "c", events.ReleaseCompleted{Release: "1", Shipped: []string{}}, "nothing in the plan phase takes release.completed like this"},
		{"not open", "a", events.BacklogRanked{}, `nothing in the plan phase takes backlog.ranked like this`},
		{"internal", "a", events.DeadlineReached{}, ""},
	} {
		if c.id == "internal" {
			continue // the gateway knows no phase for it; TestBelief covers the rule
		}
		if err := b.claim("shop", c.id, c.content, c.key); err != nil {
			t.Fatal(err)
		}
		answer := awaitEvent(t, b.js, "the answer to "+c.id, "lifecycle.shop.plan.*.*.*", func(e events.Event) bool { return e.Cause == c.id })
		refused, isRefusal := answer.Content.(events.ClaimRefused)
		if isRefusal != (c.want != "") || c.id != "not open" && refused.Reason != c.want {
			t.Errorf("%s: answer %s %+v, want %q", c.id, answer.Type.Short(), answer.Content, c.want)
		}
		if len(answer.Links) == 0 || answer.Links[0].Context != c.id || answer.Chain != c.id {
			t.Errorf("%s: the answer is not tied to its claim: %+v", c.id, answer)
		}
	}
}

func TestBelief(t *testing.T) {
	project := events.DefaultProject("shop")
	project.Owners = map[events.Phase]string{events.Integrate: "jenkins"}
	project.Environments[2].Target, project.Environments[2].Outside = events.OutsideTarget, &events.Outside{Owner: "argocd"}
	for _, c := range []struct {
		content   any
		phase     events.Phase
		principal string
		believed  bool
	}{
		{ticket("a"), events.Plan, "anyone", true},
		{events.BacklogRanked{}, events.Plan, "anyone", false},
		{events.ChangeMerged{}, events.Integrate, "jenkins", true},
		{events.ChangeMerged{}, events.Integrate, "mallory", false},
		{events.DeadlineReached{}, events.Integrate, "jenkins", false},
		{events.ServiceDeployed{}, events.Deploy, "argocd", true},
		{events.ServiceDeployed{}, events.Deploy, "jenkins", false},
	} {
		e := events.Event{Type: events.TypeOf(c.content), Phase: c.phase, Principal: c.principal, Project: "shop"}
		if reason := unbelievable(project, e); (reason == "") != c.believed {
			t.Errorf("%s by %s: %q", e.Type.Short(), c.principal, reason)
		}
	}
}

func TestPoisonGoesToTheDeadLetter(t *testing.T) {
	b := newBus(t)
	rules := itemRules()
	decide := rules.Decide
	rules.Decide = func(key string, s itemState, p events.Project, e events.Event) (events.Fact, bool) {
		if key == "poison" {
			panic("boom")
		}
		return decide(key, s, p, e)
	}
	_, _ = running(t, b.host, Definition{Phase: events.Plan, Aggregates: []Aggregate{Of(rules), Of(boardRules())}})
	undecodable := &nats.Msg{Subject: "claims.shop.plan.ticket.created.x", Data: []byte("{"), Header: nats.Header{"ce-type": {"dev.cdevents.ticket.created.0.2.0"}, "ce-id": {"x"}, "ce-specversion": {"1.0"}, "ce-source": {"/x"}}}
	if _, err := b.js.PublishMsg(context.Background(), undecodable); err != nil {
		t.Fatal(err)
	}
	if err := b.claim("shop", "p", ticket("p"), "poison"); err != nil {
		t.Fatal(err)
	}
	if err := b.claim("shop", "ok", ticket("ok"), "ok"); err != nil {
		t.Fatal(err)
	}
	awaitEvent(t, b.js, "the fact behind the poison", "lifecycle.shop.plan.*.*.*", func(e events.Event) bool { return e.Cause == "ok" })
	letters := awaitLetters(t, b.js, 2)
	for i, want := range []string{"not a CDEvent: unexpected end of JSON input", "item/poison panics on ticket.created: boom"} {
		if got := letters[i].Headers().Get(HeaderReason); !strings.HasPrefix(got, want) {
			t.Errorf("dead letter %d: reason %q, want %q", i+1, got, want)
		}
	}
	expectRefusal(t, b, "p", "it can not be handled, and is kept as a dead letter: item/poison panics on ticket.created: boom")
}

// workDefinition lets an effect follow each new item and states its result.
func workDefinition(do func(context.Context, *Job) error) Definition {
	rules := itemRules()
	decide := rules.Decide
	rules.Decide = func(key string, s itemState, p events.Project, e events.Event) (events.Fact, bool) {
		if e.Kind == events.Result {
			if c, ok := e.Content.(events.TicketUpdated); ok {
				return events.Fact{Content: c}, true
			}
		}
		return decide(key, s, p, e)
	}
	return Definition{
		Phase: events.Plan, Aggregates: []Aggregate{Of(rules)},
		Effects: []Effect{{Name: "enrich", On: []events.Type{events.TypeOf(events.TicketCreated{})}, Do: do}},
	}
}

func TestEffectsAreTriedAgain(t *testing.T) {
	b := newBus(t)
	b.host.Timing = Timing{BackoffMin: 10 * time.Millisecond, AckWait: time.Second}
	var tries atomic.Int64
	_, _ = running(t, b.host, workDefinition(func(ctx context.Context, j *Job) error {
		switch tries.Add(1) {
		case 1:
			return errors.New("the other side is away")
		case 2:
			panic("a bug")
		case 3:
			return events.Retry(20*time.Millisecond, errors.New("not yet"))
		}
		c := events.TicketUpdated{Ticket: ticket("a").Ticket, UpdatedBy: fmt.Sprint(j.Attempt)}
		if err := j.Report(ctx, Report{Content: c}); err != nil {
			return err
		}
		return j.Report(ctx, Report{Content: c}) // the same result again is the same result
	}))
	if err := b.claim("shop", "a", ticket("a"), "a"); err != nil {
		t.Fatal(err)
	}
	fact := awaitEvent(t, b.js, "the effect's fact", "lifecycle.shop.plan.ticket.updated.*", func(e events.Event) bool { return true })
	if c := fact.Content.(events.TicketUpdated); c.UpdatedBy != "4" || fact.Attempt != 4 {
		t.Errorf("attempt %d, %+v", fact.Attempt, c)
	}
	if fact.Chain != "a" {
		t.Errorf("chain %q", fact.Chain)
	}
	results := 0
	err := tail(context.Background(), b.js, zap.NewNop(), []string{"results.shop.plan.ticket.*.*", "lifecycle.shop.plan.ticket.updated.*"}, 1, func(m Message) error {
		if m.Kind == events.Result {
			results++
		}
		if m.Pending == 0 {
			return errStop
		}
		return nil
	})
	if err != nil || results != 1 {
		t.Errorf("%d results, %v", results, err)
	}
}

func TestRejectedEffectGoesToTheDeadLetter(t *testing.T) {
	b := newBus(t)
	_, _ = running(t, b.host, workDefinition(func(context.Context, *Job) error { return events.Reject(errors.New("never")) }))
	sub, err := b.host.Conn.SubscribeSync("deadletter.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.claim("shop", "a", ticket("a"), "a"); err != nil {
		t.Fatal(err)
	}
	m, err := sub.NextMsg(patience)
	if err != nil {
		t.Fatal(err)
	}
	if m.Header.Get(HeaderReason) != "never" || m.Header.Get(HeaderAggregate) != "effect/enrich" || m.Header.Get(HeaderTries) != "1" {
		t.Errorf("%v", m.Header)
	}
}

// A result that the stream takes from nobody is tried once: whatever is done again, it stays too large.
func TestAResultThatIsTooLargeGoesToTheDeadLetter(t *testing.T) {
	b := newBus(t)
	b.host.Timing = Timing{BackoffMin: 10 * time.Millisecond, AckWait: time.Second}
	_, _ = running(t, b.host, workDefinition(func(ctx context.Context, j *Job) error {
		return j.Report(ctx, Report{Content: update(strings.Repeat("x", 2<<20))})
	}))
	mustClaim(t, b, "a", ticket("a"), "a")
	letter := awaitLetters(t, b.js, 1)[0].Headers()
	if letter.Get(HeaderAggregate) != "effect/enrich" || letter.Get(HeaderTries) != "1" || !strings.Contains(letter.Get(HeaderReason), "publish result ticket.updated: ") {
		t.Errorf("%v", letter)
	}
}

// timerDefinition gives each new item a deadline and closes it when that is reached.
func timerDefinition() Definition {
	rules := itemRules()
	decide, route := rules.Decide, rules.Route
	rules.Route = func(p events.Project, e events.Event) []string {
		if c, ok := e.Content.(events.DeadlineReached); ok {
			return []string{c.Key}
		}
		return route(p, e)
	}
	rules.Decide = func(key string, s itemState, p events.Project, e events.Event) (events.Fact, bool) {
		if _, ok := e.Content.(events.DeadlineReached); ok {
			return events.Fact{Content: events.TicketClosed{Ticket: ticket(key).Ticket, Resolution: "overdue"}}, !s.Closed
		}
		f, ok := decide(key, s, p, e)
		if _, created := f.Content.(events.TicketCreated); created {
			f.Timer = time.Second
		}
		return f, ok
	}
	return Definition{Phase: events.Plan, Aggregates: []Aggregate{Of(rules)}, Timers: []events.Type{events.TypeOf(events.TicketCreated{})}}
}

func TestThousandTimersFireOnceAcrossARestart(t *testing.T) {
	const n = 1000
	dir := t.TempDir()
	start := func() (*natsd.Server, *bus) {
		server, err := natsd.Start(natsd.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		nc, err := server.Connect()
		if err != nil {
			t.Fatal(err)
		}
		folds, err := fold.Embedded("")
		if err != nil {
			t.Fatal(err)
		}
		host, err := NewHost(context.Background(), nc, folds, 1, testLog())
		if err != nil {
			t.Fatal(err)
		}
		host.Instance = "one process after the other"
		t.Cleanup(func() { nc.Close(); _ = folds.Close(); server.Stop() })
		return server, &bus{server: server, js: host.JS, folds: folds, host: host}
	}
	server, b := start()
	_, stop := running(t, b.host, timerDefinition())
	for i := range n {
		if err := b.claim("shop", fmt.Sprintf("c%d", i), ticket("a"), fmt.Sprintf("item%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	// As soon as some have fired, everything restarts.
	awaitEvent(t, b.js, "the first firing", "results.shop.plan.lemnis-deadline.reached.*", func(events.Event) bool { return true })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	b.host.Conn.Close()
	server.Stop()
	_, b = start()
	_, _ = running(t, b.host, timerDefinition())
	fired, closed := map[string]int{}, map[string]int{}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := tail(ctx, b.js, zap.NewNop(), []string{"results.shop.plan.lemnis-deadline.reached.*", "lifecycle.shop.plan.ticket.closed.*"}, 1, func(m Message) error {
		e, err := m.Event()
		if err != nil {
			return err
		}
		if m.Kind == events.Result {
			fired[e.Key]++
		} else {
			closed[e.Key]++
		}
		if len(closed) == n && m.Pending == 0 {
			return errStop
		}
		return nil
	})
	if err != nil {
		t.Fatalf("%d fired, %d closed: %v", len(fired), len(closed), err)
	}
	for key, times := range fired {
		if times != 1 || closed[key] != 1 {
			t.Errorf("%s fired %d times and was closed %d times", key, times, closed[key])
		}
	}
}

func TestAStandbyTakesOver(t *testing.T) {
	for name, crash := range map[string]bool{"on a clean stop": false, "after a crash": true} {
		t.Run(name, func(t *testing.T) {
			b := newBus(t)
			var die atomic.Bool
			first := b.host
			first.Timing = Timing{Lease: 500 * time.Millisecond}
			first.faults = &faults{crash: func(step, *events.Event) bool { return die.Load() }}
			a, stop := running(t, first, proofDefinition())
			awaitOwner(t, a) // a slow machine makes it a standby at first
			second := b.host
			second.Timing = first.Timing
			s, _ := running(t, second, proofDefinition())
			if !a.Owns() || s.Owns() {
				t.Fatal("the first one does not own the phase alone")
			}
			if crash {
				die.Store(true)
			} else if err := stop(); err != nil {
				t.Fatal(err)
			}
			if err := b.claim("shop", "a", ticket("a"), "a"); err != nil {
				t.Fatal(err)
			}
			awaitEvent(t, b.js, "the standby's fact", "lifecycle.shop.plan.*.*.*", func(e events.Event) bool { return e.Cause == "a" })
			if !s.Owns() {
				t.Error("the standby does not own the phase")
			}
		})
	}
}

// Three servers, streams with three replicas: an owner is killed while claims come in, then the
// stream's leader is stopped. Nothing is lost and nothing is said twice.
func TestClusterKeepsThePromise(t *testing.T) {
	servers, err := natsdtest.StartCluster(t.TempDir(), 3)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		for _, s := range servers {
			s.Stop()
		}
	}()
	var urls string
	for _, s := range servers {
		urls += s.URL() + ","
	}
	connect := func() (*bus, func()) {
		nc, err := nats.Connect(urls[:len(urls)-1], append(servers[0].ServiceOptions(), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))...)
		if err != nil {
			t.Fatal(err)
		}
		folds, err := fold.Embedded("")
		if err != nil {
			t.Fatal(err)
		}
		host, err := NewHost(context.Background(), nc, folds, 3, testLog())
		if err != nil {
			t.Fatal(err)
		}
		host.Timing = Timing{Lease: time.Second}
		return &bus{js: host.JS, folds: folds, host: host}, func() { nc.Close(); _ = folds.Close() }
	}
	var die atomic.Bool
	ones, closeOnes := connect()
	defer closeOnes()
	ones.host.faults = &faults{crash: func(step, *events.Event) bool { return die.Load() }}
	others, closeOthers := connect()
	defer closeOthers()
	_, stopOnes := running(t, ones.host, proofDefinition())
	_, stopOthers := running(t, others.host, proofDefinition())
	outside, closeOutside := connect()
	defer closeOutside()
	const claims = 300
	for i := range claims {
		switch i {
		case claims / 3:
			die.Store(true)
		case 2 * claims / 3:
			stopLeader(t, outside.js, servers)
		}
		content, key := claimOf(i * 7)
		for deadline := time.Now().Add(patience); ; {
			err := outside.claim("shop", fmt.Sprintf("c%d", i), content, key)
			if err == nil {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
		}
	}
	var diff string
	for deadline := time.Now().Add(patience); ; wait(context.Background(), 50*time.Millisecond) {
		recorded, expected, _ := oracle(t, outside, proofDefinition(), "shop")
		if diff = difference(recorded, expected); diff == "" && len(recorded) > 0 || time.Now().After(deadline) {
			break
		}
	}
	if diff != "" {
		t.Errorf("%s", diff)
	}
	_ = stopOnes()
	if err := stopOthers(); err != nil {
		t.Error(err)
	}
}

func stopLeader(t *testing.T, js jetstream.JetStream, servers []*natsd.Server) {
	t.Helper()
	stream, err := js.Stream(context.Background(), natsd.Lifecycle)
	if err != nil {
		t.Fatal(err)
	}
	info, err := stream.Info(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range servers {
		if s.Name() == info.Cluster.Leader {
			s.Stop()
			return
		}
	}
	t.Fatalf("no server is named %q", info.Cluster.Leader)
}
