package lap

import (
	"context"
	"net/http"

	"github.com/lemnis/lemnis/pkg/events"
)

// Subject is what the lap is turned on.
type Subject struct {
	// Project is its configuration, with one repository that Service names. The lap adds the on-call rota.
	Project events.Project
	Service string
	Feature string // that the feedback is about; may be empty
	// Feedback is what users say, at least as many as the project's policy asks for.
	Feedback []Voice
	// Wish is what a stakeholder asks for beside it.
	Wish string
	// Good answers the feedback; Bad answers the wish, passes its tests and fails under traffic.
	Good, Bad Change
	// Visit is the n-th request of the users of the service at base, with the header X-User.
	Visit func(ctx context.Context, n uint64, base string) (*http.Request, error)
	// Break makes the artifact with this digest fail in the last environment; nil when Bad is bad by itself.
	Break func(environment, digest string)
}

// Voice is one user's feedback.
type Voice struct {
	User, Text string
	Rating     float64
}

// Change is a branch that is proposed.
type Change struct {
	ID, Branch, Head, Title, Author string
}
