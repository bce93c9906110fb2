package small

import "strings"

// Kind is what becomes of a change.
type Kind string

// The kinds of changes.
const (
	Good    Kind = "good"    // it comes to all users
	Red     Kind = "red"     // its pipeline fails
	Low     Kind = "low"     // its tests cover too little for the gate of the second environment
	Refused Kind = "refused" // a person does not let it into the last environment
	Bad     Kind = "bad"     // its canary fails in the last environment, and it is taken back
)

// Title is how a change of a kind is called.
func (k Kind) Title(change string) string { return string(k) + ": " + change }

// kindOf reads it back; what the repository held at first is good.
func kindOf(title string) Kind {
	kind, _, ok := strings.Cut(title, ": ")
	if !ok {
		return Good
	}
	return Kind(kind)
}

// Coverage that the tests of a kind reach, in percent.
func (k Kind) coverage() float64 {
	if k == Low {
		return 40
	}
	return 90
}
