package canary

import (
	"math"
	"slices"
)

// slowdowns are the ratios of the shares above a bound that the coin over bounds mixes over, evenly.
var slowdowns = [5]float64{1.1, 1.25, 1.5, 2, 3}

const (
	// A bound is watched when between leastAbove and mostAbove of the baseline's past took longer.
	leastAbove = 0.005
	mostAbove  = 0.4
	// enoughPast is how many of the baseline's requests have to be known before bounds are chosen and a variance is
	// believed: one of them is then above leastAbove.
	enoughPast = 200
	maxWatched = 12
	// MaxBounds is how many bounds a tick may have; of more nothing is learned about latency.
	MaxBounds = 100

	tau = 0.1 // standard deviation of the shifts of mean log latency that the test mixes over
)

// worthAShift is the shift of mean log latency that a promotion has to exclude.
var worthAShift = math.Log(1.10)

// latency is what is remembered of the time that requests took.
type latency struct {
	// Bounds are those of the last tick.
	Bounds []float64 `json:"bounds,omitempty"`
	// Past counts the baseline's requests by bucket until the bounds to watch are chosen.
	Past    []int64   `json:"past,omitempty"`
	Watched []watched `json:"watched,omitempty"`
	// S and I sum d/v and 1/v over the ticks: d is the canary's mean log latency less the baseline's, v its variance.
	S float64 `json:"s,omitempty"`
	I float64 `json:"i,omitempty"`
	// Canary and Baseline hold sums of log seconds, the baseline's with its past, for the variance within a version.
	Canary   moments `json:"canary,omitzero"`
	Baseline moments `json:"baseline,omitzero"`
}

// watched is a bound with ln E of "the canary exceeds it no more often", for each of slowdowns.
type watched struct {
	Bound float64                 `json:"bound"`
	Log   [len(slowdowns)]float64 `json:"log"`
}

// moments of log seconds.
type moments struct {
	N       float64 `json:"n"`
	Sum     float64 `json:"sum"`
	Squares float64 `json:"squares"`
}

func (m moments) mean() float64 { return m.Sum / m.N }

// scatter is the sum of the squared distances from the mean.
func (m moments) scatter() float64 {
	if m.N == 0 {
		return 0
	}
	return max(m.Squares-m.Sum*m.Sum/m.N, 0)
}

func (m moments) plus(o moments) moments {
	return moments{m.N + o.N, m.Sum + o.Sum, m.Squares + o.Squares}
}

// usable says whether the bounds are positive numbers that rise.
func usable(bounds []float64) bool {
	last := 0.0
	for _, b := range bounds {
		if !(b > last) || math.IsInf(b, 1) {
			return false
		}
		last = b
	}
	return len(bounds) > 0 && len(bounds) <= MaxBounds
}

// known says whether latency was counted at all.
func (l latency) known() bool { return l.Canary.N > 0 && l.Baseline.N > 0 }

// observe adds a tick; l is unchanged. phi scales the coin, as that of errors.
func (l latency) observe(t Tick, phi float64) latency {
	if len(t.CanaryBuckets)+len(t.BaselineBuckets) == 0 {
		return l
	}
	bounds := t.Bounds
	if bounds == nil {
		bounds = l.Bounds
	}
	if !usable(bounds) {
		return l
	}
	// Of what was known before the tick: evidence does not choose what it is measured by.
	l = l.choose()
	canary, baseline := momentsOf(bounds, t.CanaryBuckets), momentsOf(bounds, t.BaselineBuckets)
	if canary.N > 0 && baseline.N > 0 {
		l.Watched = slices.Clone(l.Watched)
		for i := range l.Watched {
			w := &l.Watched[i]
			at, ok := slices.BinarySearch(bounds, w.Bound)
			if !ok {
				continue // this tick was counted by other bounds
			}
			xc, xb := above(t.CanaryBuckets, at)/phi, above(t.BaselineBuckets, at)/phi
			for j, r := range slowdowns {
				w.Log[j] += coin(xc, xb, canary.N, baseline.N, r, 1)
			}
		}
		if variance := l.variance(canary, baseline); variance > 0 {
			v := variance * (1/canary.N + 1/baseline.N)
			l.S += (canary.mean() - baseline.mean()) / v
			l.I += 1 / v
		}
	}
	l.Canary = l.Canary.plus(canary)
	return l.remember(bounds, t.BaselineBuckets)
}

