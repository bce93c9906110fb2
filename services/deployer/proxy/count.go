package proxy

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// OtherFeature is the feature of paths under no configured prefix.
const OtherFeature = "other"

// Bounds are the upper bounds of the latency buckets, in seconds: 0.5 ms to about 60 s, each a quarter above the one
// before, so that a shift of some percent moves counts. One more bucket takes what is above the last.
var Bounds = bounds()

func bounds() []float64 {
	var all []float64
	for b := 0.0005; b < 60; b *= 1.25 {
		all = append(all, b)
	}
	return all
}

// Counts are cumulative.
type Counts struct {
	Requests int64 `json:"requests"`
	Errors   int64 `json:"errors"`   // at most Requests
	Injected int64 `json:"injected"` // errors of a Fault, also within Errors
	// Buckets count requests by time to the response's headers: Buckets[i] those of at most Bounds[i] and above the bound
	// before it (not summed up as in Prometheus).
	Buckets []int64 `json:"buckets"`
	// SumLog and SumLogSquares are of the natural log of the seconds: what a test of mean log latency takes.
	SumLog        float64 `json:"sumLog"`
	SumLogSquares float64 `json:"sumLogSquares"`
}

// VersionCounts are the counts of a version in all, and by feature.
type VersionCounts struct {
	Counts
	Features map[string]Counts `json:"features"`
	InFlight int64             `json:"inFlight"`
}

// Snapshot is what a front has counted since it started. Counts never fall while Since stays the same, but for a
// version that was forgotten.
type Snapshot struct {
	Environment string                   `json:"environment"`
	Service     string                   `json:"service"`
	Since       time.Time                `json:"since"`
	Routes      Routes                   `json:"routes"`
	Versions    map[string]VersionCounts `json:"versions"`
	Faults      []Fault                  `json:"faults,omitempty"` // in force now
	// Paused is how often no client could be let in, for lack of open files above all: those that come wait meanwhile.
	Paused int64 `json:"paused,omitempty"`
	// Unserved are clients whose request was answered with 503 before it was any version's, for the same reason.
	Unserved int64 `json:"unserved,omitempty"`
}

// Snapshot reads all counts; those of one version are of one moment.
func (f *Front) Snapshot() Snapshot {
	s := Snapshot{Environment: f.config.Environment, Service: f.config.Service, Since: f.since, Routes: f.Routes(),
		Versions: map[string]VersionCounts{}, Faults: f.faults.list(), Paused: f.paused.Load(), Unserved: f.unserved.Load()}
	f.mu.Lock()
	versions := maps.Clone(f.versions)
	inFlight := make(map[string]int64, len(versions))
	for name, v := range versions {
		inFlight[name] = v.inFlight.Load()
	}
	f.mu.Unlock()
	for name, v := range versions {
		counts := v.snapshot(*f.features.Load())
		counts.InFlight = inFlight[name]
		s.Versions[name] = counts
	}
	return s
}

// version counts the requests of one version. drains belong to the front's lock, under which inFlight rises and routed changes;
// the rest to its own.
type version struct {
	name     string
	inFlight atomic.Int64
	routed   atomic.Bool
	drains   []chan struct{}

	mu        sync.Mutex
	total     Counts
	byFeature []Counts // by slot; those at the end that have counted nothing may be missing
}

func newVersion(name string) *version { return &version{name: name, total: newCounts()} }

func newCounts() Counts { return Counts{Buckets: make([]int64, len(Bounds)+1)} }

// of is a feature's counts; under the lock.
func (v *version) of(slot int) *Counts {
	for slot >= len(v.byFeature) {
		v.byFeature = append(v.byFeature, newCounts())
	}
	return &v.byFeature[slot]
}

// settle closes the drains of a version that nothing uses any more.
func (v *version) settle() {
	if v.routed.Load() || v.inFlight.Load() > 0 {
		return
	}
	for _, d := range v.drains {
		close(d)
	}
	v.drains = nil
}

func (v *version) count(slot int, isError, injected bool, took time.Duration) {
	seconds := max(took.Seconds(), 1e-6)
	bucket, log := sort.SearchFloat64s(Bounds, seconds), math.Log(seconds)
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, c := range []*Counts{&v.total, v.of(slot)} {
		c.Requests++
		if isError {
			c.Errors++
		}
		if injected {
			c.Injected++
		}
		c.Buckets[bucket]++
		c.SumLog += log
		c.SumLogSquares += log * log
	}
}

func (v *version) fail(slot int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.total.Errors++
	v.of(slot).Errors++
}

func (v *version) snapshot(features []feature) VersionCounts {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := VersionCounts{Counts: v.total.clone(), Features: map[string]Counts{OtherFeature: v.of(otherSlot).clone()}}
	for _, f := range features {
		s.Features[f.name] = v.of(f.slot).clone()
	}
	return s
}

func (c Counts) clone() Counts {
	c.Buckets = slices.Clone(c.Buckets)
	return c
}

type feature struct {
	name, prefix string
	slot         int // of its counts
}

// otherSlot is OtherFeature's.
const otherSlot = 0

// parseFeatures sorts them so that the first match is the longest.
func parseFeatures(named map[string]string) ([]feature, error) {
	var all []feature
	for name, prefix := range named {
		if name == OtherFeature || name == "" || !strings.HasPrefix(prefix, "/") {
			return nil, fmt.Errorf("feature %q with prefix %q: a prefix starts with /, and %q is taken", name, prefix, OtherFeature)
		}
		all = append(all, feature{name: name, prefix: strings.TrimSuffix(prefix, "/")})
	}
	slices.SortFunc(all, func(a, b feature) int {
		if d := len(b.prefix) - len(a.prefix); d != 0 {
			return d
		}
		return strings.Compare(a.name, b.name)
	})
	return all, nil
}

// featureOf is the slot of a path's feature.
func featureOf(features []feature, path string) int {
	for _, f := range features {
		if rest, ok := strings.CutPrefix(path, f.prefix); ok && (rest == "" || rest[0] == '/') {
			return f.slot
		}
	}
	return otherSlot
}
