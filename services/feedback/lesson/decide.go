package lesson

import (
	"fmt"

	"github.com/lemnis/lemnis/pkg/events"
)

// What a lesson asks of the planner.
const (
	reopen    = "reopen"
	raiseCost = "raise-cost"
	none      = "none"
)

// Decide states a lesson once.
func Decide(key string, s State, _ events.Project, e events.Event) (events.Fact, bool) {
	switch c := e.Content.(type) {
	case events.IncidentResolved:
		if !s.Learned {
			return ofIncident(key, e, c), true
		}
	case events.LessonLearned:
		return claimed(key, s, e, c)
	}
	return events.Fact{}, false
}

func ofIncident(key string, e events.Event, c events.IncidentResolved) events.Fact {
	d := c.Lemnis
	l := events.LessonLearned{Lesson: key, Title: c.Description, Kind: "incident", Item: d.Item, Change: d.Change, Feature: d.Feature, Facts: []string{e.ID}}
	if c.Service != nil {
		l.Service = c.Service.ID
	}
	if l.Title == "" {
		l.Title = d.Title
	}
	if l.Title == "" {
		l.Title = "incident " + key
	}
	switch {
	case d.Rollout != "" && d.Item != "":
		l.Action = raiseCost
		l.Reason = fmt.Sprintf("a change for %s was rolled out and taken back", d.Item)
	case d.Rollout != "":
		l.Action = none
		l.Reason = "a rollout was taken back; it names no item to make dearer"
	default:
		l.Action = reopen
		l.Reason = "it happened to what had already reached all users"
	}
	if d.Exposed > 0 {
		l.Reason += fmt.Sprintf("; %d requests met the fault", d.Exposed)
	}
	if d.Cause != "" {
		l.Reason += "; held to be caused by " + d.Cause
	}
	return events.Fact{Content: l, Links: []events.Link{{Type: events.Relation, Kind: "INCIDENT", Context: e.ID}}}
}

func claimed(key string, s State, e events.Event, c events.LessonLearned) (events.Fact, bool) {
	switch {
	case s.Learned:
		return events.Refuse(e, fmt.Sprintf("lesson %s was learned already", key))
	case c.Title == "":
		return events.Refuse(e, "a lesson needs a title")
	case c.Kind != "incident" && c.Kind != "success":
		return events.Refuse(e, fmt.Sprintf("the kind %q is unknown; it may be incident or success", c.Kind))
	case c.Action != reopen && c.Action != raiseCost && c.Action != none:
		return events.Refuse(e, fmt.Sprintf("the action %q is unknown; it may be reopen, raise-cost or none", c.Action))
	case c.Action == raiseCost && c.Item == "":
		return events.Refuse(e, "say which item shall be held dearer")
	}
	c.Lesson = key
	return events.Fact{Content: c}, true
}
