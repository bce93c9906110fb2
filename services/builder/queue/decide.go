package queue

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/lemnis/lemnis/pkg/events"

	"github.com/lemnis/lemnis/services/builder/mergequeue"
)

const (
	clash     = 0.05 // that two changes which overlap break the master copy together; nobody has counted it yet
	firstPace = 60   // seconds that a run is taken to last until the first one ended
	learning  = 0.2  // weight of the last run in the pace
)

// Decide says what an event makes of the queue of the repository with this name.
func Decide(key string, s State, p events.Project, e events.Event) (events.Fact, bool) {
	if e.Kind == events.Claim {
		return events.Refuse(e, fmt.Sprintf("what is built next is planned here; %s cannot be claimed", e.Type.Short()))
	}
	if !p.Runs(events.Integrate) {
		return events.Fact{}, false
	}
	n := &plan{State: s.clone(), fact: events.QueuePlanned{Repository: key, At: float64(e.Stored.UnixMilli()) / 1000}}
	ended, happened := n.happened(e)
	if !happened {
		return events.Fact{}, false
	}
	n.follow(max(1, p.QueueSlots())) // what is still in it when the project gives the queue up is built one by one
	for _, r := range s.Runs {
		if b, _ := s.Queue.Build(r.Number); b.Outcome == "" && r.Number != ended && n.run(r.Number) == nil {
			n.fact.Over = append(n.fact.Over, r.Number)
		}
	}
	return events.Fact{Content: n.fact}, true
}

// plan is the state as it becomes, and the fact that makes it so.
type plan struct {
	State
	fact events.QueuePlanned
}

// do lets a step happen.
func (n *plan) do(step events.QueueStep) {
	if step.Do == string(mergequeue.Eject) {
		f := n.Faults[step.Change]
		n.fact.Ejected = append(n.fact.Ejected, events.QueueEjected{Merge: n.Merges[step.Change],
			Reason: cmp.Or(f.Reason, "it fails on the master copy"), Conflicts: f.Conflicts})
	}
	n.apply(step, n.fact.At)
	n.fact.Steps = append(n.fact.Steps, step)
	switch step.Do {
	case string(mergequeue.Start):
		n.fact.Begun = append(n.fact.Begun, events.QueueRun{Number: step.Run, Assumed: n.train(step.Units), Changes: n.train([]int{step.Unit})})
	case confirm:
		n.fact.Begun = append(n.fact.Begun, events.QueueRun{Number: step.Run, Changes: n.train(step.Units)})
	}
}

// train lists the changes of units, in order.
func (n *plan) train(units []int) (all []events.MergeDetail) {
	for _, id := range units {
		u, _ := n.Queue.Unit(id)
		for _, change := range u.Changes {
			all = append(all, n.Merges[change])
		}
	}
	return all
}

// happened takes in what happened outside; false when it is nothing to the queue. Ended is the run that it is the end of.
func (n *plan) happened(e events.Event) (ended int, ok bool) {
	steps := len(n.fact.Steps)
	old, there := n.Merges[e.Key]
	leave := events.QueueStep{Do: string(mergequeue.Leave), Change: e.Key}
	switch c := e.Content.(type) {
	case events.QueueEntered:
		if there && c.Merge.Round > old.Round {
			n.do(leave)
		}
	case events.QueueSurveyed:
		if there && c.Merge.Round <= old.Round {
			break
		}
		if there {
			n.do(leave)
		}
		n.do(events.QueueStep{Do: string(mergequeue.Enter), Change: e.Key, Merge: &c.Merge, Since: n.now(),
			Risk:   float64(1+n.Ejected) / float64(10+n.Landed+n.Ejected), // one of ten fails, until more is known
			Writes: c.Writes, Reads: c.Reads})
	case events.QueueEjected:
		if there && c.Merge.Round >= old.Round {
			n.do(leave)
		}
	case events.ChangeMerged:
		if there && c.Lemnis.Round == old.Round {
			n.do(events.QueueStep{Do: string(mergequeue.Landed), Change: e.Key,
				Merge: &events.MergeDetail{Onto: c.Lemnis.Onto, Commit: c.Lemnis.Commit}})
		}
	case events.QueueTested:
		ended = RunNumber(n.fact.Repository, c.Run)
		if there && c.Merge.Round == old.Round {
			n.tested(ended, e.Key, c.Merge)
		}
	case events.PipelineRunFinished:
		ended = RunNumber(n.fact.Repository, e.Key)
		n.failed(ended, c)
	}
	return ended, len(n.fact.Steps) > steps
}

