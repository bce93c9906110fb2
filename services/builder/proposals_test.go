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
