package item

import (
	"fmt"
	"math"
	"strings"

	"github.com/lemnis/lemnis/pkg/events"
)

// Points that stand in where nobody says. They are a starting point, until realised values calibrate them.
const (
	defaultValue      = 3.0
	defaultCost       = 3.0
	defaultConfidence = 0.5
	mostPoints        = 1e6
)

// ByInsight is the author of the estimate that follows from users' feedback.
const ByInsight = "insight"

const lessonPrefix = "lesson:"

// ofPriority is the value that a tracker's priority stands for.
var ofPriority = map[string]float64{"low": 2, "medium": 5, "high": 8, "critical": 13}

// urgency scales what users say by what they complain about.
var urgency = map[string]float64{"failure": 1.5, "performance": 1.25, "missing": 1.25, "usability": 1}

// weigh makes one value and one cost of what the sources say: the mean by confidence. What
// operations saw of the cost outweighs what others expect, and so stands alone.
func weigh(all []events.Estimate) (value, cost float64, reason string) {
	var weights, costWeights, seen float64
	var parts []string
	for _, e := range all {
		w := e.Confidence
		if w == 0 {
			w = defaultConfidence
		}
		value, weights = value+w*e.Value, weights+w
		if e.Cost > 0 {
			cost, costWeights = cost+w*e.Cost, costWeights+w
			if e.Source == events.Operations {
				seen = max(seen, e.Cost)
			}
		}
		part := fmt.Sprintf("%s %s", e.Source, number(e.Value))
		if e.Confidence > 0 {
			part += fmt.Sprintf(" (%.0f %% sure)", e.Confidence*100)
		}
		parts = append(parts, part)
	}
	value, cost = round(value/max(weights, 1e-9)), round(cost/max(costWeights, 1e-9))
	reason = "value from " + strings.Join(parts, ", ")
	switch {
	case seen > 0:
		cost = seen
		reason += "; cost as operations saw it"
	case costWeights == 0:
		cost = defaultCost
		reason += "; nobody says the cost, so it is taken as " + number(cost)
	}
	return value, max(cost, 0.1), reason
}

// first is the estimate that an item is opened with.
func first(t events.Ticket, d events.TicketDetail) events.Estimate {
	if d.Estimate != nil {
		return *d.Estimate
	}
	e := events.Estimate{Source: d.Origin, By: t.Creator, Value: defaultValue, Confidence: 0.25, Reason: "nobody has said a value yet"}
	if e.Source == "" {
		e.Source = events.Stakeholder
	}
	if v, ok := ofPriority[t.Priority]; ok {
		e.Value, e.Confidence, e.Reason = v, defaultConfidence, "from the priority "+t.Priority
	}
	return e
}

// ofInsight is what users' feedback says of an item's worth: it grows with their number, and with how unhappy they are.
func ofInsight(c events.InsightFound) events.Estimate {
	users := float64(len(c.Users))
	scale, ok := urgency[c.Category]
	if !ok {
		scale = 0.75
	}
	sentiment := min(max(c.Sentiment, -1), 1)
	return events.Estimate{
		Source: events.EndUser, By: ByInsight,
		Value:      min(round(2*users*scale*(1-sentiment/2)), mostPoints),
		Confidence: round(min(0.5+0.05*users, 0.9)),
		Reason:     fmt.Sprintf("%d users say so (%s, mood %+.1f)", len(c.Users), c.Category, sentiment),
	}
}

// ofLesson raises the cost by half: what went wrong once takes more work than was thought.
func ofLesson(c events.LessonLearned, value, cost float64) events.Estimate {
	return events.Estimate{
		Source: events.Operations, By: lessonPrefix + c.Lesson, Value: value, Cost: min(round(cost*1.5), mostPoints), Confidence: 0.8,
		Reason: fmt.Sprintf("lesson %s: %s", c.Lesson, c.Title),
	}
}

func lessonOf(e events.Estimate) (string, bool) {
	id, ok := strings.CutPrefix(e.By, lessonPrefix)
	return id, ok && e.Source == events.Operations
}

// wrong says why an estimate that somebody claims is not taken; empty when it is.
func wrong(e events.Estimate) string {
	switch e.Source {
	case events.EndUser, events.Stakeholder, events.CaseStudy, events.Operations:
	default:
		return fmt.Sprintf("the source %q is unknown; it may be end-user, stakeholder, case-study or operations", e.Source)
	}
	switch {
	case !within(e.Value, mostPoints):
		return fmt.Sprintf("the value %g has to be 0 to %g points", e.Value, mostPoints)
	case !within(e.Cost, mostPoints):
		return fmt.Sprintf("the cost %g has to be 0 to %g points", e.Cost, mostPoints)
	case !within(e.Confidence, 1):
		return fmt.Sprintf("the confidence %g has to be 0 to 1", e.Confidence)
	case strings.HasPrefix(e.By, lessonPrefix):
		return "only a lesson speaks as one"
	}
	return ""
}

func within(x, most float64) bool { return !math.IsNaN(x) && x >= 0 && x <= most }

// round keeps hundredths of points: more than that an estimate does not know.
func round(x float64) float64 { return math.Round(x*100) / 100 }

func number(x float64) string { return fmt.Sprintf("%.4g", x) }
