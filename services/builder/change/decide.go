package change

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/lemnis/lemnis/pkg/events"
)

// Decide says what an event makes of the change with this id.
func Decide(key string, s State, p events.Project, e events.Event) (events.Fact, bool) {
	switch e.Kind {
	case events.Claim:
		if !p.Runs(events.Develop) {
			// An outside tool reviews; what it says stands. Of others nothing does: most types here are open to all.
			if owner := p.Owner(events.Develop); e.Principal != owner && !events.SpeaksForOthers(e.Principal) {
				return events.Refuse(e, fmt.Sprintf("changes of this project are judged by %q", owner))
			}
			return events.Fact{Content: e.Content, SubjectID: e.SubjectID}, true
		}
		return claim(key, s, p, e)
	case events.Result:
		if p.Runs(events.Develop) {
			return listed(key, s, p, e)
		}
	case events.Stated:
		if p.Runs(events.Develop) {
			return judge(key, s, p, e)
		}
	}
	return events.Fact{}, false
}

func claim(key string, s State, p events.Project, e events.Event) (events.Fact, bool) {
	switch c := e.Content.(type) {
	case events.ChangeCreated:
		return create(key, s, p, e, c)
	case events.ChangeUpdated, events.ChangeReviewed, events.ChangeAbandoned:
		if !s.Exists {
			return events.Refuse(e, fmt.Sprintf("change %q is not known; claim change created first", key))
		}
		if s.Abandoned {
			return events.Refuse(e, fmt.Sprintf("change %q was abandoned; claim change created to propose it again", key))
		}
	}
	repository := &events.Reference{ID: s.Detail.Repository}
	switch c := e.Content.(type) {
	case events.ChangeUpdated:
		return update(s, e, c)
	case events.ChangeReviewed:
		return review(s, e, c)
	case events.ChangeAbandoned:
		c.Repository = repository
		return events.Fact{Content: c}, true
	}
	return events.Refuse(e, fmt.Sprintf("%s is decided here, from the reviews of a change; it cannot be claimed", e.Type.Short()))
}

// listed meets what the API of a forge says of the change, which is what its webhook claims. Nobody waits for an answer: what is known already, or
// may not be, comes to nothing.
func listed(key string, s State, p events.Project, e events.Event) (events.Fact, bool) {
	f, ok := claim(key, s, p, e)
	if _, refused := f.Content.(events.ClaimRefused); refused {
		return events.Fact{}, false
	}
	return f, ok
}

func create(key string, s State, p events.Project, e events.Event, c events.ChangeCreated) (events.Fact, bool) {
	d := c.Lemnis
	if d.Repository == "" && c.Repository != nil {
		d.Repository = c.Repository.ID
	}
	named := strings.TrimSpace(d.Author)
	d.Author = e.Actor(named)
	repo, known := p.Repository(d.Repository)
	master := cmp.Or(repo.Branch, "main")
	d.Base = cmp.Or(d.Base, master)
	switch {
	case s.Exists && !s.Abandoned:
		return events.Refuse(e, fmt.Sprintf("change %q exists already; claim change updated for a new head", key))
	case d.Repository == "":
		return events.Refuse(e, "the change names no repository")
	case !known:
		return events.Refuse(e, fmt.Sprintf("repository %q is not one of the project's; %s", d.Repository, repositories(p)))
	case d.Branch == "":
		return events.Refuse(e, "the change names no branch")
	case d.Branch == d.Base:
		return events.Refuse(e, fmt.Sprintf("the change's branch is %q, into which it wants to go", d.Branch))
	case d.Base != master:
		return events.Refuse(e, fmt.Sprintf("the change wants to go into %q; the master copy of %s is %q", d.Base, d.Repository, master))
	case named != "" && person(named) != person(d.Author):
		return events.Refuse(e, notItself(e, "author", named))
	case d.Author == "":
		return events.Refuse(e, "the change names no author, so that nobody could be told from its reviewers")
	}
	if reason := cmp.Or(badHead(d.Head), badRef(d.Ref)); reason != "" {
		return events.Refuse(e, reason)
	}
	c.Lemnis, c.Repository = d, &events.Reference{ID: d.Repository}
	return events.Fact{Content: c}, true
}

