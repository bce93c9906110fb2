package simulation

import (
	"container/heap"
	"slices"
)

// tree is a speculation tree over one queue: of all builds of a change upon a set of those before it, the likeliest to be needed
// hold the slots; one that is not among them any more is stopped.
type tree struct {
	waiting []*change
	builds  []*build
}

func (p *tree) came(w *world, c *change) {
	p.waiting = append(p.waiting, c)
	p.plan(w)
}

func (p *tree) ended(w *world, _ *build) { p.plan(w) }

// find is the build of a change upon what is not merged of a set.
func (p *tree) find(c *change, on []*change) *build {
	for _, b := range p.builds {
		if b.tests[0] == c && slices.Equal(b.on, on) {
			return b
		}
	}
	return nil
}

// conclude settles what the outcome of the first change allows.
func (p *tree) conclude(w *world) {
	for len(p.waiting) > 0 {
		head := p.waiting[0]
		b := p.find(head, nil)
		if b == nil || !b.dead {
			return
		}
		conclude(w, b)
		p.waiting = p.waiting[1:]
		p.builds = slices.DeleteFunc(p.builds, func(o *build) bool {
			at := slices.Index(o.on, head)
			if o.tests[0] != head && at >= 0 == b.ok {
				if at >= 0 {
					o.on = slices.Delete(slices.Clone(o.on), at, at+1)
				}
				return false
			}
			w.cancel(o)
			return true
		})
	}
}

func (p *tree) plan(w *world) {
	p.conclude(w)
	best := p.best(w)
	p.builds = slices.DeleteFunc(p.builds, func(b *build) bool {
		if b.dead || slices.ContainsFunc(best, func(n *branch) bool { return n.build == b }) {
			return false
		}
		w.cancel(b)
		return true
	})
	for _, n := range best {
		if n.build == nil && w.free() > 0 {
			p.builds = append(p.builds, w.start(n.on, []*change{p.waiting[n.at]}, nil))
		}
	}
}

// branch is a build that may be needed.
type branch struct {
	at    int
	on    []*change
	p     float64
	build *build
}

type branches []*branch

func (b branches) Len() int           { return len(b) }
func (b branches) Less(i, j int) bool { return b[i].p > b[j].p }
func (b branches) Swap(i, j int)      { b[i], b[j] = b[j], b[i] }
func (b *branches) Push(x any)        { *b = append(*b, x.(*branch)) }
func (b *branches) Pop() any {
	old := *b
	n := old[len(old)-1]
	*b = old[:len(old)-1]
	return n
}

// best lists as many builds without an outcome as there are slots, likeliest first.
func (p *tree) best(w *world) (all []*branch) {
	if len(p.waiting) == 0 {
		return nil
	}
	open := branches{{p: 1}}
	for len(open) > 0 && len(all) < w.Slots {
		n := heap.Pop(&open).(*branch)
		n.build = p.find(p.waiting[n.at], n.on)
		pass := 1 - w.Failure
		switch {
		case n.build == nil || !n.build.dead:
			all = append(all, n)
		case n.build.ok:
			pass = 1
		default:
			pass = 0
		}
		if n.at+1 == len(p.waiting) {
			continue
		}
		if pass > 0 {
			heap.Push(&open, &branch{at: n.at + 1, on: append(slices.Clone(n.on), p.waiting[n.at]), p: n.p * pass})
		}
		if pass < 1 {
			heap.Push(&open, &branch{at: n.at + 1, on: n.on, p: n.p * (1 - pass)})
		}
	}
	return all
}
