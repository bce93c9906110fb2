package queue

import (
	"strconv"
	"strings"

	"github.com/lemnis/lemnis/pkg/events"
)

// Kind names the aggregate; its key is the repository's name in the project's configuration.
const Kind = "queue"

// Version of the fold.
const Version = 1

// Takes lists the facts that Route answers to: what becomes of the entries, and the runs that found a train to be no good.
var Takes = []events.Type{
	events.TypeOf(events.QueueEntered{}),
	events.TypeOf(events.QueueSurveyed{}),
	events.TypeOf(events.QueueTested{}),
	events.TypeOf(events.QueueEjected{}),
	events.TypeOf(events.ChangeMerged{}),
	events.TypeOf(events.PipelineRunFinished{}),
}

// Route names the repository whose queue an event concerns.
func Route(_ events.Project, e events.Event) []string {
	name := ""
	switch c := e.Content.(type) {
	case events.QueuePlanned:
		if e.Kind == events.Claim {
			name = e.Key
		}
		return keys(name)
	case events.QueueEntered:
		name = c.Merge.Repository
	case events.QueueSurveyed:
		name = c.Merge.Repository
	case events.QueueTested:
		if c.Waits {
			name = c.Merge.Repository
		}
	case events.QueueEjected:
		name = c.Merge.Repository
	case events.ChangeMerged:
		name = c.Lemnis.Repository
	case events.PipelineRunFinished:
		if len(c.Lemnis.Changes) > 0 && c.Outcome != events.Success {
			name = c.Lemnis.Merge.Repository
		}
	}
	if e.Kind != events.Stated {
		return nil
	}
	return keys(name)
}

func keys(name string) []string {
	if name == "" {
		return nil
	}
	return []string{name}
}

// RunKey names a run of a repository's queue: <repository>@<number>.
func RunKey(repository string, number int) string { return repository + "@" + strconv.Itoa(number) }

// RunNumber is the number in the key of a run; 0 when the key is no queue's.
func RunNumber(repository, key string) int {
	text, ok := strings.CutPrefix(key, repository+"@")
	n, err := strconv.Atoi(text)
	if !ok || err != nil {
		return 0
	}
	return n
}
