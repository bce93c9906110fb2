package events

import "strings"

const (
	// LocalPrincipal is everybody, where nobody is authenticated.
	LocalPrincipal = "local"
	// WebhookPrefix begins the principals of webhooks, as in "webhook-github".
	WebhookPrefix = "webhook-"
)

// SpeaksForOthers reports whether a principal's word on who did something counts: nobody is authenticated, or the system
// that sent a webhook has authenticated the person. Any other principal speaks for itself.
func SpeaksForOthers(principal string) bool {
	return principal == "" || principal == LocalPrincipal || strings.HasPrefix(principal, WebhookPrefix)
}

// Actor is who did what the event says: its principal, or, where that speaks for others, whoever the content names.
func (e Event) Actor(named string) string {
	if named = strings.TrimSpace(named); named != "" && SpeaksForOthers(e.Principal) {
		return named
	}
	return e.Principal
}

// ReservedPrincipal reports whether a name means more than one that somebody could be given.
func ReservedPrincipal(name string) bool {
	return name == LocalPrincipal || name == Builtin || name == "lemnis" || strings.HasPrefix(name, WebhookPrefix)
}
