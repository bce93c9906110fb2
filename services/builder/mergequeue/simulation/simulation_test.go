package simulation

import "testing"

// No policy may merge a change that breaks main, and no good change is ejected for a flaky test that is run again.
func TestMainIsNeverRed(t *testing.T) {
	policies := map[string]func() policy{
		"serial": func() policy { return &serial{} }, "bors": func() policy { return &bors{} }, "zuul": func() policy { return &zuul{} },
		"tree": func() policy { return &tree{} }, "lanes": func() policy { return newLanes() },
	}
	for _, row := range [][2]float64{{0.05, 2}, {0.1, 4}, {0.2, 8}} {
		for name, begin := range policies {
			s := Setting{Changes: 300, Slots: 8, Failure: row[0], Arrivals: row[1], Overlap: 0.05, Conflict: 0.005, Seed: 1}
			got := run(s, begin(), false)
			t.Logf("%-6s failure %.2f, arrivals %2.0f: %.2f / %.2f", name, row[0], row[1], got.Mean(), got.Cost())
			if got.Red > 0 || got.Innocents > 0 && name == "lanes" {
				t.Errorf("%s at %v: %d merges broke main, %d innocents were rejected", name, row, got.Red, got.Innocents)
			}
			if name != "lanes" {
				continue
			}
			s.Confirm = 1
			if whole := run(s, newWhole(s), false); whole.Red > 0 || whole.Innocents > 0 {
				t.Errorf("with confirmations at %v: %d merges broke main, %d innocents were rejected", row, whole.Red, whole.Innocents)
			}
			s.Flaky = 0.02
			if got = run(s, begin(), true); got.Red > 0 || got.Innocents > 0 {
				t.Errorf("with flaky tests at %v: %d merges broke main, %d innocents were rejected", row, got.Red, got.Innocents)
			}
			if without := run(s, begin(), false); without.Innocents == 0 {
				t.Errorf("at %v no flaky test hurts anybody without reruns: the row proves nothing", row)
			}
		}
	}
}
