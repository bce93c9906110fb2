package insight

import (
	"math"
	"slices"
	"strings"

	"github.com/lemnis/lemnis/pkg/events"
)

const defaultUsers = 2 // that have to say the same, where the project does not say

// Decide puts a piece of feedback into its theme, once.
func Decide(_ string, s State, p events.Project, e events.Event) (events.Fact, bool) {
	u, ok := e.Content.(events.Understanding)
	if !ok || e.Kind != events.Result || u.Feedback == "" || u.User == "" {
		return events.Fact{}, false
	}
	if slices.ContainsFunc(s.Themes, func(t Theme) bool { return slices.Contains(t.Feedback, u.Feedback) }) {
		return events.Fact{}, false // the effect came twice
	}
	links := []events.Link{{Type: events.Relation, Kind: "FEEDBACK", Context: u.EventID}}
	at := match(s.Themes, u)
	t := Theme{ID: "insight-" + u.Feedback, Feature: u.Feature, Service: u.Service, Category: u.Category, Title: title(u), Chain: e.Chain}
	if at >= 0 {
		t = s.Themes[at]
		links = append(links, events.Link{Type: events.Relation, Kind: "FEEDBACK", Context: t.First})
	}
	links = slices.DeleteFunc(links, func(l events.Link) bool { return l.Context == "" })
	users := t.Users
	if i, found := slices.BinarySearch(users, u.User); !found && len(users) < mostUsers {
		users = slices.Insert(slices.Clone(users), i, u.User)
	}
	pieces := append(slices.Clone(t.Feedback), u.Feedback)
	n := float64(t.Pieces)
	needed := p.Feedback.Users
	if needed <= 0 {
		needed = defaultUsers
	}
	return events.Fact{
		Content: events.InsightFound{
			Insight: t.ID, Title: t.Title, Feature: t.Feature, Service: t.Service, Category: t.Category,
			Users: users, Feedback: pieces[max(0, len(pieces)-mostFeedback):],
			Sentiment: math.Round((t.Sentiment*n+u.Sentiment)/(n+1)*1000) / 1000,
			Confirmed: t.Confirmed || len(users) >= needed,
			Terms:     union(t.Terms, u.Terms), Understood: &u,
		},
		SubjectID: t.ID, Chain: t.Chain, Links: links,
	}, true
}

// match finds the theme that a piece belongs to; −1 when it begins one.
func match(themes []Theme, u events.Understanding) int {
	named := u.Feature != "" || u.Service != ""
	best, likeness := -1, threshold
	for i, t := range themes {
		switch {
		case t.Category != u.Category:
		case named && t.Feature == u.Feature && t.Service == u.Service:
			return i
		case named && (t.Feature != "" || t.Service != ""): // they speak of different things
		default:
			if l := jaccard(t.Terms, u.Terms); l > likeness {
				best, likeness = i, l
			}
		}
	}
	return best
}

// jaccard is the share of common terms among all of two sorted lists, 0 to 1.
func jaccard(a, b []uint64) float64 {
	common, i, j := 0, 0, 0
	for i < len(a) && j < len(b) {
		switch {
		case a[i] == b[j]:
			common, i, j = common+1, i+1, j+1
		case a[i] < b[j]:
			i++
		default:
			j++
		}
	}
	if all := len(a) + len(b) - common; all > 0 {
		return float64(common) / float64(all)
	}
	return 0
}

func union(a, b []uint64) []uint64 {
	all := append(slices.Clone(a), b...)
	slices.Sort(all)
	all = slices.Compact(all)
	return all[:min(len(all), mostTerms)]
}

var problem = map[string]string{
	"performance": "is too slow", "failure": "fails", "usability": "is hard to use", "missing": "lacks something", "praise": "is liked",
}

// title says the theme without the users' words.
func title(u events.Understanding) string {
	subject := u.Feature
	if subject == "" {
		subject = u.Service
	}
	if subject == "" {
		subject = "The product"
	}
	words, ok := problem[u.Category]
	if !ok {
		words = "is on users' minds"
	}
	return strings.ToUpper(subject[:1]) + subject[1:] + " " + words
}
