package mergequeue

import (
	"cmp"
	"math"
	"slices"
)

// Everything in Writes or Reads overlaps with every other change.
const Everything = "*"

// Change waits to be merged.
type Change struct {
	ID     string   `json:"id"`
	Since  float64  `json:"since"` // when it entered, in build durations since any fixed moment
	Risk   float64  `json:"risk"`  // predicted probability that it fails, above 0 and below 1
	Writes []string `json:"writes,omitempty"`
	Reads  []string `json:"reads,omitempty"` // what its affected packages are made of, Writes included; nil: not known yet
	Landed bool     `json:"landed,omitempty"`
}

// known reports whether it has been found out what the change touches.
func (c Change) known() bool { return c.Reads != nil }

// overlaps reports whether one of the two changes what the other's tests depend on.
func (c Change) overlaps(d Change) bool {
	if !c.known() || !d.known() || slices.Contains(c.Writes, Everything) || slices.Contains(d.Writes, Everything) {
		return true
	}
	return meet(c.Writes, d.Reads) || meet(d.Writes, c.Reads)
}

func meet(a, b []string) bool {
	return slices.ContainsFunc(a, func(s string) bool { return slices.Contains(b, s) })
}

// Unit is what is built and merged as one: a change or a batch.
type Unit struct {
	ID      int      `json:"id"`
	Changes []string `json:"changes"`           // least risk first
	Risk    float64  `json:"risk"`              // that it fails, by all that is known
	After   int      `json:"after,omitempty"`   // unit upon which it is known to fail: the two failed together
	Doomed  bool     `json:"doomed,omitempty"`  // that unit is merged: it fails, without a build
	Landing bool     `json:"landing,omitempty"` // it passed and is becoming the master copy
}

// Build is a run of the pipeline on a unit.
type Build struct {
	ID      int     `json:"id"`
	Unit    int     `json:"unit"`
	Assumed []int   `json:"assumed,omitempty"` // units that are not merged yet and that it was built on, in their order
	Outcome Outcome `json:"outcome,omitempty"` // empty while it runs
}

// Outcome is how a build ended.
type Outcome string

// The outcomes.
const (
	Passed Outcome = "passed"
	Failed Outcome = "failed"
)

// Queue is the merge queue of one master copy. The zero value is empty.
type Queue struct {
	Clash   float64  `json:"clash,omitempty"`   // predicted probability that two changes that overlap break the master copy together
	Changes []Change `json:"changes,omitempty"` // all that are in it, oldest first
	Units   []Unit   `json:"units,omitempty"`   // in the order in which they are merged; changes in none of them wait
	Builds  []Build  `json:"builds,omitempty"`  // that run, or whose outcome may still count
	Last    int      `json:"last,omitempty"`    // number that was given to a unit or build last
}

// Clone is a copy that shares nothing that changes.
func (q Queue) Clone() Queue {
	q.Changes, q.Units, q.Builds = slices.Clone(q.Changes), slices.Clone(q.Units), slices.Clone(q.Builds)
	return q
}

// Change is a change in the queue.
func (q *Queue) Change(id string) (Change, bool) {
	i := slices.IndexFunc(q.Changes, func(c Change) bool { return c.ID == id })
	if i < 0 {
		return Change{}, false
	}
	return q.Changes[i], true
}

// Unit is a unit in the queue.
func (q *Queue) Unit(id int) (Unit, bool) {
	i := q.unit(id)
	if i < 0 {
		return Unit{}, false
	}
	return q.Units[i], true
}

// Build is a build that still matters.
func (q *Queue) Build(id int) (Build, bool) {
	i := slices.IndexFunc(q.Builds, func(b Build) bool { return b.ID == id })
	if i < 0 {
		return Build{}, false
	}
	return q.Builds[i], true
}

// Running counts the builds that hold a slot.
func (q *Queue) Running() (n int) {
	for _, b := range q.Builds {
		if b.Outcome == "" {
			n++
		}
	}
	return n
}

