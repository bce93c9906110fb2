package item

import (
	"fmt"
	"net/url"
	"reflect"
	"slices"

	"github.com/lemnis/lemnis/pkg/events"
)

const (
	longestID  = 200 // bytes; an id stands in every ranking
	mostWanted = 100 // prerequisites of one item
)

// Decide says what an event makes of the item with this key.
func Decide(key string, s State, p events.Project, e events.Event) (events.Fact, bool) {
	if e.Kind == events.Claim {
		return decideClaim(key, s, p, e)
	}
	switch c := e.Content.(type) {
	case events.TicketCreated:
		return decideFirst(key, s, c)
	case events.TicketUpdated:
		if c.Lemnis.Estimate != nil {
			return estimate(key, s, *c.Lemnis.Estimate)
		}
		return restate(key, s)
	case events.InsightFound:
		return decideInsight(key, s, p, e, c)
	case events.LessonLearned:
		return decideLesson(key, s, p, c)
	case events.ServicePublished:
		if s.Status == Open {
			return events.Fact{Content: events.TicketClosed{
				Ticket: s.Ticket, Resolution: "completed", UpdatedBy: "lemnis", Lemnis: s.Detail,
			}}, true
		}
	}
	return events.Fact{}, false
}

func decideClaim(key string, s State, p events.Project, e events.Event) (events.Fact, bool) {
	if len(key) > longestID {
		return events.Refuse(e, fmt.Sprintf("the id has %d bytes; %d at most", len(key), longestID))
	}
	if _, isNew := e.Content.(events.TicketCreated); !isNew {
		switch s.Status {
		case Open:
		case Closed:
			return events.Refuse(e, fmt.Sprintf("item %s is closed; open a new ticket for what is left", key))
		default:
			return events.Refuse(e, fmt.Sprintf("there is no item %s; open a ticket first", key))
		}
	}
	switch c := e.Content.(type) {
	case events.TicketCreated:
		return create(key, s, p, e, c)
	case events.TicketUpdated:
		return update(key, s, e, c)
	case events.TicketClosed:
		if c.Resolution == "" {
			return events.Refuse(e, "say how it ended: completed, withdrawn or declined")
		}
		return events.Fact{Content: events.TicketClosed{Ticket: s.Ticket, Resolution: c.Resolution, UpdatedBy: e.Actor(c.UpdatedBy), Lemnis: s.Detail}}, true
	case events.ValueEstimated:
		return claimValue(key, s, p, e, c)
	}
	return events.Fact{}, false
}

func create(key string, s State, p events.Project, e events.Event, c events.TicketCreated) (events.Fact, bool) {
	if s.Status != "" {
		return events.Refuse(e, fmt.Sprintf("item %s exists already, and is %s", key, s.Status))
	}
	c = events.TicketCreated{Ticket: complete(c.Ticket, key, p.Name, e.Principal), Lemnis: c.Lemnis}
	if est := c.Lemnis.Estimate; est != nil {
		c.Lemnis.Estimate = signed(*est, c.Lemnis.Origin, e.Principal)
	}
	if c.Lemnis.Origin == "" && c.Lemnis.Estimate != nil {
		c.Lemnis.Origin = c.Lemnis.Estimate.Source
	}
	if reason := faulty(key, c.Ticket, c.Lemnis); reason != "" {
		return events.Refuse(e, reason)
	}
	return events.Fact{Content: c}, true
}

// update lays what the claim carries over what is known; what it does not carry stays.
func update(key string, s State, e events.Event, c events.TicketUpdated) (events.Fact, bool) {
	t, d := s.Ticket, s.Detail
	set(&t.Summary, c.Summary)
	set(&t.TicketType, c.TicketType)
	set(&t.Group, c.Group)
	set(&t.Priority, c.Priority)
	set(&t.Milestone, c.Milestone)
	set(&t.URI, c.URI)
	set(&d.Feature, c.Lemnis.Feature)
	if c.Assignees != nil {
		t.Assignees = c.Assignees
	}
	if c.Labels != nil {
		t.Labels = c.Labels
	}
	if c.Lemnis.Requires != nil {
		d.Requires = c.Lemnis.Requires
	}
	d.Estimate = nil
	if est := c.Lemnis.Estimate; est != nil {
		d.Estimate = signed(*est, d.Origin, e.Principal)
	}
	if reason := faulty(key, t, d); reason != "" {
		return events.Refuse(e, reason)
	}
	before := s.Detail
	before.Estimate = nil
	if d.Estimate == nil && reflect.DeepEqual(t, s.Ticket) && reflect.DeepEqual(d, before) {
		return events.Refuse(e, fmt.Sprintf("item %s is like that already", key))
	}
	return events.Fact{Content: events.TicketUpdated{Ticket: t, UpdatedBy: e.Actor(c.UpdatedBy), Lemnis: d}}, true
}

func claimValue(key string, s State, p events.Project, e events.Event, c events.ValueEstimated) (events.Fact, bool) {
	est := *signed(c.Estimate, "", e.Principal)
	if reason := wrong(est); reason != "" {
		return events.Refuse(e, reason)
	}
	fact, ok := estimate(key, s, est)
	if !ok {
		return events.Refuse(e, fmt.Sprintf("%s by %s has said just that of item %s already", est.Source, est.By, key))
	}
	if !p.Runs(events.Plan) && e.Principal == p.Owner(events.Plan) && within(c.Value, mostPoints) && c.Cost > 0 && within(c.Cost, mostPoints) {
		// Whoever owns the plan weighs the sources; its word is adopted.
		v := fact.Content.(events.ValueEstimated) //nolint:forcetypeassert // estimate makes no other
		v.Value, v.Cost, v.Reason = c.Value, c.Cost, c.Reason
		fact.Content = v
	}
	return fact, true
}

