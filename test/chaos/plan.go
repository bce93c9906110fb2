package chaos

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/test/chaos/small"
)

// Lap is one turn of the loop in a project of its own: users speak, an item is opened for them, and changes go their way,
// the first one for that item.
type Lap struct {
	Project string
	Soak    bool // the last environment's gate waits for a second in the one before
	Changes []Change
}

// Change of a lap.
type Change struct {
	ID, Head string
	Kind     small.Kind
	Item     string // that it is for; "insight" stands for the one that the users' words become
}

// service is the repository of each project, and what is made of it.
const service = "api"

// wish is the item that a stakeholder opens; bad changes are made for it.
const wish = "wish"

// insight stands for the item that the users' words become.
const insight = "insight"

// Plan gives laps by their number: one to five changes each, three on average. The same seed gives the same laps.
type Plan struct {
	Seed uint64
	Name string // projects are <name>-1, <name>-2, …
}

// kinds of the changes behind the first, which is always good.
var kinds = []small.Kind{small.Good, small.Good, small.Bad, small.Bad, small.Red, small.Low, small.Refused}

// Lap is the n-th, from 1.
func (p Plan) Lap(n int) Lap {
	rng := rand.New(rand.NewPCG(p.Seed, uint64(n))) //nolint:gosec // repeatable chance, not secrets
	l := Lap{Project: fmt.Sprintf("%s-%d", p.Name, n), Soak: rng.IntN(4) == 0}
	for i := range 1 + rng.IntN(5) {
		c := Change{ID: fmt.Sprintf("c%d", i+1), Kind: small.Good, Item: insight}
		if i > 0 {
			c.Kind, c.Item = kinds[rng.IntN(len(kinds))], ""
		}
		if c.Kind == small.Bad {
			c.Item = wish
		}
		c.Head = fmt.Sprintf("%020x%020x", rng.Uint64(), rng.Uint64())
		l.Changes = append(l.Changes, c)
	}
	return l
}

// changes counts those of all laps.
func changes(laps []Lap) (n int) {
	for _, l := range laps {
		n += len(l.Changes)
	}
	return n
}

// configuration of the lap's project.
func (l Lap) configuration() events.Project {
	p := events.Project{
		Name:         l.Project,
		Repositories: []events.RepositoryRef{{Name: service, URL: "https://git.invalid/" + l.Project + ".git", Branch: "main"}},
		Review:       events.ReviewPolicy{Approvals: 1},
		Environments: []events.Environment{
			{Name: "dev", Target: "process", Gate: events.Gate{Tests: "passed"}},
			{Name: "test", Target: "process", Gate: events.Gate{Tests: "passed", Coverage: 60, Runtime: "passed"}},
			{Name: "prod", Target: "process", Strategy: "canary", Gate: events.Gate{Tests: "passed", Coverage: 60, Runtime: "passed", Approvals: 1},
				Canary: &events.CanaryPolicy{Objective: 0.99}},
		},
		OnCall:   []events.OnCall{{Name: "first", People: []string{"dora"}}},
		Capacity: events.Capacity{Points: 40},
		Feedback: events.FeedbackPolicy{Users: 2},
	}
	if l.Soak {
		p.Environments[2].Gate.Soak = events.Duration(time.Second)
	}
	return p
}
