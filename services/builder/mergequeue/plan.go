package mergequeue

import (
	"cmp"
	"math"
	"slices"
)

const (
	mostInBatch = 16
	eager       = 3    // of the changes that wait, a slot's share is that much larger: the next slot becomes free when others have come
	agePrice    = 0.05 // risk that a build duration of waiting is worth
	mostRisk    = 0.45 // of a batch
	patience    = 3    // build durations after which a change is not overtaken any more by those that overlap with it
	horizon     = 16   // changes a slot that are looked at, of those that wait: no more fit into the largest batches
)

// passes are the probabilities, one after the other, with which a build has to be needed to be started.
var passes = []float64{0.99, 0.5, 0.25, 0.1}

// Plan says what follows from where the queue stands, with this many slots at this time (in build durations), and applies it.
// A unit that is to land stays in the queue, as passed, until its changes have landed.
func (q *Queue) Plan(slots int, now float64) (steps []Step) {
	do := func(s Step) {
		q.Apply(s)
		steps = append(steps, s)
	}
	for q.settle(do) {
	}
	q.schedule(slots, now, do)
	return steps
}

// settle draws one conclusion from outcomes; false when there is none left.
func (q *Queue) settle(do func(Step)) bool {
	for i, u := range q.Units {
		if u.Landing {
			continue
		}
		b := Build{Outcome: Failed} // as the doomed need none
		if !u.Doomed {
			at := slices.IndexFunc(q.Builds, func(b Build) bool { return b.Unit == u.ID && len(b.Assumed) == 0 && b.Outcome != "" })
			if at < 0 {
				continue
			}
			b = q.Builds[at]
		}
		if len(q.before(i)) > 0 {
			continue
		}
		if b.Outcome == Failed {
			q.fail(u, b.ID, do)
			return true
		}
		for _, other := range slices.Clone(q.Builds) {
			if other.Unit == u.ID && other.ID != b.ID {
				do(Step{Do: Cancel, Build: other.ID})
			}
		}
		do(Step{Do: Land, Unit: u.ID, Build: b.ID})
		return true
	}
	return false
}

// fail halves a unit, or ejects its one change.
func (q *Queue) fail(u Unit, build int, do func(Step)) {
	if len(u.Changes) == 1 {
		do(Step{Do: Eject, Unit: u.ID, Change: u.Changes[0], Build: build})
		return
	}
	all := q.changes(u.Changes)
	at, best := 1, math.Inf(1)
	for i := 1; i < len(all); i++ {
		if d := math.Abs(joint(all[:i]) - joint(all[i:])); d < best {
			at, best = i, d
		}
	}
	do(Step{Do: Split, Unit: u.ID, Build: build, At: at, Units: [2]int{q.Last + 1, q.Last + 2},
		Risks: [2]float64{min(1, joint(all[:at])/joint(all)), joint(all[at:])}})
}

// schedule gives the free slots to the builds that are likeliest to be needed.
func (q *Queue) schedule(slots int, now float64, do func(Step)) {
	free := slots - q.Running()
	if free <= 0 || len(q.Changes) == 0 {
		return
	}
	draft := q.draft(slots, now)
	lanes := draft.Lanes()
	lane := map[string]int{}
	for i, l := range lanes {
		for _, c := range l.Changes {
			lane[c] = i
		}
	}
	units := make([][]int, len(lanes)) // places of the draft's units
	for i, u := range draft.Units {
		at := lane[u.Changes[0]]
		units[at] = append(units[at], i)
	}
	named := map[int]int{} // units of the draft that were sealed since, by their number in it
	for _, least := range passes {
		for _, places := range units {
			var nodes []node
			for _, at := range places {
				nodes = append(nodes, draft.nodes(at, least)...)
			}
			slices.SortStableFunc(nodes, func(a, b node) int { return cmp.Compare(b.p, a.p) })
			for _, n := range nodes {
				if q.started(n, named) {
					continue
				}
				if free == 0 {
					return
				}
				q.begin(draft, n, named, do)
				free--
			}
		}
	}
}

// draft is the queue with batches made of what waits; they are numbered below zero.
type draft struct {
	Queue
	members [][]Change // of each unit
	ahead   [][]Unit   // that each unit comes after; nil: not asked for yet
}

