package release

import "math/bits"

// Bundle is an item with those of its prerequisites that did not come earlier.
type Bundle struct {
	Items []string // prerequisites first; the item that they are for is the last, unless it is part of a circle
	Value float64  // points
	Cost  float64  // points
}

// Order puts items in the order that yields value soonest: again and again the bundle of the
// greatest value per cost. Ties go to the smaller number of prerequisites' id.
func Order(items []Item) []Bundle {
	g := newGraph(items)
	order := g.order()
	out := make([]Bundle, 0, len(order))
	for _, units := range order {
		v, c := g.sum(units)
		out = append(out, Bundle{Items: g.ids(units), Value: amount(v), Cost: amount(c)})
	}
	return out
}

// order is [Order] in units. After each pick only the bundles that it was part of are computed again.
func (g *graph) order() [][]int {
	n := len(g.units)
	done := make([]bool, n)
	bundles := make([][]int, n)
	value, cost := make([]int64, n), make([]int64, n)
	refresh := func(u int) {
		bundles[u] = g.missing(u, done)
		value[u], cost[u] = g.sum(bundles[u])
	}
	for u := range n {
		refresh(u)
	}
	var out [][]int
	for left := n; left > 0; {
		best := -1
		for u := range n {
			if !done[u] && (best < 0 || better(g, value, cost, u, best)) {
				best = u
			}
		}
		picked := bundles[best]
		out = append(out, picked)
		for _, u := range picked {
			done[u] = true
		}
		left -= len(picked)
		for _, u := range g.above(picked, done) {
			refresh(u)
		}
	}
	return out
}

// better compares ratios exactly, value[a]/cost[a] > value[b]/cost[b]; the cheaper bundle, then the smaller id, breaks ties.
func better(g *graph, value, cost []int64, a, b int) bool {
	ah, al := bits.Mul64(uint64(value[a]), uint64(cost[b]))
	bh, bl := bits.Mul64(uint64(value[b]), uint64(cost[a]))
	switch {
	case ah != bh:
		return ah > bh
	case al != bl:
		return al > bl
	case cost[a] != cost[b]:
		return cost[a] < cost[b]
	}
	return g.items[g.units[a].items[0]].ID < g.items[g.units[b].items[0]].ID
}

// above lists what depends, directly or not, on the units and is not done.
func (g *graph) above(units []int, done []bool) []int {
	seen := map[int]bool{}
	open := append([]int(nil), units...)
	var out []int
	for len(open) > 0 {
		n := open[len(open)-1]
		open = open[:len(open)-1]
		for _, d := range g.units[n].dependents {
			if !done[d] && !seen[d] {
				seen[d] = true
				open, out = append(open, d), append(out, d)
			}
		}
	}
	return out
}
