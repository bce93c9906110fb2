package subscription

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
)

// Errors of the [Manager] beside [FieldError].
var (
	// ErrNotFound says that there is no subscription of that id.
	ErrNotFound = errors.New("there is no such subscription")
	// ErrConflict says that somebody else has changed the subscription in the meantime.
	ErrConflict = errors.New("the subscription was changed by somebody else in the meantime; read it again")
	// ErrTooMany says that the installation has as many subscriptions as it takes.
	ErrTooMany = errors.New("there are too many subscriptions; remove one first")
)

// readable makes a [FieldError] of what reading JSON failed for.
func readable(err error) error {
	var field *FieldError
	var kind *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &field):
		return field
	case errors.As(err, &kind):
		name := kind.Field
		if name == "" {
			name = "subscription"
		}
		return fail(name, "a JSON %s does not belong here", kind.Value)
	case errors.As(err, &syntax):
		return fail("subscription", "is no JSON: %v at byte %d", syntax, syntax.Offset)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fail("subscription", "is no JSON object, or ends early")
	}
	const unknown = "json: unknown field "
	if name, ok := strings.CutPrefix(err.Error(), unknown); ok {
		return fail(strings.Trim(name, `"`), "is no field that is known here")
	}
	return fail("subscription", "%s", strings.TrimPrefix(err.Error(), "json: "))
}
