package simulation

import (
	"cmp"
	"slices"
)

// serial builds one change at a time on the master copy.
type serial struct{ waiting []*change }

func (p *serial) came(w *world, c *change) {
	p.waiting = append(p.waiting, c)
	p.next(w)
}

func (p *serial) next(w *world) {
	if w.running == 0 && len(p.waiting) > 0 {
		w.start(nil, p.waiting[:1:1], nil)
		p.waiting = p.waiting[1:]
	}
}

func (p *serial) ended(w *world, b *build) {
	conclude(w, b)
	p.next(w)
}

func conclude(w *world, b *build) {
	for _, c := range b.tests {
		if b.ok {
			w.merge(c)
		} else {
			w.reject(c)
		}
	}
}

// bors builds everything that waits as one batch, one batch at a time; one that fails is halved, and the halves come first.
type bors struct {
	waiting []*change
	halves  [][]*change
}

func (p *bors) came(w *world, c *change) {
	p.waiting = append(p.waiting, c)
	p.next(w)
}

func (p *bors) next(w *world) {
	switch {
	case w.running > 0:
	case len(p.halves) > 0:
		w.start(nil, p.halves[0], nil)
		p.halves = p.halves[1:]
	case len(p.waiting) > 0:
		w.start(nil, p.waiting, nil)
		p.waiting = nil
	}
}

func (p *bors) ended(w *world, b *build) {
	if n := len(b.tests); b.ok || n == 1 {
		conclude(w, b)
	} else {
		p.halves = append([][]*change{b.tests[:n/2], b.tests[n/2:]}, p.halves...)
	}
	p.next(w)
}

// zuul builds each change of a window on all before it. One that fails is taken out from under those behind it, which begin
// again; it is rejected when what it was built on is merged, and built again when that changes. The window grows by one with each
// merge and is halved by each rejection.
type zuul struct {
	items  []*item
	window int
}

type item struct {
	change *change
	build  *build // nil: not begun
}

const (
	zuulWindow = 20
	zuulFloor  = 3
)

func (i *item) failed() bool { return i.build != nil && i.build.dead && !i.build.ok }

func (p *zuul) came(w *world, c *change) {
	p.items = append(p.items, &item{change: c})
	p.plan(w)
}

func (p *zuul) ended(w *world, _ *build) { p.plan(w) }

func (p *zuul) plan(w *world) {
	p.window = cmp.Or(p.window, zuulWindow)
	for len(p.items) > 0 {
		head := p.items[0]
		if p.fit(w); head.build == nil || !head.build.dead {
			break
		}
		if conclude(w, head.build); head.build.ok {
			p.window++
		} else {
			p.window = max(zuulFloor, p.window/2)
		}
		p.items = p.items[1:]
	}
	for i, it := range p.items[:min(p.window, len(p.items))] {
		if it.build == nil && w.free() > 0 {
			it.build = w.start(p.ahead(i), []*change{it.change}, nil)
		}
	}
}

// ahead lists what a place is built on: the changes before it that have not failed.
func (p *zuul) ahead(at int) (all []*change) {
	for _, it := range p.items[:at] {
		if !it.failed() {
			all = append(all, it.change)
		}
	}
	return all
}

// fit lets go of the builds on something else than what is ahead now.
func (p *zuul) fit(w *world) {
	for i, it := range p.items {
		if it.build == nil {
			continue
		}
		if on := slices.DeleteFunc(slices.Clone(it.build.on), func(c *change) bool { return c.merged >= 0 }); !slices.Equal(on, p.ahead(i)) {
			w.cancel(it.build)
			it.build = nil
		}
	}
}
