package configuration

import (
	"strings"
	"testing"

	"github.com/lemnis/lemnis/pkg/events"
)

func TestDecide(t *testing.T) {
	valid := events.DefaultProject("shop")
	invalid := valid
	invalid.Environments = []events.Environment{{Name: "dev", Target: "mainframe"}}
	tests := []struct {
		name    string
		given   []events.ProjectConfigured
		when    events.ProjectConfigured
		then    uint64 // revision; 0 when it is refused
		refusal string
	}{
		{"the first", nil, events.ProjectConfigured{Project: valid}, 1, ""},
		{"the next", []events.ProjectConfigured{{Revision: 4, Project: valid}}, events.ProjectConfigured{Project: valid}, 5, ""},
		{"as the expected revision", []events.ProjectConfigured{{Revision: 4}}, events.ProjectConfigured{Revision: 5, Project: valid}, 5, ""},
		{"as one that somebody else made", []events.ProjectConfigured{{Revision: 5}}, events.ProjectConfigured{Revision: 5, Project: valid}, 0, "5 is in force"},
		{"of another project", nil, events.ProjectConfigured{Project: events.DefaultProject("other")}, 0, `"other"`},
		{"not valid", nil, events.ProjectConfigured{Project: invalid}, 0, "environments[0].target: "},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var s State
			for _, c := range test.given {
				s = Evolve(s, events.Event{Kind: events.Stated, Content: c})
			}
			claim := events.Event{Kind: events.Claim, ID: "c1", Project: "shop", Content: test.when}
			if keys := Route(valid, claim); len(keys) != 1 || keys[0] != "shop" {
				t.Fatalf("routed to %v", keys)
			}
			fact, ok := Decide("shop", s, valid, claim)
			switch c := fact.Content.(type) {
			case events.ProjectConfigured:
				if c.Revision != test.then || c.Project.Name != "shop" {
					t.Errorf("got %+v, want revision %d", c, test.then)
				}
			case events.ClaimRefused:
				if test.then != 0 || !strings.Contains(c.Reason, test.refusal) || c.Claim != "c1" {
					t.Errorf("refused: %q", c.Reason)
				}
			default:
				t.Errorf("got %+v, %v", fact, ok)
			}
		})
	}
}
