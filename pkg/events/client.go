package events

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	streamName = "LIFECYCLE"
	// MaxSize is the largest event, attributes included, in bytes.
	MaxSize      = 1 << 20
	localName    = "local"
	drainTimeout = 10 * time.Second
)

// Client is an integrator's connection to Lemnis: it submits claims and receives facts. Its
// methods may be called from several goroutines.
type Client struct {
	nc        *nats.Conn
	js        jetstream.JetStream
	principal string
	source    string
	onError   func(error)

	mu     sync.Mutex
	closed bool
	subs   map[*subscription]struct{}
}

// Connect connects to the NATS server of an installation, for example at nats://127.0.0.1:4222.
// The connection comes back by itself when it is lost.
func Connect(url string, opts ...Option) (*Client, error) {
	o := clientOptions{principal: localName, onError: func(error) {}}
	for _, opt := range opts {
		opt(&o)
	}
	if o.source == "" {
		o.source = "/" + o.principal
	}
	if o.principal == "" || strings.ContainsAny(o.principal, ".*> \t\r\n") {
		return nil, fmt.Errorf("connect: principal %q is not one token of a subject", o.principal)
	}
	all := append([]nats.Option{
		nats.Name("lemnis-events " + o.principal), nats.MaxReconnects(-1),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { o.onError(err) }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				o.onError(fmt.Errorf("disconnected: %w", err))
			}
		}),
	}, o.nats...)
	nc, err := nats.Connect(url, all...)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", url, err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("connect to %s: %w", url, err)
	}
	return &Client{nc: nc, js: js, principal: o.principal, source: o.source, onError: o.onError, subs: map[*subscription]struct{}{}}, nil
}

// Close ends all subscriptions after the event that each is handling, and closes the connection.
// It waits for the handlers: do not call it from one. Closing twice is no error.
func (c *Client) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	subs := make([]*subscription, 0, len(c.subs))
	for s := range c.subs {
		subs = append(subs, s)
	}
	c.mu.Unlock()
	for _, s := range subs {
		s.stop()
	}
	err := c.nc.FlushTimeout(drainTimeout) // the last acks
	c.nc.Close()
	if err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		return fmt.Errorf("close: %w", err)
	}
	return nil
}

func (c *Client) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// New makes an event to submit: content of a type of the catalogue, about the thing with this
// id, with a fresh id and the time now. Chain, links and so on may be set afterwards.
func New(project, subjectID string, content any) Event {
	t := TypeOf(content)
	entry, _ := Lookup(t)
	return Event{
		ID: newID(), Type: t, Time: time.Now().UTC(), Project: project, Phase: entry.Phase,
		Key: subjectID, SubjectID: subjectID, Content: content,
	}
}

func newID() string {
	var u [16]byte
	_, _ = rand.Read(u[:]) // never fails
	return formatUUID(u[:], 4)
}

// Submit puts an event into the principal's inbox as a claim, on the subject
// submit.<principal>.<project>.<phase>.<subject>.<predicate>, and returns when the server has
// stored it. Whether the claim becomes a fact is then the owning service's to say, by the fact
// or by a [ClaimRefused]; both name the claim's id as their cause. What the claim says of its principal or cause does not
// count: the gateway overwrites the one and drops the other.
//
// Of the event, project, content and subject id have to be set; see [New] for the rest.
// Submitting the same event (id and source) again within two minutes changes nothing, so a call
// that failed may be repeated.
func (c *Client) Submit(ctx context.Context, e Event) error {
	if c.isClosed() {
		return ErrClosed
	}
	if err := c.complete(&e); err != nil {
		return err
	}
	m, err := Encode(e)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalidEvent, err)
	}
	m.Subject = "submit." + c.principal + "." + e.Project + "." + string(e.Phase) + "." + e.Type.Subject() + "." + e.Type.Predicate()
	m.Header[nats.MsgIdHdr] = []string{ClaimMessageID(c.principal, e.Source, e.ID)}
	if m.Size() > MaxSize {
		return fmt.Errorf("%w: %d bytes", ErrTooLarge, m.Size())
	}
	_, err = c.js.PublishMsg(ctx, m)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, nats.ErrNoResponders):
		return fmt.Errorf("submit %s: %w", e.Type.Short(), ErrNoInbox)
	case errors.Is(err, nats.ErrConnectionClosed) && c.isClosed():
		return ErrClosed
	}
	return fmt.Errorf("submit %s: %w", e.Type.Short(), err)
}

// complete fills what an event may leave open, and says what it may not.
func (c *Client) complete(e *Event) error {
	entry, ok := Lookup(TypeOf(e.Content))
	if !ok {
		return fmt.Errorf("%w: no event type is bound to content %T", ErrInvalidEvent, e.Content)
	}
	e.Type = entry.Type
	if !entry.Claimable {
		return fmt.Errorf("%w: %s", ErrNotClaimable, e.Type.Short())
	}
	if e.Phase == "" {
		e.Phase = entry.Phase
	}
	if !e.Phase.Valid() {
		return fmt.Errorf("%w: phase %q", ErrInvalidEvent, e.Phase)
	}
	if err := ValidProject(e.Project); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalidEvent, err)
	}
	if e.SubjectID == "" {
		return fmt.Errorf("%w: it has no subject id", ErrInvalidEvent)
	}
	if e.ID == "" {
		e.ID = newID()
	}
	if e.Source == "" {
		e.Source = c.source
	}
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	if e.Key == "" {
		e.Key = e.SubjectID
	}
	return nil
}
