package events

import (
	"time"

	"github.com/nats-io/nats.go"
)

// Option configures a [Client].
type Option func(*clientOptions)

type clientOptions struct {
	principal string
	source    string
	nats      []nats.Option
	onError   func(error)
}

// WithPrincipal names the principal that the credentials belong to; "local" without it, which is
// who clients without credentials are.
func WithPrincipal(name string) Option { return func(o *clientOptions) { o.principal = name } }

// WithSource is the source of submitted events that state none; "/" and the principal without it.
func WithSource(uri string) Option { return func(o *clientOptions) { o.source = uri } }

// WithNATS passes options to the connection: credentials, TLS, a name.
func WithNATS(opts ...nats.Option) Option {
	return func(o *clientOptions) { o.nats = append(o.nats, opts...) }
}

// WithErrorHandler is told of trouble that no call returns: a connection that is lost, a
// subscription that ended. It is called from the client's goroutines and has to return soon.
func WithErrorHandler(f func(error)) Option { return func(o *clientOptions) { o.onError = f } }

// SubscribeOption configures a subscription.
type SubscribeOption func(*subscribeOptions)

type subscribeOptions struct {
	from       uint64
	durable    string
	onReject   func(Event, error)
	minBackoff time.Duration
	maxBackoff time.Duration
}

// From begins with the fact at this sequence of the stream; 1 is the first there is. Without
// it a subscription begins with what is stated after it was made. A durable subscription that
// exists already goes on where it was.
func From(sequence uint64) SubscribeOption {
	return func(o *subscribeOptions) { o.from = sequence }
}

// Durable lets the server remember, under this name, how far the handler has come: a program
// that starts again goes on there, and programs that use the same name share the facts. The
// next fact is handed out when the one before has its verdict, which keeps the order whoever
// handles it, and costs a round trip a fact. The server forgets a name that nobody has used for
// seven days.
func Durable(name string) SubscribeOption { return func(o *subscribeOptions) { o.durable = name } }

// OnReject is told of each event that a handler rejected, and of each message that could not be
// read (then the error wraps [ErrNoCloudEvent], [ErrNotCDEvent] or [ErrUnknownType], and of the
// event only kind, sequence and time of storing are known). Both are passed over for good.
func OnReject(f func(Event, error)) SubscribeOption {
	return func(o *subscribeOptions) { o.onReject = f }
}

// Backoff bounds the time after which a plain error is tried again; it doubles from the least to
// the most. 100 ms and 30 s without it.
func Backoff(least, most time.Duration) SubscribeOption {
	return func(o *subscribeOptions) { o.minBackoff, o.maxBackoff = least, most }
}