func update(s State, e events.Event, c events.ChangeUpdated) (events.Fact, bool) {
	d := c.Lemnis
	if d.Repository == "" && c.Repository != nil {
		d.Repository = c.Repository.ID
	}
	old := s.Detail
	switch {
	case d.Repository != "" && d.Repository != old.Repository:
		return events.Refuse(e, fmt.Sprintf("the change is in repository %q and cannot move to %q", old.Repository, d.Repository))
	case d.Base != "" && d.Base != old.Base:
		return events.Refuse(e, fmt.Sprintf("the change wants to go into %q; propose another change for %q", old.Base, d.Base))
	case d.Ref != "" && old.Ref != "" && d.Ref != old.Ref:
		return events.Refuse(e, fmt.Sprintf("the change is offered under %s and cannot move to %.100q", old.Ref, d.Ref))
	}
	named := strings.TrimSpace(d.Author)
	author := cmp.Or(e.Actor(named), old.Author)
	if named != "" && person(named) != person(author) {
		return events.Refuse(e, notItself(e, "author", named))
	}
	next := events.ChangeDetail{
		Repository: old.Repository, Base: old.Base, Author: old.Author,
		Title: cmp.Or(d.Title, old.Title), Branch: cmp.Or(d.Branch, old.Branch), Ref: cmp.Or(d.Ref, old.Ref), Head: cmp.Or(d.Head, old.Head),
		Item: cmp.Or(d.Item, old.Item), URL: cmp.Or(d.URL, old.URL),
	}
	// A list says a head and not who pushed it; a webhook that comes after it does, and who pushed can not review.
	pushed := named != "" && d.Head == old.Head && events.SpeaksForOthers(e.Principal) && !slices.Contains(s.Authors, person(named))
	if next == old && !pushed {
		return events.Refuse(e, "the change stands like that already")
	}
	if reason := cmp.Or(badHead(next.Head), badRef(next.Ref)); reason != "" {
		return events.Refuse(e, reason)
	}
	if next.Head != old.Head || pushed {
		next.Author = author // of the new head: Evolve keeps who proposed the change
	}
	c.Lemnis, c.Repository = next, &events.Reference{ID: next.Repository}
	return events.Fact{Content: c}, true
}

func review(s State, e events.Event, c events.ChangeReviewed) (events.Fact, bool) {
	r := c.Lemnis
	named := strings.TrimSpace(r.Reviewer)
	if r.Reviewer = named; named == "" && !events.SpeaksForOthers(e.Principal) {
		r.Reviewer = e.Principal
	}
	r.Head = cmp.Or(r.Head, s.Detail.Head)
	switch {
	case r.Reviewer == "":
		return events.Refuse(e, "the review names no reviewer")
	case person(e.Actor(named)) != person(r.Reviewer) && !events.SpeaksForOthers(e.Principal):
		return events.Refuse(e, notItself(e, "reviewer", named))
	case r.Verdict != events.Approved && r.Verdict != events.ChangesRequested && r.Verdict != events.Commented:
		return events.Refuse(e, fmt.Sprintf("%q is no verdict; it is one of %s, %s, %s", r.Verdict, events.Approved, events.ChangesRequested, events.Commented))
	case slices.Contains(s.Authors, person(r.Reviewer)) && r.Verdict != events.Commented:
		return events.Refuse(e, fmt.Sprintf("%s is an author of the change and cannot review it", r.Reviewer))
	case r.Head != s.Detail.Head:
		return events.Refuse(e, fmt.Sprintf("the review is of head %s, and the change stands at %s", short(r.Head), short(s.Detail.Head)))
	}
	c.Lemnis, c.Repository = r, &events.Reference{ID: s.Detail.Repository}
	return events.Fact{Content: c}, true
}

