package simulation

import (
	"slices"
	"strconv"
	"time"

	"github.com/lemnis/lemnis/pkg/events"

	"github.com/lemnis/lemnis/services/builder/queue"
)

// buildTime is how long a build takes in the time of events.
const buildTime = time.Minute

// whole is the builder's queue as it is, with the decisions on commits around the rules of lanes: what others overtook is confirmed on the tip, the
// rates are not told but learned. What a survey finds and what becomes the master copy takes no time.
type whole struct {
	project events.Project
	state   queue.State
	runs    map[int]*train
	tip     int            // commit at which the master copy stands
	commits map[[2]int]int // by parent and change
	met     []events.Event // still to be decided on
}

// train is a run with its commits.
type train struct {
	build        *build
	onto, commit int
}

func newWhole(s Setting) *whole {
	p := events.DefaultProject("shop")
	p.Queue = &events.QueuePolicy{Slots: s.Slots}
	return &whole{project: p, runs: map[int]*train{}, commits: map[[2]int]int{}}
}

func detailOf(c *change) events.MergeDetail {
	return events.MergeDetail{Change: strconv.Itoa(c.id), Repository: "api", Round: 1}
}

// couple is the commit of a change upon another, the same each time.
func (p *whole) couple(onto int, c *change) int {
	at := [2]int{onto, c.id}
	if p.commits[at] == 0 {
		p.commits[at] = len(p.commits) + 1
	}
	return p.commits[at]
}

func (p *whole) meet(key string, content any) {
	p.met = append(p.met, events.Event{Kind: events.Stated, Key: key, Content: content})
}

func (p *whole) came(w *world, c *change) {
	m := detailOf(c)
	p.meet(m.Change, events.QueueSurveyed{Merge: m, Writes: c.packages, Reads: c.packages})
	p.decide(w)
}

func (p *whole) ended(w *world, b *build) {
	number := b.place.(int)
	r := p.runs[number]
	delete(p.runs, number)
	if b.ok {
		for _, c := range b.tests {
			m := detailOf(c)
			m.Onto, m.Commit = strconv.Itoa(r.onto), strconv.Itoa(r.commit)
			p.meet(m.Change, events.QueueTested{Merge: m, Run: queue.RunKey("api", number), Waits: true})
		}
	} else {
		p.meet(queue.RunKey("api", number), events.PipelineRunFinished{Outcome: events.Failure, Errors: "red",
			Lemnis: events.RunDetail{Merge: events.MergeDetail{Repository: "api"}, Changes: []events.MergeDetail{{}}}})
	}
	p.decide(w)
}

func (p *whole) decide(w *world) {
	for len(p.met) > 0 {
		e := p.met[0]
		p.met = p.met[1:]
		e.Stored = time.Unix(0, 0).Add(time.Duration(w.now * float64(buildTime)))
		fact, ok := queue.Decide("api", p.state, p.project, e)
		if !ok {
			continue
		}
		p.state = queue.Evolve(p.state, events.Event{Content: fact.Content})
		p.follow(w, fact.Content.(events.QueuePlanned))
	}
}

// follow does what a plan asks for.
func (p *whole) follow(w *world, plan events.QueuePlanned) {
	for _, number := range plan.Over {
		w.cancel(p.runs[number].build)
		delete(p.runs, number)
	}
	for _, m := range plan.Ejected {
		w.reject(changeOf(w, m.Merge))
		p.meet(m.Merge.Change, events.QueueEjected{Merge: m.Merge})
	}
	for i, m := range plan.Merged {
		if i == 0 {
			if m.Onto != strconv.Itoa(p.tip) {
				panic("the master copy stands elsewhere")
			}
			p.tip, _ = strconv.Atoi(m.Commit)
		}
		w.merge(changeOf(w, m))
		p.meet(m.Change, events.ChangeMerged{Lemnis: m})
	}
	for _, run := range plan.Begun {
		p.begin(w, run)
	}
}

func (p *whole) begin(w *world, run events.QueueRun) {
	t := &train{onto: p.tip}
	var on, tests []*change
	for _, m := range run.Assumed {
		if c := changeOf(w, m); c.merged < 0 {
			on, t.onto = append(on, c), p.couple(t.onto, c)
		}
	}
	t.commit = t.onto
	for _, m := range run.Changes {
		c := changeOf(w, m)
		tests, t.commit = append(tests, c), p.couple(t.commit, c)
	}
	cost := 1.0
	if slices.ContainsFunc(p.state.Runs, func(r queue.Run) bool { return r.Number == run.Number && r.Unit == 0 }) {
		cost = w.Confirm
	}
	t.build = w.startFor(on, tests, run.Number, cost)
	p.runs[run.Number] = t
}

func changeOf(w *world, m events.MergeDetail) *change {
	n, _ := strconv.Atoi(m.Change)
	return w.all[n]
}