func (q *Queue) unit(id int) int {
	return slices.IndexFunc(q.Units, func(u Unit) bool { return u.ID == id })
}

// of finds the unit that holds a change; −1 when it waits.
func (q *Queue) of(change string) int {
	return slices.IndexFunc(q.Units, func(u Unit) bool { return slices.Contains(u.Changes, change) })
}

// waiting lists the changes that are in no unit, oldest first.
func (q *Queue) waiting() (all []Change) {
	held := map[string]bool{}
	for _, u := range q.Units {
		for _, c := range u.Changes {
			held[c] = true
		}
	}
	for _, c := range q.Changes {
		if !held[c.ID] {
			all = append(all, c)
		}
	}
	return all
}

func (q *Queue) changes(ids []string) []Change {
	all := make([]Change, 0, len(ids))
	for _, id := range ids {
		if c, ok := q.Change(id); ok {
			all = append(all, c)
		}
	}
	return all
}

// overlap reports whether two sets of changes have to keep their order.
func overlap(a, b []Change) bool {
	return slices.ContainsFunc(a, func(x Change) bool { return slices.ContainsFunc(b, x.overlaps) })
}

// before lists the units that a unit at a place overlaps with, or failed with, and that are merged before it.
func (q *Queue) before(at int) (all []Unit) {
	mine := q.changes(q.Units[at].Changes)
	for _, u := range q.Units[:at] {
		if u.ID == q.Units[at].After || overlap(q.changes(u.Changes), mine) {
			all = append(all, u)
		}
	}
	return all
}

// joint is the probability that at least one of the changes fails.
func joint(changes []Change) float64 {
	pass := 1.0
	for _, c := range changes {
		pass *= 1 - c.Risk
	}
	return 1 - pass
}

// Lane is a component of changes that overlap, directly or by others between them.
type Lane struct {
	Changes []string // oldest first
	since   float64
	busy    bool // one of its units is built or merged
}

// Lanes lists the lanes, the one with the oldest change first.
func (q *Queue) Lanes() []Lane {
	first := make([]int, len(q.Changes)) // of the change's lane, by place
	var root func(int) int
	root = func(i int) int {
		if first[i] != i {
			first[i] = root(first[i])
		}
		return first[i]
	}
	join := func(all []int) {
		for _, i := range all {
			a, b := root(all[0]), root(i)
			first[max(a, b)] = min(a, b)
		}
	}
	unit := map[string]int{}
	for i, u := range q.Units {
		for _, c := range u.Changes {
			unit[c] = i + 1
		}
	}
	members := make([][]int, len(q.Units)+1) // changes of a unit
	touched, written := map[string][]int{}, map[string]bool{}
	all, together := make([]int, len(q.Changes)), false
	for i, c := range q.Changes {
		first[i], all[i] = i, i
		together = together || !c.known() || slices.Contains(c.Writes, Everything)
		for _, name := range c.Writes {
			touched[name], written[name] = append(touched[name], i), true
		}
		for _, name := range c.Reads {
			touched[name] = append(touched[name], i)
		}
		at := unit[c.ID]
		members[at] = append(members[at], i)
	}
	if together {
		join(all)
	}
	for _, m := range members[1:] {
		join(m)
	}
	for name := range written { // in any order: the components are the same
		join(touched[name])
	}
	var lanes []Lane
	place := map[int]int{}
	for i, c := range q.Changes {
		at, ok := place[root(i)]
		if !ok {
			at = len(lanes)
			place[root(i)] = at
			lanes = append(lanes, Lane{since: math.Inf(1)})
		}
		l := &lanes[at]
		l.Changes, l.since, l.busy = append(l.Changes, c.ID), min(l.since, c.Since), l.busy || unit[c.ID] > 0
	}
	slices.SortStableFunc(lanes, func(a, b Lane) int { return cmp.Compare(a.since, b.since) })
	return lanes
}
