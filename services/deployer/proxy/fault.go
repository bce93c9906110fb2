package proxy

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
)

// FaultHeader marks an answer that a Fault made up.
const FaultHeader = "X-Lemnis-Fault"

// Fault makes a share of a version's requests fail with 503 before they reach it: for demonstrations and drills. It is
// listed in each Snapshot, logged, and each answer carries FaultHeader.
type Fault struct {
	Version   string  `json:"version"`
	ErrorRate float64 `json:"errorRate"` // 0 to 1; 0 ends the fault
}

// SetFault starts, changes or ends the fault of a version.
func (f *Front) SetFault(fault Fault) error {
	if !(fault.ErrorRate >= 0 && fault.ErrorRate <= 1) {
		return fmt.Errorf("error rate %v is not within 0 and 1", fault.ErrorRate)
	}
	f.faults.set(fault)
	f.config.Log("fault set", "environment", f.config.Environment, "service", f.config.Service,
		"version", fault.Version, "errorRate", fault.ErrorRate)
	return nil
}

// faults are those in force.
type faults struct {
	mu    sync.RWMutex
	rates map[string]float64
}

func (f *faults) set(fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	rates := maps.Clone(f.rates)
	if rates == nil {
		rates = map[string]float64{}
	}
	delete(rates, fault.Version)
	if fault.ErrorRate > 0 {
		rates[fault.Version] = fault.ErrorRate
	}
	f.rates = rates
}

func (f *faults) list() []Fault {
	f.mu.RLock()
	defer f.mu.RUnlock()
	var all []Fault
	for _, name := range slices.Sorted(maps.Keys(f.rates)) {
		all = append(all, Fault{name, f.rates[name]})
	}
	return all
}

// at reports whether requests to a version may have to fail.
func (f *faults) at(version string) bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.rates[version] > 0
}

// hit reports whether a request to a version is to fail.
func (f *faults) hit(version string) bool {
	f.mu.RLock()
	rate := f.rates[version]
	f.mu.RUnlock()
	return rate > 0 && rand.Float64() < rate //nolint:gosec // which requests fail is no secret
}
