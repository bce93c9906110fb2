package change

import (
	"slices"
	"strings"

	"github.com/lemnis/lemnis/pkg/events"
)

// State is what is known of a change.
type State struct {
	Detail    events.ChangeDetail
	Exists    bool
	Abandoned bool
	Authors   []string  // everybody who proposed a head, as [person] writes them
	Opinions  []Opinion // on the current head, one a reviewer, in the order of their first
	Verified  string    // head that was verified last; empty when it was rejected since
}

// Opinion is what a reviewer thinks of the current head.
type Opinion struct {
	Reviewer  string
	Verdict   string // approved or changes-requested: the latest of the two
	Approvals int    // how often the reviewer approved this head
}

// person makes names comparable: "Ann " and "ann" are one.
func person(name string) string { return strings.ToLower(strings.TrimSpace(name)) }

// Evolve folds a fact of the change.
func Evolve(s State, fact events.Event) State {
	switch c := fact.Content.(type) {
	case events.ChangeCreated:
		authors := slices.Clone(s.Authors) // of one that comes again: who pushed to it has still
		if author := person(c.Lemnis.Author); !slices.Contains(authors, author) {
			authors = append(authors, author)
		}
		return State{Detail: c.Lemnis, Exists: true, Authors: authors}
	case events.ChangeUpdated:
		return s.update(c.Lemnis)
	case events.ChangeReviewed:
		if c.Lemnis.Head == s.Detail.Head {
			s.Opinions = hear(s.Opinions, c.Lemnis)
		}
	case events.ChangeAbandoned:
		s.Abandoned = true
	case events.ChangeVerified:
		s.Verified = c.Change.Head
	case events.ChangeRejected:
		if c.Head == s.Verified {
			s.Verified = ""
		}
	}
	return s
}

// update takes over what the new detail says; the first author stays the change's.
func (s State) update(d events.ChangeDetail) State {
	if author := person(d.Author); author != "" && !slices.Contains(s.Authors, author) {
		s.Authors = append(slices.Clone(s.Authors), author)
		s.Opinions = slices.DeleteFunc(slices.Clone(s.Opinions), func(o Opinion) bool { return o.Reviewer == author })
	}
	if d.Head != s.Detail.Head {
		s.Opinions = nil
	}
	first := s.Detail.Author
	s.Detail, s.Exists = d, true
	if first != "" {
		s.Detail.Author = first
	}
	return s
}

func hear(opinions []Opinion, r events.Review) []Opinion {
	if r.Verdict == events.Commented {
		return opinions
	}
	opinions = slices.Clone(opinions)
	name := person(r.Reviewer)
	i := slices.IndexFunc(opinions, func(o Opinion) bool { return o.Reviewer == name })
	if i < 0 {
		i = len(opinions)
		opinions = append(opinions, Opinion{Reviewer: name})
	}
	opinions[i].Verdict = r.Verdict
	if r.Verdict == events.Approved {
		opinions[i].Approvals++
	}
	return opinions
}

// by lists the reviewers whose latest word on the current head is the verdict.
func (s State) by(verdict string) []string {
	var names []string
	for _, o := range s.Opinions {
		if o.Verdict == verdict {
			names = append(names, o.Reviewer)
		}
	}
	slices.Sort(names)
	return names
}
