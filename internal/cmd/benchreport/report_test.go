package main

import (
	"strings"
	"testing"
)

func TestReport(t *testing.T) {
	table := []goal{
		{"speed", "Decide/throughput", "ratio", "of plain", true, 0.7},
		{"memory", "Start", "idle-MiB", "MiB", false, 100},
	}
	const whole = "goos: linux\nBenchmarkDecide/throughput-2   1   0 ns/op   0.60 ratio\nBenchmarkDecide/throughput-2   1   0 ns/op   0.80 ratio\n" +
		"BenchmarkDecide/throughput-2   1   0 ns/op   0.72 ratio\nBenchmarkStart   \t       1\t         0 ns/op\t        52.00 idle-MiB\nPASS\n"
	for _, test := range []struct {
		name, in string
		ok       bool
		want     []string
	}{
		{"met", whole, true, []string{"goos: linux\n", "speed    0.72      at least 0.7 of plain  met\n", "memory   52        at most 100 MiB        met\n", "2 of 2 goals met, 0 not measured"}},
		{"not met", strings.ReplaceAll(whole, "52.00", "152.5"), true, []string{"152       at most 100 MiB        NOT MET\n", "1 of 2 goals met"}},
		{"missing", "BenchmarkStart-2 1 52.00 idle-MiB\n", false, []string{"speed    –", "NOT MEASURED", "1 not measured"}},
		{"failed", whole + "--- FAIL: BenchmarkOther\nFAIL\n", false, []string{"2 of 2 goals met"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out strings.Builder
			r := newReport(&out, table)
			if err := r.read(strings.NewReader(test.in)); err != nil {
				t.Fatal(err)
			}
			if ok := r.close(); ok != test.ok {
				t.Errorf("close() = %v, want %v", ok, test.ok)
			}
			for _, w := range test.want {
				if !strings.Contains(out.String(), w) {
					t.Errorf("%q is missing", w)
				}
			}
			if t.Failed() {
				t.Log(out.String())
			}
		})
	}
}
