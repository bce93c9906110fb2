package change

import (
	"strings"
	"testing"

	"github.com/lemnis/lemnis/pkg/events"
)

// Who proposes and who reviews is the principal. A name in the content is only written down by it, and counts where the
// principal speaks for others: without authentication, and for webhooks.
func TestPrincipalSpeaksForItself(t *testing.T) {
	const owner = "gerrit"
	nobody := detail
	nobody.Author = ""
	theirs := detail
	theirs.Author = "mallory"
	push := theirs
	push.Head, push.Author = head(2), "ann"
	for _, tt := range []struct {
		name      string
		principal string
		proposed  string // principal of the change; none: there is no change yet
		outside   bool
		content   any
		refused   string // a part of the reason; empty: it stands
		who       string // author or reviewer of the fact
	}{
		{name: "ann proposes", principal: "ann", content: created(nobody), who: "ann"},
		{name: "ann proposes, spelt otherwise", principal: "ann", content: created(detail), who: "ann"},
		{name: "mallory proposes as ann, to approve it as mallory", principal: "mallory", content: created(detail), refused: "speaks for itself"},
		{name: "a webhook proposes for ann", principal: "webhook-github", content: created(detail), who: "Ann"},
		{name: "mallory pushes as ann", principal: "mallory", proposed: "mallory", content: updated(push), refused: "speaks for itself"},
		{name: "mallory approves mallory's", principal: "mallory", proposed: "mallory", content: reviewed("mallory", events.Approved, 1), refused: "author"},
		{name: "mallory approves mallory's without a name", principal: "mallory", proposed: "mallory", content: reviewed("", events.Approved, 1), refused: "author"},
		{name: "mallory approves mallory's as ann", principal: "mallory", proposed: "mallory", content: reviewed("ann", events.Approved, 1), refused: "speaks for itself"},
		{name: "ann approves mallory's", principal: "ann", proposed: "mallory", content: reviewed("", events.Approved, 1), who: "ann"},
		{name: "ann approves mallory's by name", principal: "ann", proposed: "mallory", content: reviewed("Ann", events.Approved, 1), who: "Ann"},
		{name: "a webhook says that ann approves", principal: "webhook-gitlab", proposed: "mallory", content: reviewed("ann", events.Approved, 1), who: "ann"},
		{name: "a webhook says that mallory approves", principal: "webhook-gitlab", proposed: "mallory", content: reviewed("Mallory", events.Approved, 1), refused: "author"},
		{name: "another than the outside owner", principal: "mallory", proposed: "mallory", outside: true, content: reviewed("ann", events.Approved, 1), refused: `judged by "gerrit"`},
		{name: "the outside owner", principal: owner, proposed: "mallory", outside: true, content: reviewed("ann", events.Approved, 1), who: "ann"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := shop(1)
			if tt.outside {
				p.Owners = map[events.Phase]string{events.Develop: owner}
			}
			claim := func(principal string, content any) events.Event {
				return events.Event{ID: "e", Type: events.TypeOf(content), Kind: events.Claim, Phase: events.Develop, Key: "1", SubjectID: "1", Principal: principal, Content: content}
			}
			var s State
			if tt.proposed != "" {
				f, ok := Decide("1", s, shop(1), claim(tt.proposed, created(theirs)))
				if !ok || events.TypeOf(f.Content) != events.TypeOf(events.ChangeCreated{}) {
					t.Fatalf("the change: %+v", f.Content)
				}
				s = Evolve(s, events.Event{Content: f.Content})
			}
			f, ok := Decide("1", s, p, claim(tt.principal, tt.content))
			if !ok {
				t.Fatal("nothing was decided")
			}
			who := ""
			switch c := f.Content.(type) {
			case events.ClaimRefused:
				if tt.refused == "" || !strings.Contains(c.Reason, tt.refused) {
					t.Errorf("refused: %s", c.Reason)
				}
				return
			case events.ChangeCreated:
				who = c.Lemnis.Author
			case events.ChangeUpdated:
				who = c.Lemnis.Author
			case events.ChangeReviewed:
				who = c.Lemnis.Reviewer
			}
			if tt.refused != "" || !strings.EqualFold(who, tt.who) {
				t.Errorf("it stands, by %q", who)
			}
		})
	}
}
