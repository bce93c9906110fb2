package chaos

import (
	"slices"
	"testing"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
)

// mutation makes a good stream a broken one; false when it holds nothing to break like that.
type mutation struct {
	name  string
	rule  Rule
	apply func(l *Ledger) bool
}

// without puts something of no meaning in the place of the first message that is meant, as if it had never been there.
func without(is func(e events.Event) bool) func(*Ledger) bool {
	return func(l *Ledger) bool {
		for i := range l.Stream {
			e := &l.Stream[i].Event
			if l.Stream[i].Unreadable == "" && is(*e) {
				*e = events.Event{Kind: events.Result, ID: "filler", Type: events.TypeOf(events.DeadlineReached{}), Project: "filler", Phase: events.Plan,
					Sequence: e.Sequence, Stored: e.Stored, Time: e.Time, Content: events.DeadlineReached{}, SubjectID: "filler"}
				return true
			}
		}
		return false
	}
}

// again puts the first message that is meant on the stream once more, changed as it may be.
func again(is func(e events.Event) bool, change func(e *events.Event)) func(*Ledger) bool {
	return func(l *Ledger) bool {
		at := slices.IndexFunc(l.Stream, func(m Entry) bool { return m.Unreadable == "" && is(m.Event) })
		if at < 0 {
			return false
		}
		e := l.Stream[at]
		e.Sequence = l.Stream[len(l.Stream)-1].Sequence + 1
		e.Stored = l.Stream[len(l.Stream)-1].Stored
		change(&e.Event)
		l.Stream = append(l.Stream, e)
		return true
	}
}

// changed changes the first message that is meant.
func changed(is func(e events.Event) bool, change func(e *events.Event)) func(*Ledger) bool {
	return func(l *Ledger) bool {
		for i := range l.Stream {
			if l.Stream[i].Unreadable == "" && is(l.Stream[i].Event) {
				change(&l.Stream[i].Event)
				return true
			}
		}
		return false
	}
}

func fact[T any](e events.Event) bool {
	_, ok := e.Content.(T)
	return ok && e.Kind == events.Stated && e.Project != probeProject
}

var mutations = []mutation{
	{"a fact is missing", Lost, without(fact[events.TicketCreated])},
	{"the last fact of a chain is missing", Lost, without(func(e events.Event) bool {
		c, ok := e.Content.(events.ServicePublished)
		return ok && e.Kind == events.Stated && c.Lemnis.Rollout.Next == ""
	})},
	{"the figures of a deployment are missing", Lost, without(fact[events.MetricsComputed])},
	{"an acknowledged claim is missing", Lost, without(func(e events.Event) bool { return e.Kind == events.Claim })},
	{"the answer to a claim is missing", Lost, without(func(e events.Event) bool {
		_, ok := e.Content.(events.ClaimRefused)
		return ok && e.Kind == events.Stated
	})},
	{"a message of the stream is missing", Lost, func(l *Ledger) bool {
		l.Stream = slices.Delete(slices.Clone(l.Stream), len(l.Stream)/2, len(l.Stream)/2+1)
		return true
	}},
	{"a fact is there twice", Twice, again(fact[events.BacklogRanked], func(*events.Event) {})},
	{"a fact is there twice, under another id", Twice, again(fact[events.BuildFinished], func(e *events.Event) { e.ID += "x" })},
	{"a claim is there twice", Twice, again(func(e events.Event) bool { return e.Kind == events.Claim }, func(*events.Event) {})},
	{"a claim is answered twice", Twice, again(fact[events.ChangeCreated], func(e *events.Event) { e.ID, e.Key = e.ID+"x", "other" })},
	{"a fact has no cause", Causeless, changed(fact[events.QueueEntered], func(e *events.Event) { e.Cause = "nobody" })},
	{"a fact comes before its cause", Causeless, changed(fact[events.QueueTested], func(e *events.Event) { e.CauseSequence = e.Sequence + 1 })},
	{"a deployment has no gate", Ungated, without(fact[events.GateEvaluated])},
	{"a deployment's gate is closed", Ungated, changed(fact[events.GateEvaluated], func(e *events.Event) {
		g := e.Content.(events.GateEvaluated)
		g.Passed = false
		e.Content = g
	})},
	{"nobody approved", Ungated, without(fact[events.ApprovalGiven])},
	{"nobody was asked", Ungated, without(fact[events.ApprovalRequested])},
	{"a service was not tested", Ungated, without(fact[events.TestSuiteRunFinished])},
	{"an artifact has no green pipeline", Unproven, without(func(e events.Event) bool {
		c, ok := e.Content.(events.PipelineRunFinished)
		return ok && e.Kind == events.Stated && c.Outcome == events.Success
	})},
	{"an artifact's pipeline was red", Unproven, changed(func(e events.Event) bool {
		c, ok := e.Content.(events.PipelineRunFinished)
		return ok && e.Kind == events.Stated && c.Outcome == events.Success
	}, func(e *events.Event) {
		c := e.Content.(events.PipelineRunFinished)
		c.Outcome = events.Failure
		e.Content = c
	})},
	{"nobody built an artifact", Unproven, without(fact[events.BuildFinished])},
	{"a duration is negative", Unordered, changed(fact[events.BuildFinished], func(e *events.Event) {
		c := e.Content.(events.BuildFinished)
		c.Lemnis.Seconds = -1
		e.Content = c
	})},
	{"a fact happened before its cause", Unordered, changed(fact[events.BuildQueued], func(e *events.Event) { e.Time = e.Time.Add(-10 * time.Minute) })},
	{"a fact happens after it was stored", Unordered, changed(fact[events.BuildQueued], func(e *events.Event) { e.Time = e.Stored.Add(10 * time.Minute) })},
	{"a dead letter of nobody's", Stray, func(l *Ledger) bool {
		l.Letters = append(slices.Clone(l.Letters), Letter{Sequence: 1, Reason: "a mistake"})
		return true
	}},
	{"a dead letter without a reason", Stray, func(l *Ledger) bool {
		l.Letters = slices.Clone(l.Letters)
		if len(l.Letters) > 0 {
			l.Letters[0].Reason = ""
		}
		return len(l.Letters) > 0
	}},
	{"poison is no dead letter", Lost, func(l *Ledger) bool {
		l.Letters = l.Letters[:max(0, len(l.Letters)-1)]
		return len(l.Poison) > 0
	}},
	{"poison is two dead letters", Twice, func(l *Ledger) bool {
		l.Letters = append(slices.Clone(l.Letters), l.Letters...)
		return len(l.Poison) > 0
	}},
	{"a fact that a lap does not state", Stray, again(fact[events.QueueTested], func(e *events.Event) {
		e.Content, e.Type = events.DriftFound{}, events.TypeOf(events.DriftFound{})
	})},
}

// notices shows that the model can fail: a good stream, broken in each of these ways, breaks the rule that it should.
func notices(t *testing.T, good Ledger) {
	if v := Check(good); len(v.Findings) > 0 {
		t.Fatalf("the stream is no good one: %s", v.Findings[0])
	}
	for _, m := range mutations {
		t.Run(m.name, func(t *testing.T) {
			broken := good
			broken.Stream = slices.Clone(good.Stream)
			if !m.apply(&broken) {
				t.Fatal("this stream holds nothing to break like that")
			}
			if v := Check(broken); v.Count(m.rule) == 0 {
				t.Errorf("nothing is %s; findings: %v", m.rule, v.Findings)
			}
		})
	}
}
