// Package health keeps, for each service and feature in each environment, whether it is well: probes tell often, a fact
// is stated when that changes.
package health

// Kind names the aggregate; its key is [Key].
const Kind = "health"

// Version of the fold.
const Version = 1

// State is the last status stated; empty before the first.
type State struct {
	Status string `json:"status,omitempty"`
}

// Key of a service in an environment, or of a feature of it.
func Key(environment, service, feature string) string {
	if feature == "" {
		return environment + "/" + service
	}
	return environment + "/" + service + "/" + feature
}