// variance of log latency within a version, of all that was seen; 0 while that is too little.
func (l latency) variance(canary, baseline moments) float64 {
	c, b := l.Canary.plus(canary), l.Baseline.plus(baseline)
	if c.N+b.N < enoughPast/2 {
		return 0
	}
	return (c.scatter() + b.scatter()) / (c.N + b.N - 2)
}

// remember adds the baseline's buckets to what is known of it.
func (l latency) remember(bounds []float64, buckets []int64) latency {
	if !slices.Equal(bounds, l.Bounds) {
		l.Bounds, l.Past = slices.Clone(bounds), nil
	}
	l.Baseline = l.Baseline.plus(momentsOf(bounds, buckets))
	if l.Watched != nil {
		return l
	}
	past := make([]int64, len(bounds)+1)
	copy(past, l.Past)
	for i, n := range buckets[:min(len(buckets), len(past))] {
		past[i] = add(past[i], max(n, 0))
	}
	l.Past = past
	return l
}

// choose fixes the bounds to watch once enough of the baseline is known.
func (l latency) choose() latency {
	total := above(l.Past, -1)
	if l.Watched != nil || total < enoughPast {
		return l
	}
	var fit []watched
	for i, b := range l.Bounds {
		if share := above(l.Past, i) / total; share >= leastAbove && share <= mostAbove {
			fit = append(fit, watched{Bound: b})
		}
	}
	l.Watched = []watched{}
	n := min(len(fit), maxWatched)
	for i := range n {
		l.Watched = append(l.Watched, fit[i*len(fit)/n])
	}
	l.Past = nil
	return l
}

// above counts the requests that took longer than the bound with the index.
func above(buckets []int64, bound int) float64 {
	sum := 0.0
	for i := bound + 1; i < len(buckets); i++ {
		sum += float64(max(buckets[i], 0))
	}
	return sum
}

// momentsOf places each request in the middle of its bucket, on the log scale, and adds the variance that a bucket's width
// hides. What is above the last bound is taken to be half a bucket above it.
func momentsOf(bounds []float64, buckets []int64) (m moments) {
	width := math.Ln2
	for i, count := range buckets[:min(len(buckets), len(bounds)+1)] {
		var middle float64
		switch {
		case len(bounds) == 1:
			middle = math.Log(bounds[0]) + (float64(i)-0.5)*width
		case i == 0:
			width = math.Log(bounds[1]) - math.Log(bounds[0]) // a ratio might overflow
			middle = math.Log(bounds[0]) - width/2
		case i == len(bounds):
			middle = math.Log(bounds[i-1]) + width/2
		default:
			width = math.Log(bounds[i]) - math.Log(bounds[i-1])
			middle = (math.Log(bounds[i]) + math.Log(bounds[i-1])) / 2
		}
		if n := float64(max(count, 0)); n > 0 {
			m.N += n
			m.Sum += n * middle
			m.Squares += n * (middle*middle + width*width/12)
		}
	}
	return m
}

// logSlower is ln E against "the mean log latency is at most shift above the baseline's": a half-normal mixture.
func (l latency) logSlower(shift float64) float64 { return halfNormal(l.S-shift*l.I, l.I) }

// logNotSlower is ln E against "it is shift or more above".
func (l latency) logNotSlower(shift float64) float64 { return halfNormal(shift*l.I-l.S, l.I) }

func halfNormal(z, information float64) float64 {
	q := 1 + information*tau*tau
	t := z * tau / math.Sqrt(q)
	return math.Ln2 - math.Log(q)/2 + logMills(t)
}

// logMills is t²/2 + ln Φ(t), also where Φ(t) is too small for a float64.
func logMills(t float64) float64 {
	if t < -20 {
		return -math.Log(-t*math.Sqrt(2*math.Pi)) - 1/(t*t)
	}
	return t*t/2 + math.Log(math.Erfc(-t/math.Sqrt2)/2)
}

// evidence is E against "the canary is no slower", and 1 as long as nothing is known.
func (l latency) evidence(tolerance float64) float64 { return l.mixed(l.coins(), tolerance) }

// coins is the evidence of the coin over the watched bounds; 0 without any.
func (l latency) coins() float64 {
	if len(l.Watched) == 0 {
		return 0
	}
	sum := 0.0
	for _, w := range l.Watched {
		sum += meanExp(w.Log[:])
	}
	return sum / float64(len(l.Watched))
}

// mixed joins both tests. A coin knows no tolerance, so it counts only without one.
func (l latency) mixed(coins, tolerance float64) float64 {
	shift := meanExp([]float64{l.logSlower(math.Log1p(tolerance))})
	if tolerance > 0 || coins == 0 {
		return shift
	}
	return (coins + shift) / 2
}
