package lap

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/lemnis/lemnis/cmd/lemnis/api"
	"github.com/lemnis/lemnis/pkg/events"
)

// wished and release are the ids that the lap gives.
const (
	wished  = "wish-1"
	release = "first-turn"
)

// listen sends the feedback of several users, which has to become an insight, and what others ask for.
func (l *Lap) listen(ctx context.Context) error {
	for _, v := range l.subject.Feedback {
		err := l.insist(ctx, func() error {
			return l.client.Feedback(ctx, api.Feedback{Project: l.subject.Project.Name, User: v.User, Text: v.Text,
				Feature: l.subject.Feature, Service: l.subject.Service, Rating: v.Rating})
		})
		if err != nil {
			return fmt.Errorf("feedback of %s: %w", v.User, err)
		}
		l.tell("%s: “%s”", v.User, v.Text)
	}
	confirmed, err := l.journal.find(ctx, "an insight that enough users confirm", is(func(_ events.Event, c events.InsightFound) bool {
		return c.Confirmed && c.Feature == l.subject.Feature && len(c.Users) >= len(l.subject.Feedback)
	}))
	if err != nil {
		return err
	}
	c, _ := confirmed.Content.(events.InsightFound)
	l.item, l.chain = c.Insight, confirmed.Chain
	l.tell("insight: %s, say %d users", c.Title, len(c.Users))

	_, err = l.claim(ctx, said{id: "wish", about: wished, content: events.TicketCreated{
		Ticket: events.Ticket{Summary: l.subject.Wish, Creator: "sam", TicketType: "enhancement", URI: "urn:demo:" + wished},
		Lemnis: events.TicketDetail{Origin: events.Stakeholder, Estimate: &events.Estimate{
			Source: events.Stakeholder, By: "sam", Value: 8, Cost: 5, Confidence: 0.6, Reason: "the sales team loses carts"}},
	}})
	if err != nil {
		return err
	}
	l.wish = wished
	l.tell("sam, a stakeholder, wishes: “%s”", l.subject.Wish)
	estimate, err := l.claim(ctx, said{id: "case-study", about: wished, content: events.ValueEstimated{Item: wished, Estimate: events.Estimate{
		Source: events.CaseStudy, By: "a comparable shop", Value: 6, Confidence: 0.7, Reason: "there it brought 2 % more orders"}}})
	if err != nil {
		return err
	}
	if v, ok := estimate.Content.(events.ValueEstimated); ok {
		l.tell("a case study is heard: %s is worth %.4g now", wished, v.Value)
	}
	return nil
}

// plan waits for the items and their order, and asks for a release of them.
func (l *Lap) plan(ctx context.Context) error {
	opened, err := l.journal.find(ctx, "the work item of the insight", is(func(e events.Event, _ events.TicketCreated) bool { return e.Key == l.item }))
	if err != nil {
		return err
	}
	if t, ok := opened.Content.(events.TicketCreated); ok {
		l.tell("item %s opened for the users", t.Summary)
	}
	ranked, err := l.journal.find(ctx, "a backlog that holds both items", is(func(_ events.Event, c events.BacklogRanked) bool {
		return place(c.Places, l.item) >= 0 && place(c.Places, l.wish) >= 0
	}))
	if err != nil {
		return err
	}
	c, _ := ranked.Content.(events.BacklogRanked)
	for _, p := range c.Places {
		l.tell("%d. %s: %.4g of value for %.4g of cost; %s", p.Rank, p.Title, p.Value, p.Cost, p.Reason)
	}
	planned, err := l.claim(ctx, said{id: "release", about: release, content: events.ReleasePlanned{Release: release}, chain: l.chain})
	if err != nil {
		return err
	}
	r, _ := planned.Content.(events.ReleasePlanned)
	if place(r.Items, l.item) < 0 || place(r.Items, l.wish) < 0 {
		return errors.New("the release leaves an item of the lap out")
	}
	l.tell("release %s: %d items, %s", r.Release, len(r.Items), r.Reason)
	return nil
}

func place(places []events.Place, item string) int {
	return slices.IndexFunc(places, func(p events.Place) bool { return p.Item == item })
}
