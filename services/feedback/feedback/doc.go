// Package feedback decides whether a piece of feedback is taken. One aggregate a piece.
package feedback

// Kind names the aggregate.
const Kind = "feedback"

// Version of the fold.
const Version = 1

// State is what is known of a piece of feedback.
type State struct {
	Received bool `json:"received"`
}
