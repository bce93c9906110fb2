package insight

import (
	"slices"

	"github.com/lemnis/lemnis/pkg/events"
)

// Evolve folds a fact of the themes.
func Evolve(s State, fact events.Event) State {
	c, ok := fact.Content.(events.InsightFound)
	if !ok {
		return s
	}
	at := slices.IndexFunc(s.Themes, func(t Theme) bool { return t.ID == c.Insight })
	t := Theme{Chain: fact.Chain}
	if c.Understood != nil {
		t.First = c.Understood.EventID
	}
	if at >= 0 {
		t.Chain, t.First, t.Pieces = s.Themes[at].Chain, s.Themes[at].First, s.Themes[at].Pieces
	}
	t.ID, t.Title, t.Feature, t.Service, t.Category = c.Insight, c.Title, c.Feature, c.Service, c.Category
	t.Users, t.Feedback, t.Sentiment, t.Confirmed, t.Terms = c.Users, c.Feedback, c.Sentiment, c.Confirmed, c.Terms
	t.Pieces++
	s.Themes = slices.Clone(s.Themes)
	if at >= 0 {
		s.Themes[at] = t
	} else {
		s.Themes = append(s.Themes, t)
		s.Themes = s.Themes[max(0, len(s.Themes)-mostThemes):]
	}
	return s
}
