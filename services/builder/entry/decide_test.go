package entry

import (
	"fmt"
	"strings"
	"testing"

	"github.com/lemnis/lemnis/pkg/events"
)

func shop() events.Project {
	p := events.DefaultProject("shop")
	p.Repositories = []events.RepositoryRef{{Name: "api", URL: "u"}}
	return p
}

func detail(head string, round int) events.MergeDetail {
	return events.MergeDetail{Change: "7", Repository: "api", Branch: "find", Base: "main", Head: head, Round: round}
}

func passed(head string, round int) events.MergeDetail {
	m := detail(head, round)
	m.Onto, m.Commit = "onto", "merge of "+head
	return m
}

func verifiedChange(head string) events.ChangeVerified {
	return events.ChangeVerified{ID: "7", Reason: "1 of 1", Change: events.ChangeDetail{Repository: "api", Branch: "find", Base: "main", Head: head}}
}

func ended(outcome string, m events.MergeDetail) events.PipelineRunFinished {
	return events.PipelineRunFinished{Outcome: outcome, Errors: "test: 1 failed\nits log", Lemnis: events.RunDetail{Merge: m, Conflicts: []string{"a.go"}}}
}

func TestDecide(t *testing.T) {
	entered := events.QueueEntered{Merge: detail("h1", 1)}
	tested := events.QueueTested{Merge: passed("h1", 1)}
	ejected := events.QueueEjected{Merge: detail("h1", 1)}
	merged := events.ChangeMerged{Lemnis: passed("h1", 1)}
	forged := passed("h1", 1)
	forged.Commit = "something else"
	old := passed("h1", 1)
	old.Round = 2
	is := func(want string) func(any) bool {
		return func(c any) bool { return events.TypeOf(c).Short() == want }
	}
	enters := func(head string, round int) func(any) bool {
		return func(c any) bool {
			got, ok := c.(events.QueueEntered)
			return ok && got.Merge.Head == head && got.Merge.Round == round && got.Merge.Commit == "" && got.Merge.Onto == ""
		}
	}
	alone := func(want bool) func(any) bool {
		return func(c any) bool {
			got, ok := c.(events.QueueEntered)
			return ok && got.Alone == want
		}
	}
	leaves := func(reason string) func(any) bool {
		return func(c any) bool {
			got, ok := c.(events.QueueEjected)
			return ok && strings.Contains(got.Reason, reason) && !strings.Contains(got.Reason, "\n")
		}
	}
	cases := map[string]struct {
		given []any
		kind  events.Kind // Stated when empty
		when  any
		then  func(any) bool // nil: no fact
	}{
		"verified":                             {when: verifiedChange("h1"), then: enters("h1", 1)},
		"verified again while it waits":        {given: []any{entered}, when: verifiedChange("h1")},
		"verified again when it was merged":    {given: []any{entered, tested, merged}, when: verifiedChange("h1")},
		"verified again after it left":         {given: []any{entered, ejected}, when: verifiedChange("h1"), then: enters("h1", 2)},
		"a new head after it was merged":       {given: []any{entered, tested, merged}, when: verifiedChange("h2"), then: leaves("propose another")},
		"a new head while it waits":            {given: []any{entered}, when: verifiedChange("h2"), then: enters("h2", 2)},
		"repository not of the project":        {when: events.ChangeVerified{ID: "7", Change: events.ChangeDetail{Repository: "web", Head: "h"}}, then: leaves("not one of")},
		"updated while it waits":               {given: []any{entered}, when: events.ChangeUpdated{Lemnis: events.ChangeDetail{Head: "h2"}}, then: leaves("new head")},
		"a title while it waits":               {given: []any{entered}, when: events.ChangeUpdated{Lemnis: events.ChangeDetail{Head: "h1"}}},
		"abandoned while it waits":             {given: []any{entered}, when: events.ChangeAbandoned{}, then: leaves("abandoned")},
		"abandoned outside of the queue":       {when: events.ChangeAbandoned{}},
		"rejected while it is tested":          {given: []any{entered, tested}, when: events.ChangeRejected{Head: "h1", Reason: "changes"}, then: leaves("changes")},
		"green":                                {given: []any{entered}, when: ended(events.Success, passed("h1", 1)), then: is("queue.tested")},
		"green, and no commit":                 {given: []any{entered}, when: ended(events.Success, detail("h1", 1)), then: leaves("no commit")},
		"red":                                  {given: []any{entered}, when: ended(events.Failure, passed("h1", 1)), then: leaves("test: 1 failed")},
		"green, of an older round":             {given: []any{entered, events.QueueEntered{Merge: detail("h2", 2)}}, when: ended(events.Success, passed("h1", 1))},
		"green, after it left":                 {given: []any{entered, ejected}, when: ended(events.Success, passed("h1", 1))},
		"merged":                               {given: []any{entered, tested}, kind: events.Result, when: merged, then: is("change.merged")},
		"merged, said twice":                   {given: []any{entered, tested, merged}, kind: events.Result, when: merged},
		"merged, although it left":             {given: []any{entered, tested, ejected}, kind: events.Result, when: merged, then: is("change.merged")},
		"merged, although the next round runs": {given: []any{entered, tested, events.QueueEntered{Merge: detail("h2", 2)}}, kind: events.Result, when: merged, then: is("change.merged")},
		"the next round, after the one before was merged": {given: []any{entered, tested, events.QueueEntered{Merge: detail("h2", 2)}, merged},
			when: ended(events.Success, passed("h2", 2)), then: is("queue.tested")},
		"merged, untested":       {given: []any{entered}, kind: events.Result, when: merged},
		"merged, another commit": {given: []any{entered, tested}, kind: events.Result, when: events.ChangeMerged{Lemnis: forged}},
		"merged, another round":  {given: []any{entered, tested}, kind: events.Result, when: events.ChangeMerged{Lemnis: old}},
		"main moved":             {given: []any{entered, tested}, kind: events.Result, when: events.QueueEntered{Merge: passed("h1", 1)}, then: enters("h1", 2)},
		"refused with others":    {given: []any{entered, tested}, kind: events.Result, when: events.QueueEntered{Merge: passed("h1", 1), Alone: true}, then: alone(true)},
		"main moved, where others were refused": {given: []any{events.QueueEntered{Merge: detail("h1", 1), Alone: true}, tested}, kind: events.Result,
			when: events.QueueEntered{Merge: passed("h1", 1)}, then: alone(true)},
		"verified again, where others were refused": {given: []any{events.QueueEntered{Merge: detail("h1", 1), Alone: true}, ejected}, when: verifiedChange("h1"), then: alone(false)},
		"main moved, said twice":                    {given: []any{entered, tested, events.QueueEntered{Merge: detail("h1", 2)}}, kind: events.Result, when: events.QueueEntered{Merge: passed("h1", 1)}},
		"main moved, after it left":                 {given: []any{entered, tested, ejected}, kind: events.Result, when: events.QueueEntered{Merge: passed("h1", 1)}},
		"main moved, after it was merged":           {given: []any{entered, tested, merged}, kind: events.Result, when: events.QueueEntered{Merge: passed("h1", 1)}},
		"cannot be merged":                          {given: []any{entered, tested}, kind: events.Result, when: events.QueueEjected{Merge: passed("h1", 1), Reason: "no branch"}, then: leaves("no branch")},
		"a claim":                                   {given: []any{entered, tested}, kind: events.Claim, when: merged, then: is("claim.refused")},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var s State
			for _, fact := range c.given {
				s = Evolve(s, events.Event{Kind: events.Stated, Key: "7", Content: fact})
			}
			e := events.Event{Kind: events.Stated, Key: "7", SubjectID: "7", Content: c.when, Type: events.TypeOf(c.when)}
			if c.kind != "" {
				e.Kind = c.kind
			}
			if _, run := c.when.(events.PipelineRunFinished); run {
				e.Key = "7#1"
			}
			if keys := Route(shop(), e); len(keys) != 1 || keys[0] != "7" {
				t.Fatalf("routed to %v", keys)
			}
			got, ok := Decide("7", s, shop(), e)
			if ok != (c.then != nil) || ok && !c.then(got.Content) {
				t.Fatalf("decided %v %+v", ok, got.Content)
			}
			outside := shop()
			outside.Owners = map[events.Phase]string{events.Integrate: "jenkins"}
			got, ok = Decide("7", s, outside, e)
			if adopted := e.Kind == events.Claim; ok != adopted || adopted && events.TypeOf(got.Content) != e.Type {
				t.Fatalf("for an outside owner: decided %v %+v", ok, got.Content)
			}
		})
	}
}