func (q *Queue) draft(slots int, now float64) *draft {
	d := draft{Queue: q.Clone()}
	waiting := d.waiting()
	parts := func(n, of int) int { return (n + of - 1) / of }
	size := max(min(parts(eager*len(waiting), slots), parts(len(waiting), max(slots-q.Running(), 1)), mostInBatch), 1)
	if most := slots * horizon; len(waiting) > most {
		late := map[string]bool{}
		for _, c := range waiting[most:] {
			late[c.ID] = true
		}
		d.Changes = slices.DeleteFunc(d.Changes, func(c Change) bool { return late[c.ID] })
	}
	price := func(c Change) float64 { return c.Risk - agePrice*(now-c.Since) }
	batch := func(all []Change) {
		slices.SortStableFunc(all, func(a, b Change) int { return cmp.Compare(price(a), price(b)) })
		for len(all) > 0 {
			n := 1
			for n < min(size, len(all)) && all[n-1].known() && all[n].known() && joint(all[:n+1]) <= mostRisk {
				n++
			}
			ids := make([]string, n)
			for i, c := range all[:n] {
				ids[i] = c.ID
			}
			d.Units = append(d.Units, Unit{ID: -1 - len(d.Units), Changes: ids, Risk: joint(all[:n])})
			all = all[n:]
		}
	}
	apart := d.apart(now, price)
	batch(apart)
	for _, l := range d.Lanes() {
		batch(slices.DeleteFunc(d.changes(l.Changes), func(c Change) bool { return d.of(c.ID) >= 0 }))
	}
	byID := map[string]Change{}
	for _, c := range d.Changes {
		byID[c.ID] = c
	}
	d.members, d.ahead = make([][]Change, len(d.Units)), make([][]Unit, len(d.Units))
	for i, u := range d.Units {
		for _, id := range u.Changes {
			d.members[i] = append(d.members[i], byID[id])
		}
	}
	return &d
}

// apart lists the waiting changes that overlap neither with a unit nor with each other: whatever becomes of one, the builds of the
// others are needed. Those that have waited long keep their packages free of younger ones.
func (d *draft) apart(now float64, price func(Change) float64) (all []Change) {
	waiting := d.waiting()
	slices.SortStableFunc(waiting, func(a, b Change) int { return cmp.Compare(price(a), price(b)) })
	var taken []Change
	for _, u := range d.Units {
		taken = append(taken, d.changes(u.Changes)...)
	}
	for _, c := range waiting {
		alone := !slices.ContainsFunc(taken, c.overlaps)
		if alone {
			all = append(all, c)
		}
		if alone || now-c.Since > patience {
			taken = append(taken, c)
		}
	}
	return all
}

// before lists the units that come before the one at a place, and overlap with it or say what becomes of it.
func (d *draft) before(at int) []Unit {
	if d.ahead[at] == nil {
		d.ahead[at] = []Unit{}
		for i, u := range d.Units[:at] {
			if u.ID == d.Units[at].After || overlap(d.members[i], d.members[at]) {
				d.ahead[at] = append(d.ahead[at], u)
			}
		}
	}
	return d.ahead[at]
}

// node is a build that could be started.
type node struct {
	at      int   // place of the unit
	unit    int   // its number
	assumed []int // numbers of units, in order
	p       float64
}

// nodes lists the builds of a unit that are needed at least with this probability.
func (d *draft) nodes(at int, least float64) (all []node) {
	u, before := d.Units[at], d.before(at)
	if u.Landing || u.Doomed {
		return nil
	}
	var walk func(i int, assumed []int, p float64)
	walk = func(i int, assumed []int, p float64) {
		if p < least {
			return
		}
		if i == len(before) {
			all = append(all, node{at: at, unit: u.ID, assumed: slices.Clone(assumed), p: p})
			return
		}
		b := before[i]
		if b.After != 0 && slices.Contains(assumed, b.After) { // known to fail upon it
			walk(i+1, assumed, p)
			return
		}
		if u.After != b.ID {
			walk(i+1, append(slices.Clone(assumed), b.ID), p*(1-b.Risk))
		}
		walk(i+1, assumed, p*d.none(b))
	}
	walk(0, nil, 1)
	return all
}

// none is the probability that nothing of a unit is merged.
func (q *Queue) none(u Unit) float64 {
	switch {
	case u.Landing:
		return 0
	case len(u.Changes) == 1:
		return u.Risk
	}
	p := 1.0
	for _, c := range q.changes(u.Changes) {
		p *= c.Risk
	}
	return p
}

// started reports whether the build was started before.
func (q *Queue) started(n node, named map[int]int) bool {
	unit, assumed := name(n.unit, named), names(n.assumed, named)
	return slices.ContainsFunc(q.Builds, func(b Build) bool { return b.Unit == unit && slices.Equal(b.Assumed, assumed) })
}

func name(id int, named map[int]int) int {
	if sealed, ok := named[id]; ok {
		return sealed
	}
	return id
}

func names(ids []int, named map[int]int) []int {
	var all []int
	for _, id := range ids {
		all = append(all, name(id, named))
	}
	return all
}

// begin starts a build, and seals its unit and those before it where they are drafts.
func (q *Queue) begin(draft *draft, n node, named map[int]int, do func(Step)) {
	var seal func(at int)
	seal = func(at int) {
		u := draft.Units[at]
		if _, done := named[u.ID]; done || u.ID > 0 {
			return
		}
		for _, b := range draft.before(at) {
			seal(draft.unit(b.ID))
		}
		named[u.ID] = q.Last + 1
		do(Step{Do: Seal, Unit: q.Last + 1, Changes: u.Changes})
	}
	seal(n.at)
	do(Step{Do: Start, Build: q.Last + 1, Unit: name(n.unit, named), Assumed: names(n.assumed, named)})
}
