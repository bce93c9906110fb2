//go:build linux

package runtimetest

import (
	"strings"
	"testing"

	"github.com/lemnis/lemnis/pkg/events"
)

const exposition = `# HELP payments_total Payments.
# TYPE payments_total counter
payments_total{outcome="ok",method="card, \"gold\""} 90 1700000000000
payments_total{outcome="failed",method="card"} 7
payments_total{ outcome = "failed" , method="cash",} 3.0
payments_totals 1000
orders_total 12
broken_total{outcome="x
odd_total NaN
`

func TestCountersOfAService(t *testing.T) {
	for _, test := range []struct {
		counter events.Counter
		want    int64
		reason  string
	}{
		{"payments_total", 100, ""},
		{`payments_total{outcome="failed"}`, 10, ""},
		{`payments_total{outcome="failed",method="cash"}`, 3, ""},
		{`payments_total{outcome="refunded"}`, 0, ""}, // it may come yet
		{"orders_total", 12, ""},
		{"order_total", 0, "no order_total is there"},
		{"broken_total", 0, "no broken_total is there"},
		{"odd_total", 0, "no odd_total is there"},
	} {
		found, err := sums(strings.NewReader(exposition), []events.Counter{test.counter})
		if test.reason != "" {
			if err == nil || err.Error() != test.reason {
				t.Errorf("%s: %v", test.counter, err)
			}
		} else if err != nil || found[test.counter] != test.want {
			t.Errorf("%s: %v, %v", test.counter, found, err)
		}
	}
}

func FuzzCounters(f *testing.F) {
	f.Add(exposition, `payments_total{outcome="failed"}`)
	f.Fuzz(func(t *testing.T, text, counter string) {
		found, err := sums(strings.NewReader(text), []events.Counter{events.Counter(counter)})
		if err == nil && (len(found) != 1 || found[events.Counter(counter)] < 0) {
			t.Errorf("%v", found)
		}
	})
}
