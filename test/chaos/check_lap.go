package chaos

import (
	"fmt"
	"maps"
	"slices"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/test/chaos/small"
)

// times is how often something has to be there.
type times struct{ least, most int }

// many stands for any number.
const many = 1 << 30

// tally is how often a lap has to state each type, whatever befell it.
type tally map[string]times

func (t tally) add(n int, types ...string) {
	for _, name := range types {
		was := t[name]
		t[name] = times{was.least + n, was.most + n}
	}
}

func (t tally) loose(least, most int, types ...string) {
	for _, name := range types {
		was := t[name]
		t[name] = times{was.least + least, was.most + most}
	}
}

// expected is what a lap has to leave on the stream.
func expected(l Lap) tally {
	t := tally{}
	t.add(1, "project.configured", "repository.created", "build.queued", "build.finished", "artifact.packaged", "artifact.published")
	t.loose(1, many, "build.started") // one for each attempt
	for environment := range 3 {
		t.rollout(l, environment, "service.deployed")
	}
	t.published(false)
	// Two users say the same: the second makes it worth an item. Another item is a stakeholder's wish.
	t.add(2, "feedback.received", "insight.found", "ticket.created", "value.estimated", "backlog.ranked")
	closed := map[string]bool{}
	for _, c := range l.Changes {
		t.change(l, c, closed)
	}
	return t
}

// rollout is what an artifact states on its way to the users of an environment, up to its first step.
func (t tally) rollout(l Lap, environment int, placed string) {
	t.gate(l, environment)
	if environment == 2 {
		t.add(1, "approval.given")
	}
	t.add(1, "deployment.started", placed, "testsuiterun.finished", "canary.stepped")
	if environment < 2 {
		t.add(1, "service.published")
	}
}

// gate is what it states up to the question whether it may enter.
func (t tally) gate(l Lap, environment int) {
	t.add(1, "deployment.requested", "gate.evaluated")
	if environment == 2 {
		t.add(1, "approval.requested")
		if l.Soak {
			t.loose(0, 1, "gate.evaluated") // where it had to wait; not when everything took long enough
		}
	}
}

// published is the end in the last environment: all its users are served, and the figures say so.
func (t tally) published(canary bool) {
	if canary {
		t.add(2, "canary.observed", "canary.stepped") // a tenth of the users, half of them, all
		t.add(1, "canary.judged")
	}
	t.add(1, "service.published", "metrics.computed")
}

func (t tally) change(l Lap, c Change, closed map[string]bool) {
	t.add(1, "change.created", "change.reviewed", "change.verified", "queue.entered", "pipelinerun.queued", "pipelinerun.finished")
	t.add(1, "claim.refused") // its author's own review
	t.loose(1, many, "pipelinerun.started")
	if c.Kind == small.Red {
		t.add(1, "queue.ejected")
		return
	}
	t.add(1, "queue.tested", "change.merged", "build.queued", "build.finished", "artifact.packaged", "artifact.published")
	t.loose(1, many, "build.started")
	t.rollout(l, 0, "service.upgraded")
	switch c.Kind {
	case small.Low:
		t.add(1, "deployment.requested", "gate.evaluated", "deployment.failed")
		return
	default:
		t.rollout(l, 1, "service.upgraded")
	}
	switch c.Kind {
	case small.Refused:
		t.gate(l, 2)
		t.add(1, "approval.refused", "deployment.failed")
	case small.Bad:
		t.rollout(l, 2, "service.upgraded")
		t.add(1, "canary.observed", "canary.judged", "service.rolledback")
		t.add(3, "artifact.barred") // in each environment
		t.add(1, "incident.detected", "alert.sent", "remediation.started", "remediation.finished", "incident.resolved", "lesson.learned")
		t.add(2, "metrics.computed") // taken back; repaired
		t.add(1, "value.estimated", "backlog.ranked")
	default:
		t.rollout(l, 2, "service.upgraded")
		t.published(true)
		if c.Item != "" && !closed[c.Item] {
			closed[c.Item] = true
			t.add(1, "ticket.closed", "backlog.ranked")
		}
	}
}

// lap compares what a lap has left with what it has to leave.
func (c *checker) lap(l Lap) {
	got := map[string]int{}
	for _, e := range c.projects[l.Project] {
		got[e.Type.Short()]++
	}
	want := expected(l)
	for _, name := range slices.Sorted(maps.Keys(want)) {
		switch n, w := got[name], want[name]; {
		case n < w.least:
			c.find(Lost, "lap %s: %d facts %s, at least %d have to be there", l.Project, n, name, w.least)
		case n > w.most:
			c.find(Twice, "lap %s: %d facts %s, at most %d may be there", l.Project, n, name, w.most)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[name]; !ok {
			c.find(Stray, "lap %s: %d facts %s, which a lap does not state", l.Project, got[name], name)
		}
	}
	c.chains(l)
}

// chains looks for the end of each change.
func (c *checker) chains(l Lap) {
	ends := map[string]bool{}
	for _, e := range c.projects[l.Project] {
		switch f := e.Content.(type) {
		case events.ServicePublished:
			if f.Lemnis.Rollout.Next == "" {
				ends[f.Lemnis.Rollout.Artifact.Change] = true
			}
		case events.DeploymentFailed:
			ends[f.Rollout.Artifact.Change] = true
		case events.QueueEjected:
			ends[f.Merge.Change] = true
		case events.LessonLearned:
			ends[f.Change] = true
		}
	}
	all := []string{""}
	for _, change := range l.Changes {
		all = append(all, change.ID)
	}
	for _, id := range all {
		c.verdict.Chains++
		if ends[id] {
			c.verdict.Closed++
		} else {
			c.find(Lost, "lap %s: the chain of %s is open", l.Project, fmt.Sprintf("change %q", id))
		}
	}
}
