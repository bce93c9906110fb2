package release

import (
	"math"
	"slices"
)

const (
	// ExactItems is the number of items up to which the search for the best plan is tried.
	ExactItems = 64
	// searchNodes bounds that search; a count, not a time, so that a replay gives the same plan.
	searchNodes = 200_000
)

// Plan is a choice of items.
type Plan struct {
	Items []string // chosen, prerequisites first
	Value float64  // points
	Cost  float64  // points, ≤ the capacity
	Bound float64  // no plan under the capacity is worth more; equals Value when Exact
	Exact bool     // proven to be the best
}

// Choose picks items of the greatest value whose cost is within the capacity, each with what it requires.
// Requirements on what is not among the items count as met.
func Choose(items []Item, capacity float64) Plan {
	g := newGraph(items)
	limit := int64(math.Floor(capacity*scale + 0.5))
	chosen := g.greedy(limit)
	value, _ := g.sum(chosen)
	s := search{g: g, density: g.byDensity(), best: chosen, value: value, free: make([]bool, len(g.units)), taken: make([]bool, len(g.units))}
	for u := range s.free {
		s.free[u] = true
	}
	bound := s.bound(0, limit)
	if len(g.items) <= ExactItems {
		s.explore(0, 0, limit)
		bound = max(s.value, s.unexplored)
	}
	v, c := g.sum(s.best)
	return Plan{Items: g.ids(s.best), Value: amount(v), Cost: amount(c), Bound: amount(max(bound, v)), Exact: bound <= v}
}

// greedy fills the capacity in the order of [Order], skipping what does not fit.
func (g *graph) greedy(room int64) []int {
	limit := room
	have := make([]bool, len(g.units))
	var chosen []int
	for _, bundle := range g.order() {
		// A bundle may rest on one that was skipped: what it needs is asked for again.
		for _, u := range bundle {
			if have[u] {
				continue
			}
			need := g.missing(u, have)
			if _, cost := g.sum(need); cost <= limit {
				limit -= cost
				for _, n := range need {
					have[n] = true
				}
				chosen = append(chosen, need...)
			}
		}
	}
	// One great bundle can be worth more than all the dense small ones before it.
	value, _ := g.sum(chosen)
	none := make([]bool, len(g.units))
	for u := range g.units {
		alone := g.missing(u, none)
		if v, cost := g.sum(alone); v > value && cost <= room {
			value, chosen = v, alone
		}
	}
	slices.Sort(chosen)
	return chosen
}

// byDensity lists units by value per cost, greatest first.
func (g *graph) byDensity() []int {
	value, cost := make([]int64, len(g.units)), make([]int64, len(g.units))
	out := make([]int, len(g.units))
	for u := range g.units {
		out[u], value[u], cost[u] = u, g.units[u].value, g.units[u].cost
	}
	slices.SortFunc(out, func(a, b int) int {
		if a == b {
			return 0
		}
		if better(g, value, cost, a, b) {
			return -1
		}
		return 1
	})
	return out
}

// search walks the units in topological order and takes or leaves each; leaving one leaves its dependents.
type search struct {
	g          *graph
	density    []int
	free       []bool // not yet decided
	taken      []bool
	best       []int
	value      int64
	nodes      int
	unexplored int64 // greatest bound of a node that the limit left unexplored
}

// bound is what the free units can add at most: the fractional knapsack without prerequisites, rounded up.
func (s *search) bound(value, room int64) int64 {
	for _, u := range s.density {
		if !s.free[u] {
			continue
		}
		n := s.g.units[u]
		if n.cost > room {
			part := float64(n.value) * (float64(room) / float64(n.cost))
			return value + min(int64(math.Ceil(part))+1, n.value) // + 1: above any rounding of part
		}
		value, room = value+n.value, room-n.cost
	}
	return value
}

func (s *search) explore(u int, value, room int64) {
	for u < len(s.free) && !s.free[u] {
		u++
	}
	if u == len(s.free) {
		if value > s.value {
			s.value, s.best = value, s.best[:0:0]
			for t, yes := range s.taken {
				if yes {
					s.best = append(s.best, t)
				}
			}
		}
		return
	}
	bound := s.bound(value, room)
	if bound <= s.value {
		return
	}
	if s.nodes++; s.nodes > searchNodes {
		s.unexplored = max(s.unexplored, bound)
		return
	}
	n := s.g.units[u]
	s.free[u] = false
	if n.cost <= room {
		s.taken[u] = true
		s.explore(u+1, value+n.value, room-n.cost)
		s.taken[u] = false
	}
	left := s.g.above([]int{u}, s.undecided())
	for _, d := range left {
		s.free[d] = false
	}
	s.explore(u+1, value, room)
	for _, d := range left {
		s.free[d] = true
	}
	s.free[u] = true
}

// undecided is the complement of free: what above has to pass over.
func (s *search) undecided() []bool {
	out := make([]bool, len(s.free))
	for u, free := range s.free {
		out[u] = !free
	}
	return out
}
