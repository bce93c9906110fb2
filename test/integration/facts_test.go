package integration_test

import (
	"fmt"
	"testing"

	v05 "github.com/cdevents/sdk-go/pkg/api/v05"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/pkg/events/schema"
)

// eachFactOnce checks that nothing was stated twice, and that a lap's facts are all there.
func eachFactOnce(t *testing.T, all []events.Event) {
	t.Helper()
	ids, causes := map[string]bool{}, map[string]events.Event{}
	var last uint64
	for _, e := range all {
		if e.Sequence <= last {
			t.Errorf("event %d comes after %d", e.Sequence, last)
		}
		last = e.Sequence
		id := string(e.Kind) + "/" + e.Source + "/" + e.ID
		if ids[id] {
			t.Errorf("the id %s is there twice", id)
		}
		ids[id] = true
		if e.Kind != events.Stated {
			continue
		}
		// An aggregate states at most one fact for a cause.
		cause := fmt.Sprintf("%s %s/%s of %d", e.Phase, e.Aggregate, e.Key, e.CauseSequence)
		if before, twice := causes[cause]; twice {
			t.Errorf("%s stated two facts: %s (%d) and %s (%d)", cause, before.Type.Short(), before.Sequence, e.Type.Short(), e.Sequence)
		}
		causes[cause] = e
	}
	for short, want := range lapFacts {
		got := 0
		for _, e := range all {
			if e.Kind == events.Stated && e.Type.Short() == short && counts(e) {
				got++
			}
		}
		if got != want {
			t.Errorf("%d facts %s, want %d", got, short, want)
		}
	}
}

// eachSigned checks that every artifact was signed, all by one key, and that the gates that ask for it said so.
func eachSigned(t *testing.T, all []events.Event) {
	t.Helper()
	keys, artifacts, gates := map[string]bool{}, map[string]bool{}, 0
	for _, e := range all {
		if e.Kind != events.Stated {
			continue
		}
		switch c := e.Content.(type) {
		case events.ArtifactSigned:
			artifacts[c.Lemnis.Digest] = true
			if s := c.Lemnis.Supply; s != nil {
				keys[s.Key] = true
			}
		case events.GateEvaluated:
			for _, check := range c.Checks {
				if check.Name == "signature" && check.Passed {
					gates++
				}
			}
		}
	}
	if len(artifacts) != 3 || len(keys) != 1 || gates != 3 {
		t.Errorf("%d artifacts were signed, by %d keys, and %d gates saw it; want 3 by 1 at 3", len(artifacts), len(keys), gates)
	}
}

// counts leaves out what a lap may have more of: an outage is one for the monitor, whoever causes it; a canary may be held.
func counts(e events.Event) bool {
	switch c := e.Content.(type) {
	case events.GateEvaluated:
		return c.Passed // before, where what it asks for has to be looked up, it is closed
	case events.IncidentDetected:
		return c.Lemnis.Rollout != ""
	case events.IncidentResolved:
		return c.Lemnis.Rollout != ""
	case events.LessonLearned:
		return c.Action == "raise-cost"
	case events.CanaryJudged:
		return c.Verdict != events.Hold
	}
	return true
}

// lapFacts is how often a lap states what it states: a baseline and two changes, through three environments, of which
// the second change is taken back in the last.
var lapFacts = map[string]int{
	"project.configured": 1, "repository.created": 1,
	"feedback.received": 3, "insight.found": 3,
	"release.planned": 1,
	"change.created":  2, "change.reviewed": 2, "change.verified": 2,
	"queue.tested": 2, "change.merged": 2, "queue.ejected": 0,
	"pipelinerun.queued": 2, "pipelinerun.finished": 2,
	"build.queued": 3, "build.finished": 3, "artifact.packaged": 3, "artifact.published": 3,
	"deployment.requested": 9, "gate.evaluated": 9, "approval.requested": 3, "approval.given": 3,
	"deployment.started": 9, "service.deployed": 3, "service.upgraded": 6, "deployment.failed": 0,
	"service.published": 8, "canary.judged": 2, "service.rolledback": 1,
	"incident.detected": 1, "remediation.started": 1, "remediation.finished": 1, "incident.resolved": 1,
	"lesson.learned": 1,
	"claim.refused":  0,
}

func count(all []events.Event, is func(events.Event) bool) (n int) {
	for _, e := range all {
		if is(e) {
			n++
		}
	}
	return n
}

// official has every event judged by the schemas of CDEvents and read by its SDK.
func official(t *testing.T, all []events.Event) {
	t.Helper()
	for _, e := range all {
		body, err := e.AppendBody(nil)
		if err != nil {
			t.Errorf("event %d: %v", e.Sequence, err)
			continue
		}
		if err := schema.Validate(body); err != nil {
			t.Errorf("event %d, %s: %v", e.Sequence, e.Type.Short(), err)
		}
		read, err := v05.NewFromJsonBytes(body)
		if err != nil {
			t.Errorf("event %d, %s: the official SDK: %v", e.Sequence, e.Type.Short(), err)
			continue
		}
		if read.GetId() != e.ID || read.GetSubjectId() != e.SubjectID {
			t.Errorf("event %d: the official SDK reads id %q and subject %q", e.Sequence, read.GetId(), read.GetSubjectId())
		}
	}
}