// decideFirst states the worth that an item is opened with. What was said between the opening and
// this step is newer, and stays.
func decideFirst(key string, s State, c events.TicketCreated) (events.Fact, bool) {
	e := first(c.Ticket, c.Lemnis)
	spoken := slices.ContainsFunc(s.Estimates, func(o events.Estimate) bool { return o.Source == e.Source && o.By == e.By })
	if spoken || c.Lemnis.Estimate == nil && len(s.Estimates) > 0 {
		return events.Fact{}, false
	}
	return estimate(key, s, e)
}

func decideInsight(key string, s State, p events.Project, e events.Event, c events.InsightFound) (events.Fact, bool) {
	switch {
	case !c.Confirmed || c.Category == "praise":
		return events.Fact{}, false
	case s.Status == Closed:
		return events.Fact{}, false
	case s.Status == Open:
		return estimate(key, s, ofInsight(c))
	}
	est := ofInsight(c)
	kind := "enhancement"
	if c.Category == "failure" {
		kind = "bug"
	}
	return events.Fact{
		Content: events.TicketCreated{
			Ticket: complete(events.Ticket{Summary: c.Title, TicketType: kind}, key, p.Name, ""),
			Lemnis: events.TicketDetail{Origin: events.EndUser, Feature: c.Feature, Insight: c.Insight, Estimate: &est},
		},
		Links: []events.Link{{Type: events.Relation, Kind: "INSIGHT", Context: e.ID}},
	}, true
}

func decideLesson(key string, s State, p events.Project, c events.LessonLearned) (events.Fact, bool) {
	switch {
	case c.Action == raiseCost && s.Status == Open:
		if slices.Contains(s.Lessons, c.Lesson) {
			return events.Fact{}, false
		}
		value, cost, _ := weigh(s.Estimates)
		return estimate(key, s, ofLesson(c, value, cost))
	case c.Action == reopen && s.Status == "":
		est := events.Estimate{Source: events.Operations, By: lessonPrefix + c.Lesson, Value: ofPriority["high"], Confidence: 0.8, Reason: c.Reason}
		return events.Fact{Content: events.TicketCreated{
			Ticket: complete(events.Ticket{Summary: "Keep from happening again: " + c.Title, TicketType: "incident", Priority: "high"}, key, p.Name, ""),
			Lemnis: events.TicketDetail{Origin: events.Operations, Feature: c.Feature, Estimate: &est},
		}}, true
	}
	return events.Fact{}, false
}

// estimate states what the item is worth with one more opinion; nothing when it changes nothing.
func estimate(key string, s State, e events.Estimate) (events.Fact, bool) {
	if s.Status != Open {
		return events.Fact{}, false
	}
	all := with(s.Estimates, e)
	value, cost, reason := weigh(all)
	now := Worth{Title: s.Ticket.Summary, Feature: s.Detail.Feature, Value: value, Cost: cost, Requires: s.Detail.Requires}
	if s.Stated != nil && reflect.DeepEqual(all, s.Estimates) && same(*s.Stated, now) {
		return events.Fact{}, false
	}
	return events.Fact{Content: events.ValueEstimated{
		Item: key, Title: now.Title, Feature: now.Feature, Estimate: e, Value: value, Cost: cost, Requires: now.Requires, Reason: reason,
	}}, true
}

// restate tells the backlog of a new title, feature or prerequisite.
func restate(key string, s State) (events.Fact, bool) {
	if len(s.Estimates) == 0 {
		return estimate(key, s, first(s.Ticket, s.Detail))
	}
	return estimate(key, s, s.Estimates[len(s.Estimates)-1])
}

func same(a, b Worth) bool {
	return a.Title == b.Title && a.Feature == b.Feature && a.Value == b.Value && a.Cost == b.Cost && slices.Equal(a.Requires, b.Requires)
}

// complete fills what CDEvents requires of a ticket.
func complete(t events.Ticket, key, project, principal string) events.Ticket {
	if t.Creator == "" {
		t.Creator = principal
	}
	if t.Creator == "" {
		t.Creator = "lemnis"
	}
	if t.URI == "" {
		t.URI = "urn:lemnis:" + project + ":item:" + url.PathEscape(key)
	}
	return t
}

// signed fills in who estimates, and as what.
func signed(e events.Estimate, source, principal string) *events.Estimate {
	if e.Source == "" {
		e.Source = source
	}
	if e.Source == "" {
		e.Source = events.Stakeholder
	}
	if e.By == "" {
		e.By = principal
	}
	return &e
}

func faulty(key string, t events.Ticket, d events.TicketDetail) string {
	switch {
	case t.Summary == "":
		return "a ticket needs a summary"
	case slices.Contains(d.Requires, key):
		return fmt.Sprintf("item %s cannot require itself", key)
	case len(d.Requires) > mostWanted:
		return fmt.Sprintf("item %s requires %d others; %d at most", key, len(d.Requires), mostWanted)
	case slices.ContainsFunc(d.Requires, func(id string) bool { return id == "" || len(id) > longestID }):
		return fmt.Sprintf("a prerequisite has to be the id of an item, of 1 to %d bytes", longestID)
	}
	if d.Estimate != nil {
		return wrong(*d.Estimate)
	}
	return ""
}

func set(field *string, value string) {
	if value != "" {
		*field = value
	}
}
