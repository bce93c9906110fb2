package events_test

import (
	"testing"

	"github.com/lemnis/lemnis/pkg/events"
)

// Encoding and decoding may not come to cost more than they do: the bounds are a few above what they take.
func TestAllocations(t *testing.T) {
	e := smallFact()
	m, err := events.Encode(e)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		most float64
		do   func() error
	}{
		"encode": {12, func() error { _, err := events.Encode(e); return err }},
		"decode": {33, func() error { _, err := events.Decode(m.Header, m.Data); return err }},
	} {
		t.Run(name, func(t *testing.T) {
			got := testing.AllocsPerRun(1000, func() {
				if err := test.do(); err != nil {
					t.Fatal(err)
				}
			})
			if got > test.most {
				t.Errorf("%v allocations, want %v at most", got, test.most)
			}
		})
	}
}
