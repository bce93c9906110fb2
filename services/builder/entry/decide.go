package entry

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/lemnis/lemnis/pkg/events"
)

// Decide says what an event makes of the change's entry in the queue.
func Decide(key string, s State, p events.Project, e events.Event) (events.Fact, bool) {
	if !p.Runs(events.Integrate) {
		return outside(key, s, e)
	}
	switch e.Kind {
	case events.Claim:
		return events.Refuse(e, fmt.Sprintf("changes are merged here, after their tests; %s cannot be claimed", e.Type.Short()))
	case events.Result:
		return result(s, p, e)
	}
	return step(key, s, p, e)
}

// outside meets what is said of a change that is merged elsewhere: by a claim, or by the API of its forge. Both may say that it is merged.
func outside(key string, s State, e events.Event) (events.Fact, bool) {
	c, merged := e.Content.(events.ChangeMerged)
	again := merged && s.Stage == Merged && s.Merge.Head == c.Lemnis.Head && s.Merge.Commit == c.Lemnis.Commit
	switch {
	case e.Kind == events.Claim && again:
		return events.Refuse(e, fmt.Sprintf("change %q is merged already", key))
	case e.Kind == events.Claim, merged && !again && e.Kind == events.Result && c.Lemnis.Round == 0: // no late word of the queue that was here
		return adopt(key, e)
	}
	return events.Fact{}, false
}

// adopt takes over what the outside tool that owns the phase says.
func adopt(key string, e events.Event) (events.Fact, bool) {
	content := e.Content
	if c, ok := content.(events.ChangeMerged); ok {
		c.Lemnis.Change = cmp.Or(c.Lemnis.Change, key)
		if c.Repository != nil {
			c.Lemnis.Repository = cmp.Or(c.Lemnis.Repository, c.Repository.ID)
		}
		content = c
	}
	return events.Fact{Content: content, SubjectID: e.SubjectID}, true
}

// step follows what became of the change in review, and how a run ended.
func step(key string, s State, p events.Project, e events.Event) (events.Fact, bool) {
	switch c := e.Content.(type) {
	case events.ChangeVerified:
		return verified(key, s, p, c)
	case events.ChangeUpdated:
		if c.Lemnis.Head != s.Merge.Head {
			return eject(s, fmt.Sprintf("the change has a new head %s, which has to be verified first", short(c.Lemnis.Head)))
		}
	case events.ChangeRejected:
		if c.Head == s.Merge.Head {
			return eject(s, c.Reason)
		}
	case events.ChangeAbandoned:
		return eject(s, "the change was abandoned")
	case events.PipelineRunFinished:
		if len(c.Lemnis.Changes) > 0 {
			return inTrain(key, s, e, c)
		}
		return finished(key, s, e, c)
	case events.QueuePlanned:
		for _, left := range c.Ejected {
			if m := left.Merge; m.Change == key && m.Round == s.Merge.Round && m.Head == s.Merge.Head && s.Slots > 0 {
				f, ok := eject(s, left.Reason)
				if out, is := f.Content.(events.QueueEjected); is {
					out.Conflicts = left.Conflicts
					f.Content, f.Chain = out, s.Chain
				}
				return f, ok
			}
		}
	}
	return events.Fact{}, false
}

// inTrain notes that a train passed in which the change was tested. What follows from a failure, the queue says.
func inTrain(key string, s State, e events.Event, c events.PipelineRunFinished) (events.Fact, bool) {
	i := slices.IndexFunc(c.Lemnis.Changes, func(m events.MergeDetail) bool { return m.Change == key })
	if i < 0 || s.Slots == 0 || s.Stage != Waiting && s.Stage != Tested || c.Outcome != events.Success {
		return events.Fact{}, false
	}
	m := c.Lemnis.Changes[i]
	if m.Round != s.Merge.Round || m.Head != s.Merge.Head || m.Onto == "" || m.Commit == "" {
		return events.Fact{}, false
	}
	return events.Fact{Content: events.QueueTested{Merge: m, Run: e.Key, Waits: true}, Chain: s.Chain}, true
}

