package service

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/lemnis/lemnis/pkg/events"
)

// expectRefusal waits for the answer to a claim, which has to be a refusal with a reason that begins
// like this.
func expectRefusal(t *testing.T, b *bus, claim, reason string) {
	t.Helper()
	answer := awaitEvent(t, b.js, "the answer to "+claim, "lifecycle.shop.plan.*.*.*", func(e events.Event) bool { return e.Cause == claim })
	if c, ok := answer.Content.(events.ClaimRefused); !ok || !strings.HasPrefix(c.Reason, reason) || strings.Contains(c.Reason, "goroutine") {
		t.Errorf("%s: answer %s %+v, want a refusal: %s", claim, answer.Type.Short(), answer.Content, reason)
	}
}

func expectFact(t *testing.T, b *bus, claim string) {
	t.Helper()
	answer := awaitEvent(t, b.js, "the answer to "+claim, "lifecycle.shop.plan.*.*.*", func(e events.Event) bool { return e.Cause == claim })
	if c, ok := answer.Content.(events.ClaimRefused); ok {
		t.Errorf("%s is refused: %s", claim, c.Reason)
	}
}

func mustClaim(t *testing.T, b *bus, id string, content any, key string) {
	t.Helper()
	if err := b.claim("shop", id, content, key); err != nil {
		t.Fatal(err)
	}
}

func update(summary string) events.TicketUpdated {
	return events.TicketUpdated{Ticket: events.Ticket{Summary: summary, Creator: "ann", URI: "/a"}}
}

// Whatever is wrong with a claim, or with the code that it meets: a dead letter with the reason, an
// answer for whoever waits, and everything else goes on, also after a restart.
func TestPoisonIsAnswered(t *testing.T) {
	const prefix = "it can not be handled, and is kept as a dead letter: "
	b := newBus(t)
	rules := itemRules()
	route, decide := rules.Route, rules.Decide
	rules.Route = func(p events.Project, e events.Event) []string {
		if c, ok := e.Content.(events.TicketUpdated); ok && c.Summary == "unroutable" {
			panic("lost")
		}
		return route(p, e)
	}
	rules.Decide = func(key string, s itemState, p events.Project, e events.Event) (events.Fact, bool) {
		if c, ok := e.Content.(events.TicketUpdated); ok && e.Kind == events.Claim {
			switch c.Summary {
			case "large":
				c.Summary = strings.Repeat("x", 1<<20)
				return events.Fact{Content: c}, true
			case "larger":
				c.Summary = strings.Repeat("x", 3<<20)
				return events.Fact{Content: c}, true
			case "unknown":
				return events.Fact{Content: struct{}{}}, true
			}
		}
		return decide(key, s, p, e)
	}
	def := Definition{Phase: events.Plan, Aggregates: []Aggregate{Of(rules), Of(boardRules())}}
	_, stop := running(t, b.host, def)
	mustClaim(t, b, "a", ticket("a"), "a")
	reasons := map[string]string{
		undecidable:  "item/a panics on ticket.updated: undecidable",
		unfoldable:   "item/a panics on folding ticket.updated: unfoldable",
		"unroutable": "routing ticket.updated panics: lost",
		"large":      "its fact can not be published: ",
		"larger":     "its fact can not be published: ",
		"unknown":    "item/a states a struct {}, which is no content type",
	}
	for id := range reasons {
		mustClaim(t, b, id, update(id), "a")
	}
	for id, reason := range reasons {
		expectRefusal(t, b, id, prefix+reason)
	}
	buried := map[string]string{}
	for _, m := range awaitLetters(t, b.js, len(reasons)) {
		buried[m.Headers().Get("ce-id")] = m.Headers().Get(HeaderReason)
	}
	for id, reason := range reasons {
		if !strings.HasPrefix(buried[id], reason) {
			t.Errorf("%s: dead letter %q, want %q", id, buried[id], reason)
		}
	}
	mustClaim(t, b, "next", update("fine"), "a")
	expectFact(t, b, "next")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := b.folds.Client().FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	s, _ := running(t, b.host, def)
	mustClaim(t, b, "after", update("fine"), "a")
	expectFact(t, b, "after")
	if got := s.Troubles(); len(got) > 0 {
		t.Errorf("troubles %v", got)
	}
}

