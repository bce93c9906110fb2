package canary

import (
	"math"
	"time"
)

// MaxWeight is the largest share of users that a canary gets before its promotion. Of two versions at half and half a request
// tells less than where the baseline has more of them (docs/adr/0019-weight.md).
const MaxWeight = 0.4

// Policy holds what the user may choose. A zero field takes the default that its comment names.
type Policy struct {
	Alpha float64 `json:"alpha,omitempty"` // probability of rolling back a version that is no worse; 0.01
	Beta  float64 `json:"beta,omitempty"`  // probability of promoting one that is twice as bad; 0.05
	// Floor is the error rate below which the ratio to the baseline does not matter; 0.0005. A service with little traffic
	// wants it higher: to show it takes about ln(2·4/Beta)·φ/Floor requests without an error.
	Floor float64 `json:"floor,omitempty"`
	// Regression is the rise of the error rate (a difference) that must have had its chance to be seen before a deadline
	// promotes; 0.01.
	Regression float64 `json:"regression,omitempty"`
	// PromoteWeight is the least share of users that must see the canary before it is promoted; 0.25.
	PromoteWeight float64 `json:"promoteWeight,omitempty"`
	// Tolerance is how much slower the canary may be: 0.1 is a tenth. At 0 any slow-down that is proved rolls back, also
	// one that harms nobody; 0.
	Tolerance float64 `json:"tolerance,omitempty"`
	// ErrorsAlone leaves latency out of the verdict where it is counted: without a fresh baseline beside the canary a new
	// process is compared with a warm one.
	ErrorsAlone bool `json:"errorsAlone,omitempty"`
	// Equal says that the baseline serves as many users as the canary; else it serves all others.
	Equal bool `json:"equal,omitempty"`

	Deadline time.Duration `json:"deadline,omitempty"` // 60 min
	// DeadlineEvidence is the evidence against the canary from which the deadline does not promote: it gets as much time again,
	// and is rolled back when that ends with as much; 4.
	DeadlineEvidence float64 `json:"deadlineEvidence,omitempty"`
	SLO              float64 `json:"slo,omitempty"`   // the promised share of good requests; 0.999
	Kappa            float64 `json:"kappa,omitempty"` // how many times the budget the ramp may burn at worst; 2
	MinWeight        float64 `json:"minWeight,omitempty"`
	MaxWeight        float64 `json:"maxWeight,omitempty"` // 0.01 to 0.4
}

func (p Policy) withDefaults() Policy {
	or := func(field *float64, value float64) {
		if *field <= 0 {
			*field = value
		}
	}
	or(&p.Alpha, 0.01)
	or(&p.Beta, 0.05)
	or(&p.Floor, 0.0005)
	or(&p.Regression, 0.01)
	or(&p.PromoteWeight, 0.25)
	or(&p.DeadlineEvidence, 4)
	or(&p.SLO, 0.999)
	or(&p.Kappa, 2)
	or(&p.MinWeight, 0.01)
	or(&p.MaxWeight, MaxWeight)
	if !(p.Tolerance >= 0 && p.Tolerance <= 100) { // nor NaN
		p.Tolerance = 0
	}
	if p.Deadline <= 0 {
		p.Deadline = time.Hour
	}
	p.Deadline = min(p.Deadline, math.MaxInt64/(2*Deadlines))
	return p
}

// shift of mean log latency that a promotion has to exclude.
func (p Policy) shift() float64 { return math.Log1p(p.Tolerance) + worthAShift }

// timed says whether latency is a part of the verdict.
func (s State) timed(p Policy) bool { return !p.ErrorsAlone && s.Latency.known() }