func verified(key string, s State, p events.Project, c events.ChangeVerified) (events.Fact, bool) {
	d := c.Change
	m := events.MergeDetail{
		Change: key, Repository: d.Repository, Branch: d.Branch, Ref: d.Ref, Base: d.Base, Head: d.Head,
		Item: d.Item, Title: d.Title, Author: d.Author, Round: s.Merge.Round + 1,
	}
	if s.Stage != "" && s.Stage != Ejected && s.Merge.Head == m.Head {
		return events.Fact{}, false // it is on its way, or there
	}
	refuse := func(reason string) (events.Fact, bool) {
		m.Round = s.Merge.Round
		return events.Fact{Content: events.QueueEjected{Merge: m, Reason: reason}}, true
	}
	repo, known := p.Repository(m.Repository)
	master := cmp.Or(repo.Branch, "main")
	m.Base = cmp.Or(m.Base, master)
	switch {
	case s.Stage == Merged:
		return refuse(fmt.Sprintf("head %s was merged as %s; propose another change for what is new", short(s.Merge.Head), short(s.Merge.Commit)))
	case !known:
		return refuse(fmt.Sprintf("repository %q is not one of the project's", m.Repository))
	case m.Base != master:
		return refuse(fmt.Sprintf("the change wants to go into %q; the master copy of %s is %q", m.Base, m.Repository, master))
	case m.Head == "":
		return refuse("the change names no head")
	}
	return events.Fact{Content: events.QueueEntered{Merge: m, Reason: c.Reason, Slots: p.QueueSlots()}}, true
}

func eject(s State, reason string) (events.Fact, bool) {
	if s.Stage != Waiting && s.Stage != Tested {
		return events.Fact{}, false
	}
	return events.Fact{Content: events.QueueEjected{Merge: s.Merge, Reason: reason}}, true
}

func finished(key string, s State, e events.Event, c events.PipelineRunFinished) (events.Fact, bool) {
	m := c.Lemnis.Merge
	if s.Stage != Waiting || m.Round != s.Merge.Round || m.Head != s.Merge.Head {
		return events.Fact{}, false // of a round that is over
	}
	if c.Outcome == events.Success && m.Commit != "" && m.Onto != "" {
		m.Change = key
		return events.Fact{Content: events.QueueTested{Merge: m, Run: e.Key}}, true
	}
	reason, _, _ := strings.Cut(c.Errors, "\n") // below it stands what the commands printed
	if c.Outcome == events.Success {
		reason = "the run names no commit that it tested"
	}
	return events.Fact{Content: events.QueueEjected{Merge: m, Conflicts: c.Lemnis.Conflicts,
		Reason: cmp.Or(reason, "the run ended with "+c.Outcome)}}, true
}

// result meets what the effects report: what the change touches, and what became of its merge.
func result(s State, p events.Project, e events.Event) (events.Fact, bool) {
	f, ok := reported(s, p, e)
	if s.Slots > 0 && ok {
		f.Chain = s.Chain // several changes are merged by one effect
	}
	return f, ok
}

func reported(s State, p events.Project, e events.Event) (events.Fact, bool) {
	switch c := e.Content.(type) {
	case events.ChangeMerged:
		// Also when the change has left the queue in the meantime: the master copy has it.
		i := s.candidate(c.Lemnis)
		if i < 0 || s.Passed[i].Merged {
			return events.Fact{}, false
		}
		return events.Fact{Content: c}, true
	case events.QueueSurveyed:
		if s.Slots == 0 || s.Surveyed || s.Stage != Waiting || c.Merge.Round != s.Merge.Round || c.Merge.Head != s.Merge.Head {
			return events.Fact{}, false
		}
		c.Merge = s.Merge
		return events.Fact{Content: c}, true
	case events.QueueEntered:
		if !s.current(c.Merge) {
			return events.Fact{}, false
		}
		m := s.Merge
		m.Round, m.Onto, m.Commit, m.Evidence, m.With = m.Round+1, "", "", nil, ""
		return events.Fact{Content: events.QueueEntered{Merge: m, Reason: c.Reason, Slots: p.QueueSlots(), Alone: c.Alone || s.Alone}}, true
	case events.QueueEjected:
		if !s.current(c.Merge) {
			return events.Fact{}, false
		}
		return events.Fact{Content: events.QueueEjected{Merge: s.Merge, Conflicts: c.Conflicts,
			Reason: cmp.Or(strings.TrimSpace(c.Reason), "it could not be merged")}}, true
	}
	return events.Fact{}, false
}

// current reports whether a result is about the merge result that waits to become the master copy.
func (s State) current(m events.MergeDetail) bool {
	i := s.candidate(m)
	return s.Stage == Tested && i >= 0 && !s.Passed[i].Merged && m.Round == s.Merge.Round
}

func short(commit string) string {
	if len(commit) > 12 {
		return commit[:12]
	}
	return commit
}
