package access

import (
	"context"
	"fmt"
	"slices"

	"github.com/lemnis/lemnis/pkg/events"
)

// Identity is somebody who was authenticated, and what they may do.
type Identity struct {
	Principal string
	Scopes    []Scope
}

// DeniedError says that somebody may not do what they asked for, and which scope would let them.
type DeniedError struct {
	Principal string
	Need      Scope
}

// Error names the scope.
func (e *DeniedError) Error() string {
	return fmt.Sprintf("%s may not do this: it needs the scope %s", e.Principal, e.Need)
}

// May is nil when one of the scopes covers the need, else a [*DeniedError].
func (i Identity) May(need Scope) error {
	if slices.ContainsFunc(i.Scopes, func(s Scope) bool { return s.covers(need) }) {
		return nil
	}
	return &DeniedError{Principal: i.Principal, Need: need}
}

// MayRead reports whether the project may be read.
func (i Identity) MayRead(project string) bool { return i.May(Need(Read, "", project)) == nil }

// Everybody is whoever asks where nobody is authenticated: this machine's own people.
func Everybody() Identity {
	return Identity{Principal: "local", Scopes: []Scope{Need(Admin, "", "")}}
}

// Webhook is the sender of a webhook, which its handler authenticates by signature: it may speak of one project.
func Webhook(kind, project string) Identity {
	return Identity{Principal: events.WebhookPrefix + kind, Scopes: []Scope{{Action: Publish, On: Any, Project: project}}}
}

type identityKey struct{}

// With returns a context that carries who asks.
func With(ctx context.Context, i Identity) context.Context {
	return context.WithValue(ctx, identityKey{}, i)
}

// From is who asks; nobody, with no scope, when the context does not say.
func From(ctx context.Context) Identity {
	i, _ := ctx.Value(identityKey{}).(Identity)
	return i
}
