package events

import "errors"

// What is wrong with what was to be read; the error that wraps one of these names the place and
// is fit to be shown to whoever sent the event.
var (
	ErrNoCloudEvent = errors.New("no CloudEvent")
	ErrNotCDEvent   = errors.New("not a CDEvent")
	ErrUnknownType  = errors.New("unknown event type")
)
