package release

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestChoose(t *testing.T) {
	tests := []struct {
		name     string
		items    []Item
		capacity float64
		want     []string
		value    float64
	}{
		{"nothing to choose from", nil, 10, nil, 0},
		{"nothing fits", []Item{{"a", 5, 3, nil}}, 2, nil, 0},
		{"greed by ratio would take a alone", []Item{{"a", 7, 5, nil}, {"b", 5, 4, nil}, {"c", 5, 4, nil}}, 8, []string{"b", "c"}, 10},
		{"a prerequisite is paid for", []Item{{"a", 10, 2, []string{"b"}}, {"b", 0, 5, nil}, {"c", 4, 3, nil}}, 6, []string{"c"}, 4},
		{"a prerequisite is worth it", []Item{{"a", 10, 2, []string{"b"}}, {"b", 0, 5, nil}, {"c", 4, 3, nil}}, 7, []string{"b", "a"}, 10},
		{"a circle is taken whole", []Item{{"a", 3, 2, []string{"b"}}, {"b", 3, 2, []string{"a"}}, {"c", 5, 2, nil}}, 4, []string{"a", "b"}, 6},
		{"a prerequisite met elsewhere", []Item{{"a", 3, 2, []string{"shipped"}}}, 2, []string{"a"}, 3},
		{"tenths add up", []Item{{"a", 1, 0.1, nil}, {"b", 1, 0.2, nil}}, 0.3, []string{"a", "b"}, 2},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := Choose(test.items, test.capacity)
			if !slices.Equal(got.Items, test.want) || got.Value != test.value || !got.Exact || got.Bound != got.Value {
				t.Errorf("got %+v, want %v worth %v, exact", got, test.want, test.value)
			}
		})
	}
}

