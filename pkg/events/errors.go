package events

import "errors"

// What is wrong with what was to be read; the error that wraps one of these names the place and
// is fit to be shown to whoever sent the event.
var (
	ErrNoCloudEvent = errors.New("no CloudEvent")
	ErrNotCDEvent   = errors.New("not a CDEvent")
	ErrUnknownType  = errors.New("unknown event type")
)

// Why a [Client] could not do what it was asked.
var (
	ErrClosed       = errors.New("the client is closed")
	ErrNotClaimable = errors.New("only a service states events of this type")
	ErrInvalidEvent = errors.New("the event cannot be submitted")
	ErrTooLarge     = errors.New("the event is larger than 1 MiB")
	ErrNoLemnis     = errors.New("no stream LIFECYCLE here: is this Lemnis's NATS server?")
	ErrNoInbox      = errors.New("no inbox for this principal, or no permission to write to it")
)
