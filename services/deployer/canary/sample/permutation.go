package sample

import (
	"math"
	"math/rand/v2"
	"slices"
)

const (
	mostExact   = 200_000 // labellings that are all looked at
	mostDrawn   = 20_000  // labellings that are drawn otherwise
	leastDrawn  = 2_000
	mostSwaps   = 20_000_000 // bounds the work of drawing
	mostSamples = 40_000     // of both; beyond it a normal distribution is as good
)

// test is the result for "higher is worse": p of the largest statistic, and of each alone.
type test struct{ p, level, spread, tail float64 }

// scores of one statistic, for the pooled samples, the canary's first.
type scores struct {
	of     []float64
	mean   float64 // of the sum over the canary, under all labellings
	spread float64 // its standard deviation; 0 when all scores are the same
}

func newScores(of []float64, n int) scores {
	total, size := 0.0, float64(len(of))
	for _, a := range of {
		total += a
	}
	mean, squares := total/size, 0.0
	for _, a := range of {
		squares += (a - mean) * (a - mean)
	}
	k := float64(n)
	s := scores{of: of, mean: k * mean}
	if squares > 1e-12*size {
		s.spread = math.Sqrt(k * (size - k) / (size * (size - 1)) * squares)
	}
	return s
}

// z standardises a sum; a statistic without spread says nothing.
func (s scores) z(sum float64) float64 {
	if s.spread == 0 {
		return math.Inf(-1)
	}
	return (sum - s.mean) / s.spread
}

func oneSided(canary, baseline []float64) test {
	n, size := len(canary), len(canary)+len(baseline)
	pooled := slices.Concat(canary, baseline)
	ranks := midranks(pooled)
	centre := quantile(slices.Sorted(slices.Values(pooled)), 0.5)
	distance, tail := make([]float64, size), make([]float64, size)
	for i, x := range pooled {
		distance[i] = math.Abs(x - centre)
		tail[i] = max(0, ranks[i]/float64(size+1)-0.9)
	}
	spread := midranks(distance)
	for i, r := range spread {
		spread[i] = math.Sqrt2 * math.Erfinv(r/float64(size+1))
	}
	all := [3]scores{newScores(ranks, n), newScores(spread, n), newScores(tail, n)}

	var seen [3]float64
	for k, s := range all {
		for _, a := range s.of[:n] {
			seen[k] += a
		}
		seen[k] = s.z(seen[k])
	}
	if summary(canary).P90 <= summary(baseline).P90 {
		seen[1] = math.Inf(-1) // the spread is on the better side
	}
	if math.IsInf(max(seen[0], seen[1], seen[2]), -1) {
		return test{1, 1, 1, 1}
	}
	if size > mostSamples {
		return normal(seen)
	}
	return permuted(all, seen, n)
}

// midranks are ranks from 1; equal values share the mean of theirs.
func midranks(values []float64) []float64 {
	order := make([]int, len(values))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		switch {
		case values[a] < values[b]:
			return -1
		case values[a] > values[b]:
			return 1
		}
		return 0
	})
	ranks := make([]float64, len(values))
	for i := 0; i < len(order); {
		j := i
		for j < len(order) && values[order[j]] == values[order[i]] {
			j++
		}
		for _, at := range order[i:j] {
			ranks[at] = float64(i+j+1) / 2
		}
		i = j
	}
	return ranks
}

// normal is for samples so large that sums of scores are normally distributed.
func normal(seen [3]float64) test {
	var p [3]float64
	for k, z := range seen {
		p[k] = math.Erfc(z/math.Sqrt2) / 2
		if math.IsInf(z, -1) {
			p[k] = 1
		}
	}
	return test{min(1, 3*min(p[0], p[1], p[2])), p[0], p[1], p[2]}
}

// counter counts labellings that look as bad as what was seen.
type counter struct {
	scores [3]scores
	seen   [3]float64
	all    float64
	atMost [3]float64
	joint  float64
}

func (c *counter) look(sums [3]float64) {
	const equal = 1e-9 // sums in another order differ in the last digits
	c.all++
	largest := math.Inf(-1)
	for k, s := range c.scores {
		z := s.z(sums[k])
		largest = max(largest, z)
		if z >= c.seen[k]-equal {
			c.atMost[k]++
		}
	}
	if largest >= max(c.seen[0], c.seen[1], c.seen[2])-equal {
		c.joint++
	}
}

func (c *counter) test(add float64) test {
	p := func(hits float64) float64 { return min(1, (hits+add)/(c.all+add)) }
	t := test{p(c.joint), p(c.atMost[0]), p(c.atMost[1]), p(c.atMost[2])}
	return t
}

func permuted(all [3]scores, seen [3]float64, n int) test {
	c := &counter{scores: all, seen: seen}
	size := len(all[0].of)
	if logChoose(size, n) <= math.Log(mostExact) {
		c.every(0, n, [3]float64{})
		return c.test(0)
	}
	// The smaller side is drawn; the sum over the other is what is left.
	drawn, rest := n, [3]float64{}
	other := size-n < n
	if other {
		drawn = size - n
		for k, s := range all {
			for _, a := range s.of {
				rest[k] += a
			}
		}
	}
	rng := rand.New(rand.NewPCG(uint64(size), uint64(n))) //nolint:gosec // the same samples get the same verdict
	order := make([]int32, size)
	for i := range order {
		order[i] = int32(i) // at most mostSamples
	}
	for range max(leastDrawn, min(mostDrawn, mostSwaps/drawn)) {
		var sums [3]float64
		for i := range drawn {
			j := i + rng.IntN(size-i)
			order[i], order[j] = order[j], order[i]
			for k := range sums {
				sums[k] += all[k].of[order[i]]
			}
		}
		if other {
			for k := range sums {
				sums[k] = rest[k] - sums[k]
			}
		}
		c.look(sums)
	}
	return c.test(1) // what was seen is one of the labellings
}

// every goes through all ways to choose left of the samples from at on.
func (c *counter) every(at, left int, sums [3]float64) {
	if left == 0 {
		c.look(sums)
		return
	}
	for i := at; i <= len(c.scores[0].of)-left; i++ {
		next := sums
		for k := range next {
			next[k] += c.scores[k].of[i]
		}
		c.every(i+1, left-1, next)
	}
}