func TestOrder(t *testing.T) {
	tests := []struct {
		name  string
		items []Item
		want  []string
	}{
		{"value per cost", []Item{{"a", 1, 1, nil}, {"b", 9, 3, nil}, {"c", 8, 4, nil}}, []string{"b", "c", "a"}},
		{"a prerequisite rises with what it carries", []Item{{"base", 0, 1, nil}, {"top", 20, 2, []string{"base"}}, {"other", 3, 1, nil}}, []string{"base", "top", "other"}},
		{"a dear prerequisite holds it down", []Item{{"base", 0, 9, nil}, {"top", 20, 2, []string{"base"}}, {"other", 3, 1, nil}}, []string{"other", "base", "top"}},
		{"ties by id", []Item{{"b", 1, 1, nil}, {"a", 1, 1, nil}}, []string{"a", "b"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			for _, b := range Order(test.items) {
				got = append(got, b.Items...)
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

// drawItems draws up to n items with random requirements, circles included.
func drawItems(t *rapid.T, n int) []Item {
	count := rapid.IntRange(0, n).Draw(t, "count")
	items := make([]Item, count)
	for i := range items {
		items[i] = Item{
			ID:    fmt.Sprintf("i%02d", i),
			Value: float64(rapid.IntRange(0, 60).Draw(t, "value")) / 4,
			Cost:  float64(rapid.IntRange(1, 40).Draw(t, "cost")) / 4,
		}
		for range rapid.SampledFrom([]int{0, 0, 0, 1, 2}).Draw(t, "requirements") {
			items[i].Requires = append(items[i].Requires, fmt.Sprintf("i%02d", rapid.IntRange(0, count).Draw(t, "requires")))
		}
	}
	return items
}

// bruteForce tries every subset.
func bruteForce(items []Item, capacity float64) float64 {
	best := 0.0
	at := map[string]int{}
	for i, it := range items {
		at[it.ID] = i
	}
subsets:
	for set := range 1 << len(items) {
		value, cost := 0.0, 0.0
		for i, it := range items {
			if set&(1<<i) == 0 {
				continue
			}
			for _, r := range it.Requires {
				if j, ok := at[r]; ok && set&(1<<j) == 0 {
					continue subsets
				}
			}
			value, cost = value+it.Value, cost+it.Cost
		}
		if cost <= capacity {
			best = max(best, value)
		}
	}
	return best
}

func TestChooseAgainstBruteForce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		items := drawItems(t, 10)
		capacity := float64(rapid.IntRange(0, 120).Draw(t, "capacity")) / 4
		got := Choose(items, capacity)
		if want := bruteForce(items, capacity); !got.Exact || got.Value != want {
			t.Fatalf("got %+v, the best is %v", got, want)
		}
		checkPlan(t, items, capacity, got)
		// What is beyond the exact search has to stand on its own.
		g := newGraph(items)
		greedy := g.greedy(points(capacity))
		if v, c := g.sum(greedy); amount(v) > got.Value || amount(c) > capacity {
			t.Fatalf("greedy takes %v: worth %v for %v", g.ids(greedy), amount(v), amount(c))
		}
	})
}

// checkPlan holds a plan to what every plan has to be.
func checkPlan(t interface{ Fatalf(string, ...any) }, items []Item, capacity float64, p Plan) {
	known, chosen := map[string]Item{}, map[string]bool{}
	for _, it := range items {
		known[it.ID] = it
	}
	value, cost := int64(0), int64(0)
	for _, id := range p.Items {
		if chosen[id] {
			t.Fatalf("%s is chosen twice", id)
		}
		chosen[id] = true
		value, cost = value+points(known[id].Value), cost+points(known[id].Cost)
	}
	for id := range chosen {
		for _, r := range known[id].Requires {
			if _, ok := known[r]; ok && !chosen[r] {
				t.Fatalf("%s is chosen without %s", id, r)
			}
		}
	}
	if amount(value) != p.Value || amount(cost) != p.Cost || cost > points(capacity) || p.Bound < p.Value {
		t.Fatalf("plan says %v for %v under %v, bound %v; its items are %v for %v", p.Value, p.Cost, capacity, p.Bound, amount(value), amount(cost))
	}
}

func TestOrderKeepsPrerequisitesFirst(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		items := drawItems(t, 25)
		place := map[string]int{}
		for _, b := range Order(items) {
			for _, id := range b.Items {
				if _, ok := place[id]; ok {
					t.Fatalf("%s comes twice", id)
				}
				place[id] = len(place)
			}
		}
		if len(place) != len(items) {
			t.Fatalf("%d of %d items are ordered", len(place), len(items))
		}
		g := newGraph(items)
		for u, n := range g.units {
			for _, r := range n.requires {
				a, b := g.items[g.units[r].items[0]].ID, g.items[g.units[u].items[0]].ID
				if place[a] > place[b] {
					t.Fatalf("%s requires %s and comes first", b, a)
				}
			}
		}
	})
}

// manyItems makes n items of which a third rest on earlier ones.
func manyItems(n int) []Item {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	items := make([]Item, n)
	for i := range items {
		items[i] = Item{ID: fmt.Sprintf("i%04d", i), Value: float64(1 + r.IntN(50)), Cost: float64(1 + r.IntN(13))}
		if i > 0 && r.IntN(3) == 0 {
			items[i].Requires = []string{items[r.IntN(i)].ID}
		}
	}
	return items
}

func TestChooseBeyondTheExactSearch(t *testing.T) {
	for _, n := range []int{ExactItems, ExactItems + 1, 2000} {
		items := manyItems(n)
		capacity := float64(n) * 2
		got := Choose(items, capacity)
		checkPlan(t, items, capacity, got)
		t.Logf("%d items: %.0f of at most %.0f points, exact %v", n, got.Value, got.Bound, got.Exact)
		if got.Value < 0.9*got.Bound {
			t.Errorf("%d items: %.0f of at most %.0f points", n, got.Value, got.Bound)
		}
	}
}

func BenchmarkChoose(b *testing.B) {
	for _, n := range []int{20, ExactItems, 2000} {
		items := manyItems(n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				Choose(items, float64(n)*2)
			}
		})
	}
}