// notItself is why a claim that names somebody else than its principal is refused: who was authenticated is known, and a
// name is only written down. Else whoever proposes a change could approve it under another's name.
func notItself(e events.Event, role, named string) string {
	return fmt.Sprintf("the claim names %s as the %s, and it is %s who says it: a principal speaks for itself", named, role, e.Principal)
}

// judge states whether the change may be integrated, when one of its own facts changed that.
func judge(key string, s State, p events.Project, e events.Event) (events.Fact, bool) {
	head := s.Detail.Head
	if !s.Exists || s.Abandoned {
		return events.Fact{}, false
	}
	if against := s.by(events.ChangesRequested); len(against) > 0 {
		if s.Verified != head {
			return events.Fact{}, false
		}
		return events.Fact{Content: events.ChangeRejected{ID: key, Head: head,
			Reason: fmt.Sprintf("changes of head %s are asked for by %s", short(head), strings.Join(against, ", "))}}, true
	}
	approvals := s.by(events.Approved)
	if len(approvals) < p.Review.Approvals {
		return lacking(key, s, e, fmt.Sprintf("%d of %d approvals of head %s are left", len(approvals), p.Review.Approvals, short(head)))
	}
	if s.Verified == head && !again(s, e) {
		return events.Fact{}, false
	}
	reason := "no approvals are asked for"
	if p.Review.Approvals > 0 {
		reason = fmt.Sprintf("%d of %d approvals of head %s: %s", len(approvals), p.Review.Approvals, short(head), strings.Join(approvals, ", "))
	}
	return events.Fact{Content: events.ChangeVerified{Change: s.Detail, ID: key, Approvals: approvals, Reason: reason}}, true
}

// lacking takes back what was verified, where an update left too few approvals: one was of who turns out to have pushed the head, or the change went
// to another head and came back. Other words of reviewers do not ask again whether what passed would pass the policy of now.
func lacking(key string, s State, e events.Event, reason string) (events.Fact, bool) {
	c, updated := e.Content.(events.ChangeUpdated)
	if !updated || c.Lemnis.Head != s.Detail.Head || s.Verified != s.Detail.Head {
		return events.Fact{}, false
	}
	return events.Fact{Content: events.ChangeRejected{ID: key, Head: s.Detail.Head, Reason: reason}}, true
}

// again reports whether a reviewer approved the same head once more. That is how people ask for
// another try of a change that had to leave the queue through no fault of its own.
func again(s State, e events.Event) bool {
	c, ok := e.Content.(events.ChangeReviewed)
	if !ok || c.Lemnis.Verdict != events.Approved || c.Lemnis.Head != s.Detail.Head {
		return false
	}
	return slices.ContainsFunc(s.Opinions, func(o Opinion) bool {
		return o.Reviewer == person(c.Lemnis.Reviewer) && o.Approvals > 1
	})
}

// badHead says what is wrong with a commit's name; empty when nothing is.
func badHead(head string) string {
	switch {
	case head == "":
		return "the change names no head"
	case len(head) != 40 && len(head) != 64, strings.Trim(head, "0123456789abcdef") != "":
		return fmt.Sprintf("head %q is no full commit id (40 or 64 hexadecimal digits)", head)
	}
	return ""
}

// badRef says what is wrong with the ref of a change from a fork; empty when nothing is.
func badRef(ref string) string {
	if ref == "" || events.IsPullRef(ref) {
		return ""
	}
	return fmt.Sprintf("ref %.100q is none under which a forge offers changes: refs/pull/N/head or refs/merge-requests/N/head", ref)
}

func short(commit string) string {
	if len(commit) > 12 {
		return commit[:12]
	}
	return commit
}

func repositories(p events.Project) string {
	if len(p.Repositories) == 0 {
		return "it has none yet: apply a configuration"
	}
	names := make([]string, 0, len(p.Repositories))
	for _, r := range p.Repositories {
		names = append(names, r.Name)
	}
	return "it has " + strings.Join(names, ", ")
}
