package sample

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func times(x float64, n int) []float64 { return slices.Repeat([]float64{x}, n) }

func join(parts ...[]float64) []float64 { return slices.Concat(parts...) }

func normals(seed uint64, n int, mean, deviation float64) []float64 {
	rng := rand.New(rand.NewPCG(seed, 7))
	out := make([]float64, n)
	for i := range out {
		out[i] = mean + deviation*rng.NormFloat64()
	}
	return out
}

func TestCompare(t *testing.T) {
	for _, test := range []struct {
		name             string
		canary, baseline []float64
		policy           Policy
		want             Outcome
	}{
		{"published: seven of ten a hundred times worse", join(times(100, 7), times(1, 3)), times(1, 10), Policy{}, Bad},
		{"six of ten", join(times(100, 6), times(1, 4)), times(1, 10), Policy{}, Bad},
		{"half", join(times(100, 5), times(1, 5)), times(1, 10), Policy{}, Bad},
		{"four of ten", join(times(100, 4), times(1, 6)), times(1, 10), Policy{}, Hold},
		{"one outlier", join(times(100, 1), times(1, 9)), times(1, 10), Policy{}, Good},
		{"the other way round", times(1, 10), join(times(100, 7), times(1, 3)), Policy{}, Good},
		{"lower is worse", times(1, 10), join(times(100, 7), times(1, 3)), Policy{Worse: Lower}, Bad},
		{"either is worse", times(1, 10), join(times(100, 8), times(1, 2)), Policy{Worse: Either}, Bad},
		{"the same constant", times(1, 10), times(1, 10), Policy{}, Good},
		{"another constant", times(2, 10), times(1, 10), Policy{}, Bad},
		{"within the tolerance", times(1.04, 30), times(1, 30), Policy{Tolerance: 0.05}, Good},
		{"beyond the tolerance", times(1.06, 30), times(1, 30), Policy{Tolerance: 0.05}, Bad},
		{"beyond it, lower is worse", times(0.94, 30), times(1, 30), Policy{Tolerance: 0.05, Worse: Lower}, Bad},
		{"a better constant", times(1, 10), times(2, 10), Policy{}, Good},
		{"too few of the same", times(1, 5), times(1, 5), Policy{}, Hold},
		{"too few, and far apart", times(9, 3), times(1, 3), Policy{}, Hold},
		{"few, and far apart", times(9, 4), times(1, 4), Policy{}, Bad},
		{"nothing", nil, nil, Policy{}, Hold},
		{"no baseline", times(1, 10), nil, Policy{}, Hold},
		{"no canary", nil, times(1, 10), Policy{}, Hold},
		{"one sample against many", times(9, 1), normals(1, 100, 1, 0.1), Policy{}, Bad},
		{"one ordinary sample against many", times(1, 1), normals(1, 100, 1, 0.1), Policy{}, Hold},
		{"the same distribution", normals(1, 40, 100, 10), normals(2, 40, 100, 10), Policy{}, Good},
		{"a higher level", normals(1, 40, 110, 10), normals(2, 40, 100, 10), Policy{}, Bad},
		{"a lower level", normals(1, 40, 90, 10), normals(2, 40, 100, 10), Policy{}, Good},
		{"three times the spread", normals(1, 40, 100, 30), normals(2, 40, 100, 10), Policy{}, Bad},
		{"twice the spread", normals(1, 60, 100, 20), normals(2, 60, 100, 10), Policy{}, Bad},
		{"half the spread", normals(1, 60, 100, 5), normals(2, 60, 100, 10), Policy{}, Good},
		{"more spread, all of it better", normals(1, 40, 40, 10), normals(2, 40, 100, 1), Policy{}, Good},
		{"half of it better", join(times(0.1, 5), times(1, 5)), times(1, 10), Policy{}, Good},
		{"a heavy tail", join(normals(1, 90, 100, 10), times(500, 10)), normals(2, 100, 100, 10), Policy{}, Bad},
		{"the same tail in both", join(normals(1, 90, 100, 10), times(500, 10)), join(normals(2, 90, 100, 10), times(500, 10)), Policy{}, Good},
		{"large and the same", normals(1, 30000, 100, 10), normals(2, 30000, 100, 10), Policy{}, Good},
		{"large and a little worse", normals(1, 30000, 101, 10), normals(2, 30000, 100, 10), Policy{}, Bad},
		{"huge numbers", times(math.MaxFloat64, 10), times(-math.MaxFloat64, 10), Policy{}, Bad},
		{"ones and zeros, three to one in a hundred", join(times(1, 3), times(0, 97)), join(times(1, 1), times(0, 99)), Policy{}, Good},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := Compare(test.canary, test.baseline, test.policy)
			if v.Outcome != test.want {
				t.Errorf("%+v", v)
			}
			if v.Reason == "" || v.P < 0 || v.P > 1 || math.IsNaN(v.P) {
				t.Errorf("%+v", v)
			}
		})
	}
}

// Whatever is compared, the same versions are called bad as rarely as promised, ties and skewed values included.
func TestTheSameIsRarelyBad(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	draws := map[string]func() float64{
		"normal": rng.NormFloat64, "exponential": rng.ExpFloat64,
		"heavy tail":  func() float64 { return math.Exp(2 * rng.NormFloat64()) },
		"coin":        func() float64 { return float64(rng.IntN(2)) },
		"rare errors": func() float64 { return math.Floor(rng.Float64() * 1.1) },
	}
	for name, draw := range draws {
		for _, sizes := range [][2]int{{8, 8}, {20, 12}} {
			const runs = 200
			bad := 0
			for range runs {
				sample := func(n int) []float64 {
					out := make([]float64, n)
					for i := range out {
						out[i] = draw()
					}
					return out
				}
				if Compare(sample(sizes[0]), sample(sizes[1]), Policy{}).Outcome == Bad {
					bad++
				}
			}
			// 2 % of 200 are 4; 12 or more have a probability of 0.1 %.
			if bad >= 12 {
				t.Errorf("%s, %v samples: %d of %d same versions are bad", name, sizes, bad, runs)
			}
		}
	}
}

func TestExactProbability(t *testing.T) {
	v := Compare(join(times(100, 7), times(1, 3)), times(1, 10), Policy{})
	if want := 286.0 / 184756; math.Abs(v.P-want) > 1e-12 {
		t.Errorf("p is %v, by counting it is %v", v.P, want)
	}
}
