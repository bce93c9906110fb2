package canary

import (
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
)

// steadyHour is a history with φ = 1: enough errors, evenly spread.
func steadyHour() []Minute {
	minutes := make([]Minute, 60)
	for i := range minutes {
		minutes[i] = Minute{1000, int64(1 + i%2)}
	}
	return minutes
}

func observe(s State, ticks ...Tick) State {
	for _, t := range ticks {
		s = s.Observe(t)
	}
	return s
}

func TestVerdict(t *testing.T) {
	for _, test := range []struct {
		name    string
		state   State
		policy  Policy
		elapsed time.Duration
		outcome Outcome
		needed  bool
		reason  string
	}{
		{"nothing yet", State{}, Policy{}, 0, Hold, true, "no request has reached the canary"},
		{"no traffic at the deadline", State{}, Policy{}, 2 * time.Hour, Hold, true, "too little traffic"},
		{"every request fails",
			observe(State{}, Tick{CanaryRequests: 10, CanaryErrors: 10, BaselineRequests: 90, Weight: 0.1}),
			Policy{}, time.Minute, Rollback, false, "is worse reaches 100"},
		{"both fail alike",
			observe(State{}, Tick{CanaryRequests: 100, CanaryErrors: 50, BaselineRequests: 900, BaselineErrors: 450, Weight: 0.1}),
			Policy{}, time.Minute, Hold, true, "waits until 25 %"},
		{"no errors, enough requests for the floor",
			observe(Start(steadyHour()), Tick{CanaryRequests: 12000, BaselineRequests: 12000, Weight: 0.5}),
			Policy{}, time.Minute, Promote, false, "not twice as bad"},
		{"the same below the weight",
			observe(Start(steadyHour()), Tick{CanaryRequests: 12000, BaselineRequests: 90000, Weight: 0.1}),
			Policy{}, time.Minute, Hold, true, "waits until 25 %"},
		{"a higher floor needs fewer requests",
			observe(State{}, Tick{CanaryRequests: 1200, BaselineRequests: 1200, Weight: 0.5}),
			Policy{Floor: 0.01}, time.Minute, Promote, false, ""},
		{"some evidence at the deadline",
			observe(Start(steadyHour()), Tick{CanaryRequests: 3000, CanaryErrors: 13, BaselineRequests: 3000, BaselineErrors: 3, Weight: 0.5}),
			Policy{}, time.Hour, Hold, true, "until 2h0m0s it has to show that it is not twice as bad"},
		{"the same evidence when that has passed",
			observe(Start(steadyHour()), Tick{CanaryRequests: 3000, CanaryErrors: 13, BaselineRequests: 3000, BaselineErrors: 3, Weight: 0.5}).Extend(),
			Policy{}, 2 * time.Hour, Rollback, false, "after the deadline of 1h0m0s and as long again"},
		{"no evidence any more, but that it is well is not shown",
			observe(Start(steadyHour()), Tick{CanaryRequests: 3000, CanaryErrors: 3, BaselineRequests: 3000, BaselineErrors: 3, Weight: 0.5}).Extend(),
			Policy{}, 61 * time.Minute, Hold, true, "has to show"},
		{"no evidence when it has passed",
			observe(Start(steadyHour()), Tick{CanaryRequests: 3000, CanaryErrors: 3, BaselineRequests: 3000, BaselineErrors: 3, Weight: 0.5}).Extend(),
			Policy{}, 2 * time.Hour, Promote, false, "at the deadline of 1h0m0s"},
		{"a guard's evidence at the deadline",
			observe(Start(steadyHour()), Tick{CanaryRequests: 300, BaselineRequests: 300, Weight: 0.5, Guards: []Guard{{Name: "orders lost", Canary: Minute{300, 16}, Baseline: Minute{300, 3}}}}),
			Policy{}, time.Hour, Hold, true, "has to show"},
		{"no evidence at the deadline",
			observe(Start(steadyHour()), Tick{CanaryRequests: 3000, CanaryErrors: 3, BaselineRequests: 3000, BaselineErrors: 3, Weight: 0.5}),
			Policy{}, time.Hour, Promote, false, "at the deadline of 1h0m0s"},
		{"the same before it",
			observe(Start(steadyHour()), Tick{CanaryRequests: 3000, CanaryErrors: 3, BaselineRequests: 3000, BaselineErrors: 3, Weight: 0.5}),
			Policy{}, 59 * time.Minute, Hold, true, "undecided"},
		{"too little traffic at the deadline",
			observe(Start(steadyHour()), Tick{CanaryRequests: 40, BaselineRequests: 400, Weight: 0.1}),
			Policy{}, time.Hour, Hold, true, "too little traffic"},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := test.state.Verdict(test.policy, test.elapsed)
			if v.Outcome != test.outcome || (v.Needed > 0) != test.needed && v.Outcome != Hold {
				t.Errorf("got %+v", v)
			}
			if !strings.Contains(v.Reason, test.reason) {
				t.Errorf("reason %q", v.Reason)
			}
			if v.Exposed != test.state.Canary.Requests {
				t.Errorf("exposed %d of %d", v.Exposed, test.state.Canary.Requests)
			}
		})
	}
}