// Where another tool merges, its forge says so by a webhook or its list, and it is stated once.
func TestMergedElsewhere(t *testing.T) {
	p := shop()
	p.Owners = map[events.Phase]string{events.Integrate: "github"}
	said := func(kind events.Kind, commit string) events.Event {
		return events.Event{ID: "e", Kind: kind, Phase: events.Integrate, Key: "7", SubjectID: "7", Type: events.TypeOf(events.ChangeMerged{}),
			Content: events.ChangeMerged{Repository: &events.Reference{ID: "api"}, Lemnis: events.MergeDetail{Head: "h1", Commit: commit}}}
	}
	for _, kind := range []events.Kind{events.Claim, events.Result} {
		f, ok := Decide("7", State{}, p, said(kind, "c1"))
		c, is := f.Content.(events.ChangeMerged)
		if !ok || !is || c.Lemnis.Change != "7" || c.Lemnis.Repository != "api" {
			t.Fatalf("%s: %v %+v", kind, ok, f.Content)
		}
		s := Evolve(State{}, events.Event{Content: f.Content})
		if f, ok := Decide("7", s, p, said(events.Result, "c1")); ok {
			t.Errorf("%s, then listed: %+v", kind, f.Content)
		}
		if f, _ := Decide("7", s, p, said(events.Claim, "c1")); !strings.Contains(fmt.Sprint(f.Content), "merged already") {
			t.Errorf("%s, then claimed: %+v", kind, f.Content)
		}
		if f, ok := Decide("7", s, p, said(events.Claim, "c2")); !ok {
			t.Errorf("%s, then another commit: %+v", kind, f.Content)
		}
	}
}
