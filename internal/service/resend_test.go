package service

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"github.com/lemnis/lemnis/pkg/events"
)

// factsOf are the facts that an original and what was sent again of it led to, as "aggregate type".
func factsOf(t *testing.T, b *bus, cause string) (out []string) {
	t.Helper()
	err := tail(t.Context(), b.js, zap.NewNop(), []string{"lifecycle.shop.plan.*.*.*", "claims.shop.plan.*.*.*"}, 1, func(m Message) error {
		e, err := m.Event()
		if err == nil && e.Kind == events.Stated && e.Cause == cause {
			out = append(out, e.Aggregate+" "+e.Type.Short())
		}
		if m.Pending == 0 {
			return errStop
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// mustPut is mustClaim, and says where the claim stands.
func mustPut(t *testing.T, b *bus, id string, content any, key string) uint64 {
	t.Helper()
	at, err := b.put("shop", id, content, key)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// A claim that a version could not handle gets its real fact when a mended version is there and the dead letter is sent
// again; the aggregates that could handle it before do not meet it twice.
func TestAMendedVersionAnswersWhatIsSentAgain(t *testing.T) {
	b := newBus(t)
	watch := Of(Rules[int]{ // states a fact for each claim, and is not at fault
		Kind: "watch", Version: 1,
		Route: func(_ events.Project, e events.Event) []string {
			if e.Kind == events.Claim {
				return []string{e.Key}
			}
			return nil
		},
		Evolve: func(n int, _ events.Event) int { return n + 1 },
		Decide: func(_ string, n int, _ events.Project, e events.Event) (events.Fact, bool) {
			return events.Fact{Content: events.ValueEstimated{Item: e.Key, Value: float64(n)}}, true
		},
	})
	faulty := itemRules()
	decide := faulty.Decide
	faulty.Decide = func(key string, s itemState, p events.Project, e events.Event) (events.Fact, bool) {
		if key == "poison" {
			panic("boom")
		}
		return decide(key, s, p, e)
	}
	_, stop := running(t, b.host, Definition{Phase: events.Plan, Aggregates: []Aggregate{Of(faulty), watch}})
	origin := mustPut(t, b, "p", ticket("p"), "poison")
	letter := awaitLetters(t, b.js, 1)[0]
	if got := letter.Headers().Get(HeaderAggregate); got != "item/poison" || letter.Headers().Get(HeaderSequence) != formatUint(origin) {
		t.Fatalf("dead letter of %s for %s", letter.Headers().Get(HeaderSequence), got)
	}
	if err := b.resend("shop", "too soon", origin, "item/poison"); err != nil {
		t.Fatal(err)
	}
	again := awaitLetters(t, b.js, 2)[1]
	if again.Headers().Get("ce-id") != "p" || again.Headers().Get("ce-principal") != "local" || !strings.Contains(again.Headers().Get(HeaderReason), "boom") {
		t.Errorf("the second dead letter is %v", again.Headers())
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	_, _ = running(t, b.host, Definition{Phase: events.Plan, Aggregates: []Aggregate{Of(itemRules()), watch}})
	if err := b.resend("shop", "mended", origin, "item/poison"); err != nil {
		t.Fatal(err)
	}
	mustClaim(t, b, "behind", ticket("x"), "poison") // all before it is handled when it is: one aggregate, one partition
	expectRefusal(t, b, "behind", "it exists")
	want := "watch value.estimated, item claim.refused, item claim.refused, item ticket.created"
	got := factsOf(t, b, "p")
	if len(got) != 4 || got[3] != "item ticket.created" || strings.Count(strings.Join(got, ","), "watch") != 1 {
		t.Errorf("facts of p: %v, want %s", got, want)
	}
}

// A message that can not be read is not read the second time either: it stays a dead letter, and who asked is told.
func TestWhatCanNotBeReadStaysADeadLetter(t *testing.T) {
	b := newBus(t)
	_, _ = running(t, b.host, proofDefinition())
	ack, err := b.js.PublishMsg(t.Context(), &nats.Msg{Subject: "claims.shop.plan.ticket.created.x", Data: []byte("{")})
	if err != nil {
		t.Fatal(err)
	}
	if reason := awaitLetters(t, b.js, 1)[0].Headers().Get(HeaderReason); !strings.Contains(reason, "ce-type") {
		t.Errorf("reason %q", reason)
	}
	for id, origin := range map[string]uint64{"unreadable": ack.Sequence, "nowhere": 4711} {
		if err := b.resend("shop", id, origin, ""); err != nil {
			t.Fatal(err)
		}
	}
	const kept = "it can not be handled, and is kept as a dead letter: "
	expectRefusal(t, b, "unreadable", fmt.Sprintf("%sevent %d can not be read: ", kept, ack.Sequence))
	expectRefusal(t, b, "nowhere", kept+"event 4711 is not on the stream any more")
}

// What was sent again and failed again leads back to what it was at first.
func TestSendingAgainIsNoNewEvent(t *testing.T) {
	b := newBus(t)
	_, _ = running(t, b.host, proofDefinition())
	origin := mustPut(t, b, "a", ticket("a"), "a")
	expectFact(t, b, "a")
	if err := b.resend("shop", "one", origin, "item/a"); err != nil {
		t.Fatal(err)
	}
	one := awaitEvent(t, b.js, "the first", resentFilter(events.Plan), func(events.Event) bool { return true })
	if err := b.resend("shop", "two", one.Sequence, "claim/17"); err != nil { // the letter of a resend that could not be routed
		t.Fatal(err)
	}
	mustClaim(t, b, "behind", ticket("x"), "a")
	expectRefusal(t, b, "behind", "it exists")
	if got := strings.Join(factsOf(t, b, "a"), ", "); got != "item ticket.created, item claim.refused, item claim.refused" {
		t.Errorf("facts of a: %s", got)
	}
}

// Work that was given up is tried again by the workers of that effect only, as a later attempt than any before, also when
// one and the same dead letter is sent again twice.
func TestAnEffectThatWasGivenUpIsTriedAgain(t *testing.T) {
	b := newBus(t)
	attempts := make(chan uint64, 10)
	def := workDefinition(func(ctx context.Context, j *Job) error {
		attempts <- j.Attempt
		if j.Attempt == 1 {
			return events.Reject(errors.New("never"))
		}
		return j.Report(ctx, Report{Content: update("enriched")})
	})
	others := make(chan string, 10)
	def.Effects = append(def.Effects, noting("other", others))
	_, _ = running(t, b.host, def)
	mustClaim(t, b, "a", ticket("a"), "a")
	letter := awaitLetters(t, b.js, 1)[0].Headers()
	if letter.Get(HeaderAggregate) != "effect/enrich" || letter.Get(HeaderTries) != "1" {
		t.Fatalf("dead letter %v", letter)
	}
	expectMet(t, others, "a")
	fact := awaitEvent(t, b.js, "the fact", "lifecycle.shop.plan.ticket.created.*", func(events.Event) bool { return true })
	r := events.DeadLetterResent{Letter: 1, Where: "plan", Origin: fact.Sequence, Aggregate: "effect/enrich", Tries: 1}
	last := <-attempts
	for _, id := range []string{"again", "once more"} {
		if err := b.claim("shop", id, r, "1"); err != nil {
			t.Fatal(err)
		}
		var attempt uint64
		select {
		case attempt = <-attempts:
		case <-time.After(patience):
			t.Fatal("it is not tried " + id)
		}
		if attempt <= last {
			t.Errorf("%s: attempt %d after %d", id, attempt, last)
		}
		awaitEvent(t, b.js, "what the attempt found", "lifecycle.shop.plan.ticket.updated.*", func(e events.Event) bool { return e.Attempt == attempt })
		last = attempt
	}
	mustClaim(t, b, "b", ticket("b"), "b")
	expectMet(t, others, "b") // and not a for the second time
}
