package release

import (
	"container/heap"
	"math/bits"
)

// Bundle is an item with those of its prerequisites that did not come earlier.
type Bundle struct {
	Items []string // prerequisites first; the item that they are for is the last, unless it is part of a circle
	Value float64  // points
	Cost  float64  // points
}

// Order puts items in the order that yields value soonest: again and again the bundle of the
// greatest value per cost. Ties go to the cheaper bundle, then to the smaller id.
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
	q := newQueue(g)
	done := make([]bool, len(g.units))
	var out [][]int
	for len(q.heap) > 0 {
		picked := q.bundles[q.heap[0]]
		out = append(out, picked)
		for _, u := range picked {
			done[u] = true
			heap.Remove(q, q.at[u])
		}
		for _, u := range g.above(picked, done) {
			q.refresh(u, done)
			heap.Fix(q, q.at[u])
		}
	}
	return out
}

// queue holds the units that are left, the one with the best bundle on top.
type queue struct {
	g           *graph
	bundles     [][]int
	value, cost []int64 // of the bundles
	heap, at    []int
}

func newQueue(g *graph) *queue {
	n := len(g.units)
	q := &queue{g: g, bundles: make([][]int, n), value: make([]int64, n), cost: make([]int64, n), heap: make([]int, n), at: make([]int, n)}
	none := make([]bool, n)
	for u := range n {
		q.refresh(u, none)
		q.heap[u], q.at[u] = u, u
	}
	heap.Init(q)
	return q
}

func (q *queue) refresh(u int, done []bool) {
	q.bundles[u] = q.g.missing(u, done)
	q.value[u], q.cost[u] = q.g.sum(q.bundles[u])
}

func (q *queue) Len() int           { return len(q.heap) }
func (q *queue) Less(i, j int) bool { return better(q.g, q.value, q.cost, q.heap[i], q.heap[j]) }
func (q *queue) Push(any)           {} // nothing is ever added

func (q *queue) Swap(i, j int) {
	q.heap[i], q.heap[j] = q.heap[j], q.heap[i]
	q.at[q.heap[i]], q.at[q.heap[j]] = i, j
}

func (q *queue) Pop() any {
	u := q.heap[len(q.heap)-1]
	q.heap = q.heap[:len(q.heap)-1]
	return u
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
