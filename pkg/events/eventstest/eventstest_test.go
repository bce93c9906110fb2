package eventstest_test

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/pkg/events/eventstest"
)

func TestBuild(t *testing.T) {
	claim := eventstest.Claim(events.ChangeMerged{Lemnis: events.MergeDetail{Commit: "9a8b"}}, eventstest.Key("42"), eventstest.Sequence(7))
	if claim.Kind != events.Claim || claim.Phase != events.Integrate || claim.Principal != "ann" || claim.Key != "42" || claim.SubjectID != "42" {
		t.Errorf("claim %+v", claim)
	}
	if same := eventstest.Claim(events.ChangeMerged{Lemnis: events.MergeDetail{Commit: "9a8b"}}, eventstest.Key("42"), eventstest.Sequence(7)); same.ID != claim.ID {
		t.Errorf("equal claims have the ids %s, %s", claim.ID, same.ID)
	}
	if other := eventstest.Claim(events.ChangeMerged{Lemnis: events.MergeDetail{Commit: "9a8c"}}, eventstest.Key("42"), eventstest.Sequence(7)); other.ID == claim.ID {
		t.Errorf("two claims have the id %s", other.ID)
	}
	fact := eventstest.Fact(events.QueueTested{Run: "42#1"}, eventstest.CausedBy(claim))
	if fact.Kind != events.Stated || fact.Cause != claim.ID || fact.CauseSequence != 7 || fact.Chain != claim.Chain || fact.Principal != "" ||
		!reflect.DeepEqual(fact.Links, []events.Link{{Type: events.Path, Context: claim.ID}}) {
		t.Errorf("fact %+v", fact)
	}
	if result := eventstest.Result(events.BuildFinished{}, eventstest.Attempt(3)); result.Kind != events.Result || result.Attempt != 3 {
		t.Errorf("result %+v", result)
	}
}

func TestDeliver(t *testing.T) {
	answers := map[string]error{
		"a": nil, "b": errors.New("not now"), "c": events.Retry(time.Minute, errors.New("later")), "d": events.Reject(errors.New("never")),
	}
	var all []events.Event
	for _, id := range []string{"a", "b", "c", "d"} {
		all = append(all, eventstest.Fact(events.BranchCreated{}, eventstest.ID(id)))
	}
	all[2].Sequence = 10
	got := eventstest.Deliver(t, func(_ context.Context, e events.Event) error { return answers[e.ID] }, all...)
	for i, want := range []struct {
		action   eventstest.Action
		after    time.Duration
		sequence uint64
	}{{eventstest.Done, 0, 1}, {eventstest.Again, 0, 2}, {eventstest.Again, time.Minute, 10}, {eventstest.Reject, 0, 11}} {
		if v := got[i]; v.Action != want.action || v.After != want.after || v.Event.Sequence != want.sequence || !errors.Is(v.Err, answers[v.Event.ID]) {
			t.Errorf("%d: %+v", i, v)
		}
	}
}