func TestNeededIsWhatADecisionTakes(t *testing.T) {
	s := Start(steadyHour())
	needed := s.Verdict(Policy{}, time.Minute).Needed
	s = s.Observe(Tick{CanaryRequests: needed, BaselineRequests: needed, Weight: 0.5})
	if v := s.Verdict(Policy{}, time.Minute); v.Outcome != Promote {
		t.Errorf("after the %d requests said to be needed: %+v", needed, v)
	}
	late := Start(steadyHour()).Observe(Tick{CanaryRequests: 10, BaselineRequests: 90, Weight: 0.1})
	unseen := late.Verdict(Policy{}, time.Hour).Needed
	late = late.Observe(Tick{CanaryRequests: unseen, BaselineRequests: 9 * unseen, Weight: 0.1})
	if v := late.Verdict(Policy{}, time.Hour); v.Outcome != Promote {
		t.Errorf("at the deadline, after the %d requests said to be needed: %+v", unseen, v)
	}
}

func TestObserveIsTotalAndLeavesTheStateAlone(t *testing.T) {
	for _, tick := range []Tick{
		{}, {CanaryRequests: -5, CanaryErrors: -7}, {CanaryRequests: 3, CanaryErrors: 9, BaselineRequests: 1, BaselineErrors: 4},
		{CanaryRequests: 1 << 50, CanaryErrors: 1 << 50, BaselineRequests: 1 << 50, Weight: 0.5, Span: time.Minute},
		{BaselineRequests: 100, BaselineErrors: 100, Span: time.Hour}, {CanaryRequests: 5, CanaryErrors: 5, Weight: 1},
		{CanaryRequests: 5, BaselineRequests: 5, Weight: math.Inf(1)},
	} {
		before := Start([]Minute{{10, 1}, {10, 2}})
		after := before.Observe(tick).Observe(tick)
		if !reflect.DeepEqual(before, Start([]Minute{{10, 1}, {10, 2}})) {
			t.Errorf("%+v changed the state that it was observed on", tick)
		}
		for _, elapsed := range []time.Duration{0, time.Hour} {
			v := after.Verdict(Policy{}, elapsed)
			if _, err := json.Marshal(v); err != nil {
				t.Errorf("%+v: %v", tick, err)
			}
		}
		if w := Ramp(after, Policy{}); !(w >= 0.01 && w <= MaxWeight) {
			t.Errorf("%+v: weight %v", tick, w)
		}
	}
}

func TestStateSurvivesJSON(t *testing.T) {
	s := observe(Start(steadyHour()[:5]), Tick{CanaryRequests: 100, CanaryErrors: 3, BaselineRequests: 900, BaselineErrors: 1, Weight: 0.1, Span: 40 * time.Second},
		Tick{CanaryRequests: 70, CanaryErrors: 1, BaselineRequests: 630, BaselineErrors: 2, Weight: 0.1, Span: 40 * time.Second})
	body, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var back State
	if err := json.Unmarshal(body, &back); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(s, back) {
		t.Errorf("%+v\nbecame\n%+v", s, back)
	}
	if len(s.Minutes) != 6 || s.Minutes[5] != (Minute{1530, 3}) {
		t.Errorf("the two ticks of 40 s are one minute: %+v", s.Minutes)
	}
}

