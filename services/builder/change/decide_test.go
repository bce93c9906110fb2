package change

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/lemnis/lemnis/pkg/events"
)

func head(n int) string { return fmt.Sprintf("%040x", n) }

func shop(approvals int) events.Project {
	p := events.DefaultProject("shop")
	p.Review.Approvals = approvals
	p.Repositories = []events.RepositoryRef{{Name: "api", URL: "u"}}
	return p
}

func created(d events.ChangeDetail) events.ChangeCreated { return events.ChangeCreated{Lemnis: d} }

var detail = events.ChangeDetail{Repository: "api", Title: "Find", Branch: "find", Base: "main", Head: head(1), Author: "Ann", Item: "T-1"}

func reviewed(by, verdict string, h int) events.ChangeReviewed {
	return events.ChangeReviewed{Lemnis: events.Review{Reviewer: by, Verdict: verdict, Head: head(h)}}
}

func with(change func(*events.ChangeDetail)) events.ChangeCreated {
	d := detail
	change(&d)
	return created(d)
}

func updated(d events.ChangeDetail) events.ChangeUpdated { return events.ChangeUpdated{Lemnis: d} }

func TestDecide(t *testing.T) {
	next := detail
	next.Head, next.Author = head(2), "bo"
	moved := detail // as a list says it
	moved.Head = next.Head
	verified := events.ChangeVerified{ID: "7", Change: moved, Approvals: []string{"bo"}}
	rejected := events.ChangeRejected{ID: "7", Head: moved.Head}
	lacks := func(c any) bool {
		got, ok := c.(events.ChangeRejected)
		return ok && got.ID == "7" && got.Head == moved.Head && strings.Contains(got.Reason, "0 of 1 approvals")
	}
	cases := map[string]struct {
		given     []any
		claim     any // or
		listed    any // what a forge's API said
		step      any // an own fact
		approvals int // 1 when zero, none when negative
		outside   bool
		refused   string // a part of the reason
		check     func(content any) bool
	}{
		"proposed": {claim: created(detail), check: func(c any) bool {
			got, ok := c.(events.ChangeCreated)
			return ok && got.Lemnis == detail && got.Repository.ID == "api"
		}},
		"base, author and repository are filled in": {claim: events.ChangeCreated{Repository: &events.Reference{ID: "api"},
			Lemnis: events.ChangeDetail{Branch: "find", Head: head(1)}}, check: func(c any) bool {
			got, ok := c.(events.ChangeCreated)
			return ok && got.Lemnis.Base == "main" && got.Lemnis.Author == "local" && got.Lemnis.Repository == "api"
		}},
		"unknown repository": {claim: with(func(d *events.ChangeDetail) { d.Repository = "web" }), refused: "it has api"},
		"no repository":      {claim: with(func(d *events.ChangeDetail) { d.Repository = "" }), refused: "no repository"},
		"no branch":          {claim: with(func(d *events.ChangeDetail) { d.Branch = "" }), refused: "no branch"},
		"from main":          {claim: with(func(d *events.ChangeDetail) { d.Branch = "main" }), refused: "into which it wants to go"},
		"into another":       {claim: with(func(d *events.ChangeDetail) { d.Base = "old" }), refused: "master copy"},
		"no head":            {claim: with(func(d *events.ChangeDetail) { d.Head = "" }), refused: "no head"},
		"short head":         {claim: with(func(d *events.ChangeDetail) { d.Head = "abc" }), refused: "full commit id"},
		"hostile ref":        {claim: with(func(d *events.ChangeDetail) { d.Ref = "refs/pull/7/head:refs/heads/main" }), refused: "none under which a forge offers"},
		"ref of a fork": {claim: with(func(d *events.ChangeDetail) { d.Ref = "refs/pull/7/head" }),
			check: func(c any) bool { return c.(events.ChangeCreated).Lemnis.Ref == "refs/pull/7/head" }},
		"a fork stays one": {given: []any{with(func(d *events.ChangeDetail) { d.Ref = "refs/pull/7/head" })}, claim: updated(events.ChangeDetail{Head: head(2)}),
			check: func(c any) bool { return c.(events.ChangeUpdated).Lemnis.Ref == "refs/pull/7/head" }},
		"another fork": {given: []any{with(func(d *events.ChangeDetail) { d.Ref = "refs/pull/7/head" })}, claim: updated(events.ChangeDetail{Head: head(2), Ref: "refs/pull/8/head"}), refused: "cannot move"},
		"a ref that comes late": {given: []any{created(detail)}, claim: updated(events.ChangeDetail{Head: head(2), Ref: "refs/pull/8/head"}),
			check: func(c any) bool { return c.(events.ChangeUpdated).Lemnis.Ref == "refs/pull/8/head" }},
		"a hostile ref that comes late": {given: []any{created(detail)}, claim: updated(events.ChangeDetail{Head: head(2), Ref: "refs/heads/main"}), refused: "none under which a forge offers"},
		"twice":                         {given: []any{created(detail)}, claim: created(detail), refused: "exists already"},
		"again, after it was abandoned": {given: []any{created(detail), events.ChangeAbandoned{}}, claim: created(detail),
			check: func(c any) bool { _, ok := c.(events.ChangeCreated); return ok }},
		"review of nothing": {claim: reviewed("bo", events.Approved, 1), refused: "not known"},
		"review": {given: []any{created(detail)}, claim: events.ChangeReviewed{Lemnis: events.Review{Reviewer: " bo ", Verdict: events.Approved}},
			check: func(c any) bool {
				got, ok := c.(events.ChangeReviewed)
				return ok && got.Lemnis.Reviewer == "bo" && got.Lemnis.Head == head(1)
			}},
		"review by the author":                        {given: []any{created(detail)}, claim: reviewed("ann ", events.Approved, 1), refused: "is an author"},
		"review by a later author":                    {given: []any{created(detail), updated(next)}, claim: reviewed("Bo", events.Approved, 2), refused: "is an author"},
		"review by a later author of what came again": {given: []any{created(detail), updated(next), events.ChangeAbandoned{}, created(moved)}, claim: reviewed("bo", events.Approved, 2), refused: "is an author"},
		"comment by the author": {given: []any{created(detail)}, claim: reviewed("ann", events.Commented, 1),
			check: func(c any) bool { _, ok := c.(events.ChangeReviewed); return ok }},
		"review of another head": {given: []any{created(detail), updated(next)}, claim: reviewed("cy", events.Approved, 1), refused: "stands at"},
		"nameless review":        {given: []any{created(detail)}, claim: reviewed(" ", events.Approved, 1), refused: "no reviewer"},
		"no verdict":             {given: []any{created(detail)}, claim: reviewed("bo", "fine", 1), refused: "no verdict"},
		"review after the end":   {given: []any{created(detail), events.ChangeAbandoned{}}, claim: reviewed("bo", events.Approved, 1), refused: "abandoned"},
		"update of nothing new":  {given: []any{created(detail)}, claim: updated(events.ChangeDetail{Head: head(1)}), refused: "already"},
		"update of repository":   {given: []any{created(detail)}, claim: updated(events.ChangeDetail{Repository: "web", Head: head(2)}), refused: "cannot move"},
		"update": {given: []any{created(detail)}, claim: updated(events.ChangeDetail{Head: head(2), Author: "bo"}), check: func(c any) bool {
			got, ok := c.(events.ChangeUpdated)
			return ok && got.Lemnis == next
		}},
		"who pushed what was listed": {given: []any{created(detail), updated(moved)}, claim: updated(next),
			check: func(c any) bool { return c.(events.ChangeUpdated).Lemnis == next }},
		"who pushed what was listed, again":         {given: []any{created(detail), updated(next)}, claim: updated(next), refused: "already"},
		"review by who pushed what was listed":      {given: []any{created(detail), updated(moved), updated(next)}, claim: reviewed("bo", events.Approved, 2), refused: "is an author"},
		"approved by who turned out to have pushed": {given: []any{created(detail), updated(moved), reviewed("bo", events.Approved, 2), updated(next)}, step: updated(next)},
		"verified by who turned out to have pushed": {given: []any{created(detail), updated(moved), reviewed("bo", events.Approved, 2), verified, updated(next)}, step: updated(next), check: lacks},
		"verified by one more than who turned out to have pushed": {given: []any{created(detail), updated(moved), reviewed("bo", events.Approved, 2), verified, reviewed("cy", events.Approved, 2), updated(next)},
			step: updated(next)},
		"approved by another than who turned out to have pushed": {given: []any{created(detail), updated(moved), reviewed("bo", events.Approved, 2), verified, updated(next), rejected, reviewed("cy", events.Approved, 2)},
			step: reviewed("cy", events.Approved, 2), check: func(c any) bool {
				got, ok := c.(events.ChangeVerified)
				return ok && got.Change.Head == moved.Head && slices.Equal(got.Approvals, []string{"cy"})
			}},
		"back at a head that was verified":          {given: []any{created(detail), updated(moved), reviewed("bo", events.Approved, 2), verified, updated(detail), updated(moved)}, step: updated(moved), check: lacks},
		"verified before the policy asked for more": {approvals: 2, given: []any{created(detail), updated(moved), reviewed("bo", events.Approved, 2), verified, reviewed("cy", events.Commented, 2)}, step: reviewed("cy", events.Commented, 2)},
		"verified is not claimed":                   {given: []any{created(detail)}, claim: events.ChangeVerified{}, refused: "cannot be claimed"},
		"outside, verified is":                      {outside: true, claim: events.ChangeVerified{ID: "7"}, check: func(c any) bool { return c.(events.ChangeVerified).ID == "7" }},

		"approved": {given: []any{created(detail), reviewed("bo", events.Approved, 1)}, step: reviewed("bo", events.Approved, 1), check: func(c any) bool {
			got, ok := c.(events.ChangeVerified)
			return ok && got.ID == "7" && got.Change == detail && slices.Equal(got.Approvals, []string{"bo"}) && strings.Contains(got.Reason, "1 of 1")
		}},
		"one approval of two":         {approvals: 2, given: []any{created(detail), reviewed("bo", events.Approved, 1), reviewed("Bo", events.Approved, 1)}, step: reviewed("bo", events.Approved, 1)},
		"no approvals asked for":      {approvals: -1, given: []any{created(detail)}, step: created(detail), check: func(c any) bool { _, ok := c.(events.ChangeVerified); return ok }},
		"a new head resets approvals": {given: []any{created(detail), reviewed("cy", events.Approved, 1), updated(next)}, step: updated(next)},
		"a late step of an old head":  {given: []any{created(detail), reviewed("cy", events.Approved, 1), updated(next)}, step: reviewed("cy", events.Approved, 1)},
		"a title does not":            {given: []any{created(detail), reviewed("cy", events.Approved, 1), updated(detail)}, step: updated(detail), check: func(c any) bool { _, ok := c.(events.ChangeVerified); return ok }},
		"verified once":               {given: []any{created(detail), reviewed("bo", events.Approved, 1), events.ChangeVerified{ID: "7", Change: detail}, reviewed("cy", events.Approved, 1)}, step: reviewed("cy", events.Approved, 1)},
		"approved once more": {given: []any{created(detail), reviewed("bo", events.Approved, 1), events.ChangeVerified{ID: "7", Change: detail}, reviewed("bo", events.Approved, 1)},
			step: reviewed("bo", events.Approved, 1), check: func(c any) bool { _, ok := c.(events.ChangeVerified); return ok }},
		"one of them asks for changes": {given: []any{created(detail), reviewed("cy", events.ChangesRequested, 1), reviewed("bo", events.Approved, 1)}, step: reviewed("bo", events.Approved, 1)},
		"changes are asked for after it was verified": {given: []any{created(detail), reviewed("bo", events.Approved, 1), events.ChangeVerified{ID: "7", Change: detail}, reviewed("cy", events.ChangesRequested, 1)},
			step: reviewed("cy", events.ChangesRequested, 1), check: func(c any) bool {
				got, ok := c.(events.ChangeRejected)
				return ok && got.Head == head(1) && strings.Contains(got.Reason, "cy")
			}},
		"the latest word counts": {given: []any{created(detail), reviewed("bo", events.ChangesRequested, 1), reviewed("bo", events.Approved, 1)}, step: reviewed("bo", events.Approved, 1),
			check: func(c any) bool { _, ok := c.(events.ChangeVerified); return ok }},
		"listed":            {listed: created(detail), check: func(c any) bool { return c.(events.ChangeCreated).Lemnis == detail }},
		"listed, and known": {given: []any{created(detail)}, listed: created(detail)},
		"listed with a new head": {given: []any{created(detail)}, listed: updated(events.ChangeDetail{Repository: "api", Head: head(2)}),
			check: func(c any) bool { d := c.(events.ChangeUpdated).Lemnis; return d.Head == head(2) && d.Author == "Ann" }},
		"listed as closed":           {given: []any{created(detail)}, listed: events.ChangeAbandoned{}, check: func(c any) bool { return c.(events.ChangeAbandoned).Repository.ID == "api" }},
		"listed as closed, again":    {given: []any{created(detail), events.ChangeAbandoned{}}, listed: events.ChangeAbandoned{}},
		"verified is not listed":     {given: []any{created(detail)}, listed: events.ChangeVerified{ID: "7"}},
		"outside, nothing is listed": {outside: true, listed: created(detail)},
		"outside, nothing follows":   {outside: true, given: []any{created(detail), reviewed("bo", events.Approved, 1)}, step: reviewed("bo", events.Approved, 1)},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			p := shop(1)
			if c.approvals != 0 {
				p.Review.Approvals = max(c.approvals, 0)
			}
			if c.outside {
				p.Owners = map[events.Phase]string{events.Develop: "github"}
			}
			var s State
			for _, fact := range c.given {
				s = Evolve(s, events.Event{Kind: events.Stated, Key: "7", Content: fact})
			}
			e := events.Event{ID: "e", Kind: events.Stated, Phase: events.Develop, Key: "7", SubjectID: "7", Content: c.step, Principal: "local"}
			if c.claim != nil {
				e.Kind, e.Content = events.Claim, c.claim
			}
			if c.listed != nil {
				e.Kind, e.Content, e.Principal = events.Result, c.listed, ""
			}
			e.Type = events.TypeOf(e.Content)
			if keys := Route(p, e); !slices.Equal(keys, []string{"7"}) {
				t.Fatalf("routed to %v", keys)
			}
			got, ok := Decide("7", s, p, e)
			no, refused := got.Content.(events.ClaimRefused)
			switch {
			case ok != (c.refused != "" || c.check != nil), refused != (c.refused != ""):
				t.Fatalf("decided %v %+v", ok, got.Content)
			case refused && !strings.Contains(no.Reason, c.refused):
				t.Fatalf("refused: %s", no.Reason)
			case ok && !refused && !c.check(got.Content):
				t.Fatalf("decided %+v", got.Content)
			}
		})
	}
}