// tested meets a change of a run that passed; with the last of them, the run has.
func (n *plan) tested(number int, change string, m events.MergeDetail) {
	r := n.run(number)
	b, running := n.Queue.Build(number)
	if r == nil || !running || b.Outcome != "" {
		return
	}
	units := []int{r.Unit}
	if r.Unit == 0 {
		units = n.Confirm
	}
	var missing []string
	for _, c := range n.train(units) {
		if !slices.ContainsFunc(r.Passed, func(p events.MergeDetail) bool { return p.Change == c.Change }) {
			missing = append(missing, c.Change)
		}
	}
	if !slices.Contains(missing, change) {
		return
	}
	if len(missing) == 1 {
		n.learn(n.fact.At - r.Began)
	}
	n.do(events.QueueStep{Do: tested, Change: change, Run: number, Merge: &m})
	switch {
	case len(missing) > 1:
	case r.Unit > 0:
		n.do(events.QueueStep{Do: string(mergequeue.Finish), Run: number, Outcome: string(mergequeue.Passed)})
	default:
		n.merge(n.run(number), units)
	}
}

// learn notes how long a run took.
func (n *plan) learn(seconds float64) {
	seconds = max(seconds, 1)
	if n.Pace > 0 {
		seconds = (1-learning)*n.Pace + learning*seconds
	}
	n.fact.Pace = seconds
	n.count(seconds)
}

// failed meets the end of a run that did not pass.
func (n *plan) failed(number int, c events.PipelineRunFinished) {
	r := n.run(number)
	b, running := n.Queue.Build(number)
	if r == nil || !running || b.Outcome != "" {
		return
	}
	unit := r.Unit
	if unit == 0 {
		unit = n.Confirm[0]
	}
	u, _ := n.Queue.Unit(unit)
	step := events.QueueStep{Do: string(mergequeue.Finish), Run: number, Outcome: string(mergequeue.Failed), Conflicts: c.Lemnis.Conflicts}
	step.Reason, _, _ = strings.Cut(c.Errors, "\n") // below it stands what the commands printed
	again := func(do string) {
		step = events.QueueStep{Do: do, Run: number, Reason: step.Reason}
	}
	fault := c.Outcome == events.Errored
	switch {
	case !fault && c.Outcome != events.Failure:
		again(string(mergequeue.Cancel))
	case r.Unit == 0 && len(n.Confirm) > 1:
		step.Do = narrow
	// A fault of the machinery says nothing about changes that were tested together, and may be the doing of one of them: each is tested alone.
	// One that meets a fault alone leaves, as without a queue.
	case fault && len(u.Changes) > 1:
		again(string(mergequeue.Part))
		step.Unit, step.Units = unit, []int{n.Queue.Last + 1}
	case fault && len(b.Assumed) > 0: // whatever becomes of those, this one is tested upon less then
		again(string(mergequeue.Cancel))
	case r.Unit == 0:
		step.Do, step.Outcome, step.Unit = fall, "", unit
	}
	n.do(step)
}

func (n *plan) now() float64 { return n.fact.At / n.pace() }

// follow draws the conclusions, and begins what there are slots for.
func (n *plan) follow(slots int) {
	ask := func(slots int) bool {
		q := n.Queue.Clone()
		steps := q.Plan(slots, n.now())
		for _, step := range steps {
			n.do(told(step))
		}
		return len(steps) > 0
	}
	for more := true; more; {
		more = ask(0) || n.land(slots)
	}
	ask(slots)
}

// land lets pass what was tested as it would be merged, or has what is to land confirmed; false when there is nothing to do.
func (n *plan) land(slots int) bool {
	var landing []int
	for _, u := range n.Queue.Units {
		if u.Landing {
			landing = append(landing, u.ID)
		}
	}
	if slices.ContainsFunc(n.Confirm, func(id int) bool { return !slices.Contains(landing, id) }) {
		for _, r := range n.Runs {
			if r.Unit == 0 {
				n.do(events.QueueStep{Do: string(mergequeue.Cancel), Run: r.Number})
				return true
			}
		}
	}
	if len(landing) == 0 || len(n.Confirm) > 0 || len(n.Merging) > 0 {
		return false
	}
	for _, id := range landing {
		for i, r := range n.Runs {
			if r.Unit == id && len(r.Passed) > 0 && r.Passed[0].Onto == n.tip() {
				n.merge(&n.Runs[i], []int{id})
				return true
			}
		}
	}
	if n.Queue.Running() >= slots {
		return false
	}
	if n.Narrow {
		landing = landing[:1]
	}
	n.do(events.QueueStep{Do: confirm, Run: n.Queue.Last + 1, Units: landing})
	return true
}

// merge asks for what a run tested to become the master copy.
func (n *plan) merge(r *Run, units []int) {
	number, passed := r.Number, r.Passed
	var ids []string
	for _, c := range n.train(units) {
		ids = append(ids, c.Change)
		n.fact.Merged = append(n.fact.Merged, passed[slices.IndexFunc(passed, func(p events.MergeDetail) bool { return p.Change == c.Change })])
	}
	n.do(events.QueueStep{Do: merge, Changes: ids, Run: number})
}
