// Package configuration decides which configuration of a project is in force. One aggregate a project; each accepted
// claim is a new revision.
package configuration

// Kind names the aggregate.
const Kind = "project"

// Version of the fold.
const Version = 1

// State is what is known of a project's configuration.
type State struct {
	Revision uint64 `json:"revision"` // in force; 0 is the default one
}
