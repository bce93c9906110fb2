package simulation

import "math"

func steady(canary, baseline Behaviour) func(int, float64) (Behaviour, Behaviour, int64) {
	return func(int, float64) (Behaviour, Behaviour, int64) { return canary, baseline, 0 }
}

func errors(share float64) Behaviour { return Behaviour{Errors: share} }

func outage(minute int, _ float64) (canary, baseline Behaviour, requests int64) {
	if minute >= 5 && minute < 15 {
		return errors(0.1), errors(0.1), 0
	}
	return errors(0.001), errors(0.001), 0
}

// wave is a day: traffic, errors and latency go up and down by half, from any hour on.
func wave(minute int, at float64) (canary, baseline Behaviour, requests int64) {
	swing := 0.5 * math.Sin(2*math.Pi*(float64(minute)/(24*60)+at))
	b := Behaviour{Errors: 0.001 * (1 + swing), Slower: math.Round(100*(1+swing/2)) / 100}
	return b, b, int64(perMinute * (1 + swing))
}

// cold is a version whose first minutes are slow and full of errors, as any new process's are.
func cold(minute int) Behaviour {
	if minute < 0 {
		return errors(0.001)
	}
	heat := math.Exp(-float64(minute) / 1.5)
	return Behaviour{Errors: 0.001 + 0.02*heat, Slower: math.Round(100*(1+heat)) / 100}
}

func clustered(share float64) Behaviour { return Behaviour{Errors: share, Cluster: true} }

// Row of the table: a scenario, and what the method page says that the sequential test reaches: the share that is rolled
// back and the mean of exposed requests; zero where it names none.
type Row struct {
	Scenario
	RolledBack float64
	Exposed    float64
	// Same says that the versions are the same: rolling back is wrong.
	Same bool
	// Most is the largest share of false rollbacks; 0 where RolledBack says it.
	Most float64
	// Runs are how many it takes to tell a share that small from the next; 0: as many as the other rows.
	Runs int
}

// Rows of the page, in its order.
func Rows() []Row {
	good := errors(0.001)
	return []Row{
		{Scenario: Scenario{Name: "same version, 0.1 %", At: steady(good, good)}, RolledBack: 0.0015, Same: true, Runs: 100_000},
		{Scenario: Scenario{Name: "same, shared outage", At: outage}, RolledBack: 0.001, Same: true, Runs: 20_000},
		{Scenario: Scenario{Name: "0.1 → 0.2 %", At: steady(errors(0.002), good)}, RolledBack: 0.991, Exposed: 44000, Runs: 20_000},
		{Scenario: Scenario{Name: "0.1 → 0.5 %", At: steady(errors(0.005), good)}, RolledBack: 1, Exposed: 2900, Runs: 20_000},
		{Scenario: Scenario{Name: "0.1 → 1 %", At: steady(errors(0.01), good)}, RolledBack: 1, Exposed: 831, Runs: 20_000},
		{Scenario: Scenario{Name: "0.1 → 5 %", At: steady(errors(0.05), good)}, RolledBack: 1, Exposed: 106},
		{Scenario: Scenario{Name: "latency +10 %", At: steady(Behaviour{Errors: 0.001, Slower: 1.1}, good)}, RolledBack: 1, Exposed: 1100},
		{Scenario: Scenario{Name: "latency +30 %", At: steady(Behaviour{Errors: 0.001, Slower: 1.3}, good)}, RolledBack: 1, Exposed: 180},
	}
}

// HardRows are versions that are the same under conditions that fool a test, and what that costs in power.
func HardRows() []Row {
	same := clustered(0.001)
	chill := func(minute int, _ float64) (Behaviour, Behaviour, int64) { return cold(minute), cold(minute), 0 }
	lone := func(minute int, _ float64) (Behaviour, Behaviour, int64) { return cold(minute), errors(0.001), 0 }
	return []Row{
		{Scenario: Scenario{Name: "same, errors clustered ×5", At: steady(same, same)}, Same: true, Most: 0.01},
		{Scenario: Scenario{Name: "the same, no hour before", At: steady(same, same), Unknown: true}, Same: true, Most: 1},
		{Scenario: Scenario{Name: "same, shared outage", At: outage}, Same: true, Most: 0.01},
		{Scenario: Scenario{Name: "same, daily wave", At: wave}, Same: true, Most: 0.01},
		{Scenario: Scenario{Name: "same, cold start, fresh baseline", At: chill, Fresh: true}, Same: true, Most: 0.01},
		{Scenario: Scenario{Name: "same, cold start, warm baseline", At: lone}, Same: true, Most: 1},
		{Scenario: Scenario{Name: "0.1 → 0.2 %, clustered ×5", At: steady(clustered(0.002), same)}},
		{Scenario: Scenario{Name: "0.1 → 0.2 %, fresh baseline", At: steady(errors(0.002), errors(0.001)), Fresh: true}},
		{Scenario: Scenario{Name: "0.1 → 1 %, fresh baseline", At: steady(errors(0.01), errors(0.001)), Fresh: true}},
		{Scenario: Scenario{Name: "0.1 → 5 %, fresh baseline", At: steady(errors(0.05), errors(0.001)), Fresh: true}},
		{Scenario: Scenario{Name: "latency +10 %, fresh baseline", At: steady(Behaviour{Errors: 0.001, Slower: 1.1}, errors(0.001)), Fresh: true}},
	}
}