func TestDispersion(t *testing.T) {
	bursts := make([]Minute, 60)
	for i := range bursts {
		bursts[i] = Minute{1000, int64(i % 2 * 20)}
	}
	for _, test := range []struct {
		name      string
		history   []Minute
		low, high float64
	}{
		{"none", nil, 2, 2},
		{"no errors seen", []Minute{{100, 0}, {100, 0}, {100, 0}}, 2, 2},
		{"even", steadyHour(), 1, 1},
		{"few errors leave the prior most of its weight", []Minute{{1000, 1}, {1000, 0}, {1000, 1}, {1000, 1}}, 1.8, 2},
		{"bursts", bursts, 9, 11},
		{"idle minutes count nothing", append(steadyHour()[:40], make([]Minute, 20)...), 1, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			if phi := Start(test.history).Dispersion(); phi < test.low || phi > test.high {
				t.Errorf("φ = %g", phi)
			}
		})
	}
	s := Start(steadyHour())
	if got := s.Observe(Tick{BaselineRequests: 1000, BaselineErrors: 900, Span: time.Minute}).Dispersion(); got != 1 {
		t.Errorf("an outage during the rollout inflated φ to %g", got)
	}
}

func TestRampSpendsTheBudget(t *testing.T) {
	if w := Ramp(State{}, Policy{}); w != 0.01 {
		t.Errorf("starts at %g", w)
	}
	last := 0.0
	s := Start(steadyHour())
	for range 20 {
		s = s.Observe(Tick{CanaryRequests: 100, BaselineRequests: 900, Weight: 0.1})
		w := Ramp(s, Policy{})
		if w < last {
			t.Errorf("without errors the weight fell from %g to %g", last, w)
		}
		last = w
	}
	if last < 0.3 {
		t.Errorf("after 2,000 clean requests the weight is %g", last)
	}
	if w := Ramp(s.Observe(Tick{CanaryRequests: 100, CanaryErrors: 50, BaselineRequests: 900}), Policy{}); w >= last/2 {
		t.Errorf("errors leave the weight at %g", w)
	}
	if w := Ramp(s, Policy{MinWeight: 0.2, MaxWeight: 0.25}); w != 0.25 {
		t.Errorf("limit ignored: %g", w)
	}
}

func TestUpperBoundCovers(t *testing.T) {
	// Solved apart for 0 of n: ln B(½, n+½)/B(½,½) − n ln(1−p) = ln 20.
	for _, n := range []float64{10, 100, 1000} {
		p := upperBound(0, n)
		if got := logBeta(0.5, n+0.5) - logBeta(0.5, 0.5) - n*math.Log1p(-p); math.Abs(got-math.Log(20)) > 1e-9 {
			t.Errorf("0 of %g: %g gives %g", n, p, got)
		}
	}
	if upperBound(0, 0) != 1 || upperBound(5, 5) != 1 {
		t.Error("no data and only errors allow a rate of 1")
	}
}

// A canary that is nearly proven to be worse gets no more users, however much budget is left; its share may still fall.
func TestRampStopsWhileTheCanaryIsSuspect(t *testing.T) {
	p := Policy{SLO: 0.9}
	tick := Tick{CanaryRequests: 600, CanaryErrors: 6, BaselineRequests: 5400, BaselineErrors: 5, Weight: 0.1}
	s := Start(nil)
	for before := s; ; before = s {
		s = s.Observe(tick)
		evidence, weight := s.rollbackEvidence(p), Ramp(s, p)
		if evidence >= suspicion {
			if weight != 0.1 {
				t.Errorf("weight %v at evidence %.3g, not what it was", weight, evidence)
			}
			if w := Ramp(before, p); w <= 0.1 {
				t.Errorf("weight %v before: it would not have risen", w)
			}
			break
		}
	}
	if w := Ramp(s, Policy{SLO: 0.9999}); w >= 0.1 {
		t.Errorf("weight %v without a budget, and does not fall", w)
	}
	s.Weight = 0 // not known
	if w := Ramp(s, p); w <= 0.1 {
		t.Errorf("weight %v is held, of none that is known", w)
	}
}
