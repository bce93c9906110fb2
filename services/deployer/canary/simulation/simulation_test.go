package simulation

import (
	"math"
	"math/rand/v2"
	"testing"
)

// The short form of `make bench-deployer`.
func TestTheCanaryTestReachesItsFigures(t *testing.T) {
	for i, r := range append(Rows(), HardRows()...) {
		if r.Same && r.Most == 1 || !r.Same && r.RolledBack == 0 {
			continue // these are printed, and nothing is asked of them
		}
		t.Run(r.Name, func(t *testing.T) {
			tally := Run(uint64(i)+100, 150, r.Scenario, func() Judge { return &Sequential{} })
			t.Logf("%+v", tally)
			// So few runs get the room of three standard errors: of 150, five false ones are what 1 % makes once in 60.
			exposed := r.Exposed == 0 || tally.Exposed <= 1.05*r.Exposed+3*tally.Error
			if r.Same && tally.RolledBack > 5 || !r.Same && (tally.Share() < r.RolledBack-0.025 || !exposed) {
				t.Errorf("rolled back %.1f %%, exposed %.0f ± %.0f; asked for %v, %v", 100*tally.Share(), tally.Exposed, tally.Error, r.RolledBack, r.Exposed)
			}
			if i == 0 && (tally.Promoted() < 0.96 || tally.MedianToPromote > 16) {
				t.Errorf("promoted %.1f %%, median %d min", 100*tally.Promoted(), tally.MedianToPromote)
			}
		})
	}
}

// What fixed maxima can not do: tell an outage of both versions from a bad canary, and see a doubled error rate.
func TestPeersAreModelledByTheirRules(t *testing.T) {
	rows := Rows()
	flagger := func() Judge { return &Threshold{Failures: 5} }
	if tally := Run(1, 50, rows[2].Scenario, flagger); tally.RolledBack > 0 {
		t.Errorf("below its maxima Flagger rolls nothing back: %+v", tally)
	}
	if tally := Run(1, 50, rows[5].Scenario, flagger); tally.RolledBack != 50 || tally.Exposed != 3000 {
		t.Errorf("five checks at a tenth of the users: %+v", tally)
	}
	if tally := Run(1, 50, rows[5].Scenario, func() Judge { return &Threshold{Failures: 1} }); tally.Exposed != 600 {
		t.Errorf("one check at a tenth of the users: %+v", tally)
	}
	if tally := Run(1, 50, rows[0].Scenario, func() Judge { return &Kayenta{} }); tally.MedianToPromote != 60 {
		t.Errorf("an hour: %+v", tally)
	}
}

func TestBinomial(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct {
		n int64
		p float64
	}{{1, 0.3}, {60, 0.05}, {6000, 0.001}, {6000, 0.3}, {1 << 40, 0.7}, {100, 0.5}, {50, 1}, {50, 0}, {0, 0.5}} {
		const draws = 20000
		var sum, squares float64
		for range draws {
			k := float64(binomial(rng, c.n, c.p))
			if k < 0 || k > float64(c.n) {
				t.Fatalf("%v of %d", k, c.n)
			}
			d := k - float64(c.n)*c.p
			sum += d
			squares += d * d
		}
		variance := float64(c.n) * c.p * (1 - c.p)
		if mean := sum / draws; math.Abs(mean) > 4.5*math.Sqrt(variance/draws)+1e-9 {
			t.Errorf("%d at %v: the mean is %v off", c.n, c.p, mean)
		}
		if got := squares / draws; math.Abs(got-variance) > 0.08*variance+1e-9 {
			t.Errorf("%d at %v: variance %v, not %v", c.n, c.p, got, variance)
		}
	}
}