func ready(s *Service) (int, string) {
	w := httptest.NewRecorder()
	health(s.host, []*Service{s}, NewRegistry(s.host, s)).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz", http.NoBody))
	return w.Code, w.Body.String()
}

// A version that can not fold what an earlier one has stated: its aggregate stops and says so, and a
// version that can goes on with it.
func TestAFactThatCanNotBeFoldedBreaksItsAggregateOnly(t *testing.T) {
	b := newBus(t)
	_, stop := running(t, b.host, proofDefinition())
	mustClaim(t, b, "a", ticket("a"), "a")
	mustClaim(t, b, "b", ticket("b"), "b")
	expectFact(t, b, "a")
	expectFact(t, b, "b")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	worse := itemRules()
	worse.Version = 2
	evolve := worse.Evolve
	worse.Evolve = func(s itemState, f events.Event) itemState {
		if f.Key == "a" {
			panic("what is this?")
		}
		return evolve(s, f)
	}
	for i := range 2 { // the second time from saved folds
		s, stop := running(t, b.host, Definition{Phase: events.Plan, Aggregates: []Aggregate{Of(worse), Of(boardRules())}})
		awaitOwner(t, s)
		mustClaim(t, b, fmt.Sprint("broken", i), update("x"), "a")
		expectRefusal(t, b, fmt.Sprint("broken", i), "it can not be handled, and is kept as a dead letter: nothing is decided for item/a: fact ")
		mustClaim(t, b, fmt.Sprint("sound", i), update("x"), "b")
		expectFact(t, b, fmt.Sprint("sound", i))
		if code, body := ready(s); code != http.StatusServiceUnavailable || !strings.Contains(body, "plan: item/a of shop is broken: fact ") {
			t.Errorf("readyz %d %s", code, body)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	}
	better := itemRules()
	better.Version = 2 // mended, and forgotten to raise it
	s, _ := running(t, b.host, Definition{Phase: events.Plan, Aggregates: []Aggregate{Of(better), Of(boardRules())}})
	mustClaim(t, b, "mended", update("x"), "a")
	expectFact(t, b, "mended")
	if code, body := ready(s); code != http.StatusOK {
		t.Errorf("readyz %d %s", code, body)
	}
}

// A fact that can not be read stops its partition: whose it is, and which claim it answers, is
// unknown. All others go on.
func TestAFactThatCanNotBeReadStopsItsPartitionOnly(t *testing.T) {
	b := newBus(t)
	s, stop := running(t, b.host, proofDefinition())
	mustClaim(t, b, "a", ticket("a"), "a")
	expectFact(t, b, "a")
	if _, err := b.js.PublishMsg(t.Context(), &nats.Msg{Subject: "lifecycle.shop.plan.ticket.updated.a", Data: []byte("{")}); err != nil {
		t.Fatal(err)
	}
	for i, when := range []string{"in the gap", "at the next start", "from saved folds"} {
		if i > 0 {
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			s, stop = running(t, b.host, proofDefinition())
			awaitOwner(t, s)
		}
		mustClaim(t, b, fmt.Sprint("stopped", i), update("x"), "a")
		expectRefusal(t, b, fmt.Sprint("stopped", i), fmt.Sprintf(
			"it can not be handled, and is kept as a dead letter: nothing is decided in partition %d of shop: fact ", events.Partition("a")))
		mustClaim(t, b, fmt.Sprint("sound", i), ticket("x"), fmt.Sprint("other", i))
		expectFact(t, b, fmt.Sprint("sound", i))
		if code, body := ready(s); code != http.StatusServiceUnavailable || !strings.Contains(body, "of shop is stopped: fact ") {
			t.Errorf("%s: readyz %d %s", when, code, body)
		}
	}
}

func TestAProjectionSurvivesItsApply(t *testing.T) {
	b := newBus(t)
	def := proofDefinition()
	seen := make(chan string, 10)
	def.Projections = []Projection{{Name: "items", On: []events.Type{events.TypeOf(events.TicketCreated{})}, Apply: func(e events.Event) {
		if e.Key == "a" {
			panic("no")
		}
		seen <- e.Key
	}}}
	_, _ = running(t, b.host, def)
	mustClaim(t, b, "a", ticket("a"), "a")
	mustClaim(t, b, "b", ticket("b"), "b")
	if got := <-seen; got != "b" {
		t.Errorf("the projection met %s", got)
	}
}

// However often another writer is faster: what meets conflicts is decided again, and is never taken for a fact whose id somebody
// else holds.
func TestConflictsAreNoStrangers(t *testing.T) {
	b := newBus(t)
	rival := neighbour("a")
	rivals := strangers + 2
	b.host.faults = &faults{crash: func(s step, cause *events.Event) bool {
		if s != stepDecided || cause.ID != "a" || rivals == 0 {
			return false
		}
		rivals--
		e := events.New("shop", rival, update("rival"))
		e.Source, e.Kind, e.Aggregate, e.Cause, e.CauseSequence = "/rival", events.Stated, "item", "a", cause.Sequence
		m, err := events.Encode(e)
		if err != nil {
			t.Error(err)
			return false
		}
		m.Subject = e.Subject(events.Stated)
		if _, err := b.js.PublishMsg(context.Background(), m); err != nil {
			t.Error(err)
		}
		return false
	}}
	s, stop := running(t, b.host, proofDefinition())
	mustClaim(t, b, "a", ticket("a"), "a")
	awaitEvent(t, b.js, "the fact", "lifecycle.shop.plan.*.*.*", func(e events.Event) bool { return e.Cause == "a" && e.Key == "a" })
	mustClaim(t, b, "b", update("b"), "a") // behind it, so that it is handled
	expectFact(t, b, "b")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if n := s.metrics.deadLetters.Load(); n != 0 || rivals != 0 {
		t.Errorf("%d dead letters, %d rivals to come; want none", n, rivals)
	}
}

// neighbour is another key of the same partition.
func neighbour(key string) string {
	for i := 0; ; i++ {
		if other := fmt.Sprint("n", i); events.Partition(other) == events.Partition(key) {
			return other
		}
	}
}

// A message that holds the id of a fact and is not that fact: the cause is put aside, and answered.
func TestAStrangerIsPutAside(t *testing.T) {
	b := newBus(t)
	mustClaim(t, b, "a", ticket("a"), "a")
	id := events.FactID(b.host.Stream, 1, "item", "shop", "a", events.TypeOf(events.TicketCreated{}))
	stranger := &nats.Msg{Subject: "results.other.plan.ticket.created.a", Header: nats.Header{headerMsgID: {"f/" + id}}}
	if _, err := b.js.PublishMsg(t.Context(), stranger); err != nil {
		t.Fatal(err)
	}
	_, _ = running(t, b.host, proofDefinition())
	expectRefusal(t, b, "a", "it can not be handled, and is kept as a dead letter: another message than the fact holds its id")
	for _, m := range awaitLetters(t, b.js, 2) { // the stranger itself can not be read
		if seq := m.Headers().Get(HeaderSequence); seq != "1" && seq != "2" {
			t.Errorf("dead letter of %s", seq)
		}
	}
}

func TestUnroutedClaimsLeaveNothingBehind(t *testing.T) {
	b := newBus(t)
	s, stop := running(t, b.host, proofDefinition())
	awaitOwner(t, s)
	const n = 300
	for i := range n {
		mustClaim(t, b, fmt.Sprint("u", i), events.ReleaseCompleted{Release: "1", Shipped: []string{}}, fmt.Sprint("r", i))
	}
	for i := range n {
		expectRefusal(t, b, fmt.Sprint("u", i), "nothing in the plan phase takes release.completed like this")
		if i > 3 {
			break
		}
	}
	mustClaim(t, b, "last", ticket("last"), "last")
	expectFact(t, b, "last")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	saved, err := b.folds.Load(t.Context(), s.newTerm(&lease{}).scope())
	if err != nil {
		t.Fatal(err)
	}
	aggregates := 0
	for _, p := range saved {
		aggregates += len(p.Fields)
	}
	if aggregates == 0 || aggregates > events.Partitions+2 {
		t.Errorf("%d aggregates are kept of %d refused claims", aggregates, n)
	}
}

func TestHealthListensOnLoopbackUnlessNamed(t *testing.T) {
	for addr, want := range map[string]string{
		":9090": "127.0.0.1:9090", "0.0.0.0:9090": "0.0.0.0:9090", "[::]:9090": "[::]:9090", "localhost:1": "localhost:1", "nonsense": "nonsense",
	} {
		if got := loopbackUnlessNamed(addr); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
}
