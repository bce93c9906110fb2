package builder

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/lemnis/lemnis/internal/proposal"
	"github.com/lemnis/lemnis/pkg/events"
)

// Of changes that have ended only the last are remembered, of those that are open all; other changes than those of forges are none of its business.
func TestProposalsThatEndedAreForgotten(t *testing.T) {
	t.Parallel()
	q := newProposals()
	sequence := uint64(0)
	meet := func(key string, content any) {
		sequence++
		q.apply(events.Event{Project: "shop", Sequence: sequence, Key: key, Content: content})
	}
	web := proposal.Repository{Name: "web"}
	of := func(title string) events.ChangeCreated {
		return events.ChangeCreated{Lemnis: events.ChangeDetail{Repository: "web", Head: "1", Title: title, Item: "web#9"}}
	}
	p := events.DefaultProject("shop")
	p.Repositories = []events.RepositoryRef{{Name: "web", URL: "https://git.example.org/shop/web", Forge: &events.Forge{Kind: events.ForgeGitea, Token: "secret:forge"}}}
	meet("shop", events.ProjectConfigured{Project: p, Revision: 7})
	meet("T-1", of("by hand"))
	meet("cart#1", of("of another repository than its key says"))
	const changes = 2 * keptRounds
	for n := int64(1); n <= changes; n++ {
		meet(web.Numbered(n), of("Find"))
		switch {
		case n == 1:
		case n%2 == 0:
			meet(web.Numbered(n), events.ChangeAbandoned{})
		default:
			meet(web.Numbered(n), events.ChangeMerged{})
		}
	}
	if n := len(q.changes); n > keptRounds+1 {
		t.Errorf("%d are remembered", n)
	}
	text, err := q.save()
	if err != nil {
		t.Fatal(err)
	}
	again := newProposals()
	again.apply(events.Event{Project: "other", Key: "web#5", Content: of("before")})
	if err := again.load(text); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(again.changes, q.changes) || again.now() != q.now() || len(again.configured()) != 1 || again.configured()[0].Repositories[0].Forge == nil {
		t.Error("a snapshot is not what was kept")
	}
	if open := again.open("shop", web); len(open) != 1 || open[0] != 1 {
		t.Errorf("open: %v", open)
	}
	one, known := again.of("shop", fmt.Sprintf("web#%d", changes))
	if !known || one.Stage != proposedAbandoned || one.ByHand || one.Head != "1" {
		t.Errorf("%+v %v", one, known)
	}
	p.Repositories[0].Forge = nil
	meet("shop", events.ProjectConfigured{Project: p, Revision: 8})
	if len(q.configured()) > 0 {
		t.Error("a forge that is configured no more is listed")
	}
}

// meeting is proposals that meet facts, and the repository that these are of.
func meeting(t *testing.T) (*proposals, proposal.Repository, func(project string, n int64, who string, content any)) {
	t.Helper()
	q, web, sequence := newProposals(), proposal.Repository{Name: "web"}, uint64(0)
	p := events.DefaultProject("shop")
	p.Repositories = []events.RepositoryRef{{Name: "web", URL: "https://git.example.org/shop/web", Forge: &events.Forge{Kind: events.ForgeGitea, Token: "secret:forge"}}}
	q.apply(events.Event{Project: "shop", Key: "shop", Content: events.ProjectConfigured{Project: p, Revision: 7}})
	return q, web, func(project string, n int64, who string, content any) {
		sequence++
		q.apply(events.Event{Project: project, Sequence: sequence, Key: web.Numbered(n), Principal: who, Content: content})
	}
}

var proposedOfWeb = events.ChangeCreated{Lemnis: events.ChangeDetail{Repository: "web", Head: "1", Title: "Find"}}

// What somebody abandoned here is remembered while the forge has it, however much ends meanwhile, and as one of the last where it has not.
func TestWhatSomebodyAbandonedIsRemembered(t *testing.T) {
	t.Parallel()
	q, web, meet := meeting(t)
	abandoned := int64(0)
	abandon := func(n int) {
		for range n {
			abandoned++
			meet("shop", abandoned, "", proposedOfWeb)
			meet("shop", abandoned, "bo", events.ChangeAbandoned{})
		}
	}
	end := func() {
		for n := int64(1e6); n < 1e6+2*keptRounds; n++ {
			meet("shop", n, events.WebhookPrefix+"gitea", proposedOfWeb)
			meet("shop", n, events.WebhookPrefix+"gitea", events.ChangeAbandoned{})
		}
	}
	kept := func(n int64) bool { one, known := q.of("shop", web.Numbered(n)); return known && one.ByHand }
	abandon(2)
	end()
	if !kept(1) || !kept(2) {
		t.Fatal("what somebody abandoned is forgotten for what was closed at the forge")
	}
	q.list("shop", web, map[int64]bool{1: true, 7: true}, true)
	text, err := q.save()
	if err != nil {
		t.Fatal(err)
	}
	if err := q.load(text); err != nil {
		t.Fatal(err)
	}
	abandon(2 * keptRounds)
	if !kept(1) || kept(2) || len(q.changes) > 2*keptRounds+1 {
		t.Errorf("the one that the forge has is remembered: %v, the one that it has not: %v, %d in all", kept(1), kept(2), len(q.changes))
	}
	q.list("shop", web, nil, false)
	abandon(2 * keptRounds)
	if !kept(1) {
		t.Error("what is not in a part of a list is taken for closed")
	}
	q.list("shop", web, nil, true)
	abandon(2 * keptRounds)
	if kept(1) {
		t.Error("what the forge has no more is remembered for ever")
	}
	counts := map[fate]int{}
	for _, one := range q.changes {
		counts[one.fate()]++
	}
	for f, n := range q.count {
		if counts[f] != n {
			t.Errorf("%d of fate %d are counted, and there are %d", n, f, counts[f])
		}
	}
}

// A fact costs the same however many changes are open: nothing is searched for what is to be forgotten until there is enough of it.
func TestAFactOfAChangeCostsTheSame(t *testing.T) { // not beside others: allocations are counted of the whole program
	costs := func(open int64) float64 {
		_, _, meet := meeting(t)
		for n := range open {
			meet("shop", n+1, "", proposedOfWeb)
			meet("shop", n+1e6, "", proposedOfWeb)
			if n < keptRounds {
				meet("shop", n+1e6, "", events.ChangeMerged{})
			}
		}
		return testing.AllocsPerRun(100, func() { meet("shop", 1, "", proposedOfWeb) })
	}
	if few, many := costs(10), costs(2*keptRounds); many > few {
		t.Errorf("a fact makes %.0f allocations beside few changes, and %.0f beside many", few, many)
	}
}

// Of projects without a forge what ended is forgotten first; what is open is there when they get one.
func TestProjectsWithoutAForgeAreForgottenFirst(t *testing.T) {
	t.Parallel()
	q, web, meet := meeting(t)
	for n := int64(1); n <= 100; n++ {
		meet("shop", n, "", proposedOfWeb)
		meet("shop", n, "", events.ChangeMerged{})
	}
	for n := int64(1); n <= 3*keptRounds; n++ {
		meet("bank", n, "", proposedOfWeb)
		if n > 1 {
			meet("bank", n, "", events.ChangeMerged{})
		}
	}
	for n := int64(1); n <= 100; n++ {
		if _, known := q.of("shop", web.Numbered(n)); !known {
			t.Fatalf("%d of the project with a forge is forgotten", n)
		}
	}
	if open := q.open("bank", web); len(open) != 1 {
		t.Errorf("%v are open", open)
	}
}
