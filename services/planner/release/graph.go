package release

import (
	"math"
	"slices"
)

// Item is a candidate for a release.
type Item struct {
	ID       string
	Value    float64 // points, ≥ 0
	Cost     float64 // points, > 0
	Requires []string
}

// scale is the number of parts that a point is counted in.
const scale = 1000

func points(v float64) int64 { return int64(math.Round(v * scale)) }

func amount(n int64) float64 { return float64(n) / scale }

// unit is an item, or several that require one another in a circle. Units form an acyclic graph.
type unit struct {
	items       []int // indices, sorted by id
	value, cost int64
	requires    []int // units, direct, sorted
	dependents  []int
}

// graph holds the units in topological order: a unit stands after all that it requires.
type graph struct {
	items []Item
	units []unit
}

// newGraph condenses circles by Tarjan's algorithm, which emits a component after those that it requires.
// Requirements on what is not among the items are met elsewhere, and ignored.
func newGraph(items []Item) *graph {
	items = slices.Clone(items)
	slices.SortFunc(items, func(a, b Item) int { return cmpString(a.ID, b.ID) })
	items = slices.CompactFunc(items, func(a, b Item) bool { return a.ID == b.ID })
	at := make(map[string]int, len(items))
	for i, it := range items {
		at[it.ID] = i
	}
	t := tarjan{edges: make([][]int, len(items)), index: make([]int, len(items)), low: make([]int, len(items)), unit: make([]int, len(items))}
	for i, it := range items {
		t.unit[i] = -1
		for _, r := range it.Requires {
			if j, ok := at[r]; ok && j != i {
				t.edges[i] = append(t.edges[i], j)
			}
		}
		slices.Sort(t.edges[i])
		t.edges[i] = slices.Compact(t.edges[i])
	}
	for i := range items {
		if t.index[i] == 0 {
			t.visit(i)
		}
	}
	g := &graph{items: items, units: t.units}
	for u := range g.units {
		n := &g.units[u]
		for _, i := range n.items {
			n.value += points(items[i].Value)
			n.cost += max(points(items[i].Cost), 1)
			for _, j := range t.edges[i] {
				if t.unit[j] != u {
					n.requires = append(n.requires, t.unit[j])
				}
			}
		}
		slices.Sort(n.requires)
		n.requires = slices.Compact(n.requires)
		for _, r := range n.requires {
			g.units[r].dependents = append(g.units[r].dependents, u)
		}
	}
	return g
}

type tarjan struct {
	edges      [][]int
	index, low []int // from 1; 0 is unvisited
	next       int
	stack      []int
	unit       []int // unit of an item; −1 while it is open
	units      []unit
}

func (t *tarjan) visit(v int) {
	t.next++
	t.index[v], t.low[v] = t.next, t.next
	t.stack = append(t.stack, v)
	for _, w := range t.edges[v] {
		switch {
		case t.index[w] == 0:
			t.visit(w)
			t.low[v] = min(t.low[v], t.low[w])
		case t.unit[w] < 0:
			t.low[v] = min(t.low[v], t.index[w])
		}
	}
	if t.low[v] != t.index[v] {
		return
	}
	var members []int
	for {
		w := t.stack[len(t.stack)-1]
		t.stack = t.stack[:len(t.stack)-1]
		t.unit[w] = len(t.units)
		members = append(members, w)
		if w == v {
			break
		}
	}
	slices.Sort(members)
	t.units = append(t.units, unit{items: members})
}

// missing lists the unit and what it requires, directly or not, as far as have does not hold it; in topological
// order, since units are numbered so.
func (g *graph) missing(u int, have []bool) []int {
	seen := map[int]bool{u: true}
	open, out := []int{u}, []int{u}
	for len(open) > 0 {
		n := open[len(open)-1]
		open = open[:len(open)-1]
		for _, r := range g.units[n].requires {
			if !have[r] && !seen[r] {
				seen[r] = true
				open, out = append(open, r), append(out, r)
			}
		}
	}
	slices.Sort(out)
	return out
}

func (g *graph) sum(units []int) (value, cost int64) {
	for _, u := range units {
		value += g.units[u].value
		cost += g.units[u].cost
	}
	return value, cost
}

// ids lists the items of units, in the units' order.
func (g *graph) ids(units []int) []string {
	var out []string
	for _, u := range units {
		for _, i := range g.units[u].items {
			out = append(out, g.items[i].ID)
		}
	}
	return out
}

func cmpString(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
