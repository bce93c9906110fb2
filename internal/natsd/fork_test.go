package natsd_test

import (
	"testing"

	"github.com/lemnis/lemnis/internal/natsd"
)

// The identity is the stream's own up to the first place at which it was taken up again, and never an earlier one behind it.
func TestForks(t *testing.T) {
	var none natsd.Forks
	first := none.Add(100)
	second := first.Add(250)
	read, err := natsd.ParseForks(second.String())
	if err != nil || len(read) != 2 || read[0] != second[0] || read[1] != second[1] {
		t.Fatalf("%v became %v: %v", second, read, err)
	}
	own, a, b := "s", "s."+second[0].Name, "s."+second[1].Name
	for sequence, want := range map[uint64]string{1: own, 100: own, 101: a, 250: a, 251: b, 9999: b} {
		if got := read.Identity("s", sequence); got != want {
			t.Errorf("%d: %s, want %s", sequence, got, want)
		}
	}
	if a == b || none.Identity("s", 5) != own {
		t.Errorf("%s, %s, %s", a, b, none.Identity("s", 5))
	}
	for _, text := range []string{"x", "12", "12-", "-ab", "12-ab,,13-cd"} {
		if _, err := natsd.ParseForks(text); err == nil {
			t.Errorf("%q was read", text)
		}
	}
}
