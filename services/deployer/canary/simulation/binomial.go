package simulation

import (
	"math"
	"math/rand/v2"
)

// binomial draws how many of n trials succeed. Few expected successes are counted by the gaps between them; many by
// rejection from a transformed pair of uniforms (Hörmann's BTRS), at a cost that does not grow with n.
func binomial(rng *rand.Rand, n int64, p float64) int64 {
	switch {
	case n <= 0 || p <= 0:
		return 0
	case p >= 1:
		return n
	case p > 0.5:
		return n - binomial(rng, n, 1-p)
	case float64(n)*p < 10:
		return byGaps(rng, n, p)
	}
	size := float64(n)
	spread := math.Sqrt(size * p * (1 - p))
	b := 1.15 + 2.53*spread
	a := -0.0873 + 0.0248*b + 0.01*p
	centre := size*p + 0.5
	quick := 0.92 - 4.2/b
	alpha := (2.83 + 5.1/b) * spread
	mode := math.Floor((size + 1) * p)
	odds := math.Log(p / (1 - p))
	atMode := logChoices(size, mode)
	for {
		u, v := rng.Float64()-0.5, rng.Float64()
		us := 0.5 - math.Abs(u)
		k := math.Floor((2*a/us+b)*u + centre)
		if us >= 0.07 && v <= quick {
			return int64(k)
		}
		if k < 0 || k > size {
			continue
		}
		if math.Log(v*alpha/(a/(us*us)+b)) <= logChoices(size, k)-atMode+(k-mode)*odds {
			return int64(k)
		}
	}
}

func logChoices(n, k float64) float64 {
	a, _ := math.Lgamma(k + 1)
	b, _ := math.Lgamma(n - k + 1)
	return -a - b
}

func byGaps(rng *rand.Rand, n int64, p float64) int64 {
	var hits int64
	scale := math.Log1p(-p)
	gap := func() float64 { return math.Floor(math.Log(1-rng.Float64()) / scale) }
	for at := gap(); at < float64(n); at += 1 + gap() {
		hits++
	}
	return hits
}

// multinomial shares n out among cells with the given probabilities, which add up to 1.
func multinomial(rng *rand.Rand, n int64, shares []float64) []int64 {
	out := make([]int64, len(shares))
	left := 1.0
	for i, p := range shares {
		if n == 0 || left <= 0 {
			break
		}
		if i == len(shares)-1 {
			out[i] = n
			break
		}
		k := binomial(rng, n, min(p/left, 1))
		out[i] = k
		n -= k
		left -= p
	}
	return out
}
