package simulation

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"slices"
)

// Setting is what a queue is put to.
type Setting struct {
	Changes  int
	Slots    int
	Failure  float64 // share of changes that are bad by themselves
	Arrivals float64 // a build time
	Overlap  float64 // share of pairs whose packages overlap
	Conflict float64 // share of pairs that break main together; they overlap
	Flaky    float64 // probability that a run of a good build's tests fails
	Confirm  float64 // of a build: testing once more, on the tip, what passed on another commit
	Seed     uint64
}

const (
	reach      = 20  // arrivals between two changes that may conflict: with it the models come nearest to the figures that are known of their tools
	rerun      = 0.1 // of a build: running the failing tests again
	rerunTimes = 3
)

// change is one in the simulation.
type change struct {
	id        int
	came      float64
	packages  []string
	bad       bool
	conflicts []int // earlier and later changes

	began  float64 // when the first build with it did; negative before
	merged float64 // negative: not
	gone   bool    // rejected
}

func changesOf(s Setting) []*change {
	random := rand.New(rand.NewPCG(s.Seed, 42)) //nolint:gosec // a simulation that can be repeated
	packages := int(math.Round(4 / s.Overlap))
	all := make([]*change, s.Changes)
	now := 0.0
	for i := range all {
		now += random.ExpFloat64() / s.Arrivals
		a, b := random.IntN(packages), random.IntN(packages-1)
		if b >= a {
			b++
		}
		c := &change{id: i, came: now, packages: []string{packageNames[a], packageNames[b]}, bad: random.Float64() < s.Failure, began: -1, merged: -1}
		for _, e := range all[max(0, i-reach):i] {
			if touch(c, e) && random.Float64() < s.Conflict/s.Overlap {
				c.conflicts, e.conflicts = append(c.conflicts, e.id), append(e.conflicts, i)
			}
		}
		all[i] = c
	}
	return all
}

// packageNames are made once: comparing them is what a run spends its time on.
var packageNames = func() []string {
	all := make([]string, 10_000)
	for i := range all {
		all[i] = string(rune('一' + i))
	}
	return all
}()

func touch(a, b *change) bool {
	return slices.ContainsFunc(a.packages, func(p string) bool { return slices.Contains(b.packages, p) })
}

// build is a run on the master copy as it stood at its start, with these changes on top.
type build struct {
	on    []*change // assumed to be merged by then
	tests []*change
	ends  float64
	cost  float64
	dead  bool
	ok    bool
	place any // the policy's own
}

type agenda []*build

func (a agenda) Len() int           { return len(a) }
func (a agenda) Less(i, j int) bool { return a[i].ends < a[j].ends }
func (a agenda) Swap(i, j int)      { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(x any)        { *a = append(*a, x.(*build)) }
func (a *agenda) Pop() any {
	old := *a
	b := old[len(old)-1]
	*a = old[:len(old)-1]
	return b
}

// policy is a merge queue. It is told what happens and acts on the world.
type policy interface {
	came(w *world, c *change)
	ended(w *world, b *build)
}

// world is one run.
type world struct {
	Setting
	all     []*change
	now     float64
	random  *rand.Rand
	reruns  bool
	pending agenda
	running int
	after   bool // the last change has come: what happens now is no part of the means

	tally Tally
}

// Tally is what came of a run.
type Tally struct {
	Merged    int
	Waited    float64   // sum over the merged, from coming to being merged, in build durations
	Builds    float64   // that were begun; reruns count for what they took
	Red       int       // merges that broke main
	Innocents int       // rejected changes with which main would have been green
	Queued    []float64 // from coming to the first build with the change, of each change
}

// Mean is the mean time to merge, in build durations.
func (t Tally) Mean() float64 { return t.Waited / float64(t.Merged) }

// Cost is builds per merged change.
func (t Tally) Cost() float64 { return t.Builds / float64(t.Merged) }

// P99 is the 99th percentile of the time to the first build, in build durations.
func (t Tally) P99() float64 {
	all := slices.Sorted(slices.Values(t.Queued))
	return all[int(math.Ceil(0.99*float64(len(all))))-1]
}

func (w *world) free() int { return w.Slots - w.running }

// start begins a build of tests on main and on.
func (w *world) start(on, tests []*change, place any) *build { return w.startFor(on, tests, place, 1) }

// startFor begins one that takes another time.
func (w *world) startFor(on, tests []*change, place any, cost float64) *build {
	b := &build{on: on, tests: tests, place: place, cost: cost}
	b.ok = w.green(append(slices.Clone(on), tests...))
	flaky := func() bool { return w.Flaky > 0 && w.random.Float64() < w.Flaky }
	passed := b.ok && !flaky()
	if !passed && w.reruns {
		for range rerunTimes {
			b.cost += rerun
			if passed = b.ok && !flaky(); passed {
				break
			}
		}
	}
	b.ok = passed
	b.ends = w.now + b.cost
	for _, c := range tests {
		if c.began < 0 {
			c.began = w.now
		}
	}
	w.running++
	if !w.after {
		w.tally.Builds += b.cost
	}
	heap.Push(&w.pending, b)
	return b
}

// cancel ends a build early: its slot is free.
func (w *world) cancel(b *build) {
	if b.dead {
		return
	}
	b.dead = true
	w.running--
}

// green says whether main with these changes is.
func (w *world) green(added []*change) bool {
	for i, c := range added {
		if c.bad || w.clashes(c) {
			return false
		}
		for _, d := range added[:i] {
			if slices.Contains(c.conflicts, d.id) {
				return false
			}
		}
	}
	return true
}

// clashes says whether main has something that c breaks with: merged after c had come.
func (w *world) clashes(c *change) bool {
	return slices.ContainsFunc(c.conflicts, func(id int) bool { return w.all[id].merged > c.came })
}

func (w *world) merge(c *change) {
	if c.bad || w.clashes(c) {
		w.tally.Red++
	}
	c.merged = w.now
	if !w.after {
		w.tally.Merged++
		w.tally.Waited += w.now - c.came
	}
}

func (w *world) reject(c *change) {
	c.gone = true
	if !c.bad && !w.clashes(c) {
		w.tally.Innocents++
	}
}

// run plays a policy to the end. Every change is merged or rejected then.
func run(s Setting, p policy, reruns bool) Tally {
	w := &world{Setting: s, all: changesOf(s), random: rand.New(rand.NewPCG(s.Seed, 7)), reruns: reruns} //nolint:gosec // as above
	next := 0
	for next < len(w.all) || len(w.pending) > 0 {
		w.after = next == len(w.all)
		if next < len(w.all) && (len(w.pending) == 0 || w.all[next].came <= w.pending[0].ends) {
			c := w.all[next]
			next++
			w.now = c.came
			p.came(w, c)
			continue
		}
		b := heap.Pop(&w.pending).(*build)
		if b.dead {
			continue
		}
		w.now = b.ends
		b.dead = true
		w.running--
		p.ended(w, b)
	}
	for _, c := range w.all {
		if c.merged < 0 && !c.gone {
			panic("a change was forgotten")
		}
		w.tally.Queued = append(w.tally.Queued, c.began-c.came)
	}
	return w.tally
}
