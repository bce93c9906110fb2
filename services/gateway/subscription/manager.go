package subscription

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"net"
	"sort"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/lemnis/lemnis/internal/outward"
	"github.com/lemnis/lemnis/internal/service"
)

// Tail reads the stream in order from a sequence on, until ctx ends, as [service.Tail] without filters.
type Tail func(ctx context.Context, from uint64, each func(service.Message) error) error

// Options of a Manager; Host and Record are required.
type Options struct {
	Host service.Host
	// Record puts a change on the stream, for the audit. A change that can not be recorded is not made.
	Record func(ctx context.Context, principal, id, change string) error
	// Allow are ranges of addresses, closed to sinks otherwise, that they may have.
	Allow outward.Allowed
	// SecretsDir holds <project>/<name> for signing secrets that are given as "secret:<name>"; empty: there are none.
	SecretsDir string
	// Tail reads the stream in order from a sequence on; nil: a reader of its own does.
	Tail Tail
	// Origin is the name under which sinks are asked whether they want events; empty: "lemnis".
	Origin   string
	Patience Patience

	// Resolver and TLS replace the machine's own, in tests.
	Resolver *net.Resolver
	TLS      *tls.Config
}

const (
	mostSubscriptions = 1000
	lease             = "subscriptions"
)

// Manager keeps the subscriptions of an installation, and delivers, in one of its gateways at a time. Its methods may be
// called from several goroutines.
type Manager struct {
	options Options
	host    service.Host
	log     *zap.Logger
	clients *clients

	openMu sync.Mutex
	opened *store

	mu      sync.Mutex
	working map[string]*worker // while this gateway delivers
}

// New makes a manager.
func New(o Options) *Manager {
	if o.Origin == "" {
		o.Origin = "lemnis"
	}
	o.Patience = o.Patience.withDefaults()
	log := o.Host.Log
	if log == nil {
		log = zap.NewNop()
		o.Host.Log = log
	}
	if o.Tail == nil {
		o.Tail = func(ctx context.Context, from uint64, each func(service.Message) error) error {
			return service.Tail(ctx, o.Host, nil, from, each)
		}
	}
	return &Manager{
		options: o, host: o.Host, log: log.Named("subscriptions"), clients: newClients(o.Allow, o.Resolver, o.TLS), working: map[string]*worker{},
	}
}

func (m *Manager) store(ctx context.Context) (store, error) {
	m.openMu.Lock()
	defer m.openMu.Unlock()
	if m.opened == nil {
		s, err := openStore(ctx, m.host.JS, m.host.Replicas)
		if err != nil {
			return store{}, err
		}
		m.opened = &s
	}
	return *m.opened, nil
}

// Create makes a subscription of a principal's. Errors are a [*FieldError], [ErrTooMany], or the bus's.
func (m *Manager) Create(ctx context.Context, principal string, s Subscription) (View, error) {
	if err := s.check(m.options.Allow); err != nil {
		return View{}, err
	}
	if err := m.checkSecret(s); err != nil {
		return View{}, err
	}
	for name, value := range s.Settings.Headers {
		if value == hidden {
			return View{}, fail("protocolsettings.headers."+clip(name), "has no value")
		}
	}
	kept, err := m.store(ctx)
	if err != nil {
		return View{}, err
	}
	records, _, err := kept.all(ctx)
	if err != nil {
		return View{}, err
	}
	if len(records) >= mostSubscriptions {
		return View{}, ErrTooMany
	}
	last, err := service.LastSequence(ctx, m.host)
	if err != nil {
		return View{}, err
	}
	s.ID = strings.ToLower(rand.Text())
	now := time.Now().UTC()
	r := record{Spec: s, Generation: 1, Begin: s.start(last), Principal: principal, Created: now, Changed: now}
	if s.Protocol == HTTP && s.Config.Secret == "" {
		r.Secret = newSecret()
	}
	if s.Protocol == NATS {
		if err := m.freeConsumer(ctx, r); err != nil {
			return View{}, err
		}
	}
	if err := m.options.Record(ctx, principal, s.ID, "created: "+describe(s)); err != nil {
		return View{}, err
	}
	initial := state{State: Pending, Read: r.Begin - 1, At: now}
	if s.Protocol == NATS {
		if err := m.createConsumer(ctx, r); err != nil {
			return View{}, err
		}
	} else if _, err := kept.put(ctx, statePrefix+s.ID, initial, 0); err != nil { // the deliverer finds it there
		return View{}, err
	}
	if _, err := kept.put(ctx, recordPrefix+s.ID, r, 0); err != nil {
		return View{}, err
	}
	v := m.view(ctx, r, initial)
	v.Secret = r.Secret
	return v, nil
}

// describe says in a line what a subscription is. Of a sink it says where it is only: path and query may hold a secret.
func describe(s Subscription) string {
	if s.Protocol == NATS {
		return "NATS consumer " + s.Settings.Consumer + " of " + s.Config.Project
	}
	return s.Config.Project + " to " + clip(origin(s.Sink))
}

func (m *Manager) checkSecret(s Subscription) error {
	if s.Config.Secret == "" {
		return nil
	}
	secret, err := readSecret(m.options.SecretsDir, s.Config.Project, s.Config.Secret)
	if err == nil {
		_, err = keyOf(secret)
	}
	if err != nil {
		return fail("config.secret", "%v", err)
	}
	return nil
}

// List shows the subscriptions that may be seen, in the order in which they were made.
func (m *Manager) List(ctx context.Context, may func(project string) bool) ([]View, error) {
	kept, err := m.store(ctx)
	if err != nil {
		return nil, err
	}
	records, states, err := kept.all(ctx)
	if err != nil {
		return nil, err
	}
	out := []View{}
	for id, r := range records {
		if may(r.Spec.Config.Project) {
			out = append(out, m.view(ctx, r, states[id]))
		}
	}
	sort.Slice(out, func(a, b int) bool {
		if !out[a].Created.Equal(out[b].Created) {
			return out[a].Created.Before(out[b].Created)
		}
		return out[a].ID < out[b].ID
	})
	return out, nil
}

// Get shows one. The error is [ErrNotFound] or the bus's.
func (m *Manager) Get(ctx context.Context, id string) (View, error) {
	kept, err := m.store(ctx)
	if err != nil {
		return View{}, err
	}
	r, _, err := kept.record(ctx, id)
	if err != nil {
		return View{}, err
	}
	s, _, err := kept.state(ctx, id)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return View{}, err
	}
	return m.view(ctx, r, s), nil
}

// Replace changes what a subscription asks for. Its id, project, start, secret and progress stay; a new sink is asked
// first, and one that was disabled begins again where it stood.
func (m *Manager) Replace(ctx context.Context, principal, id string, s Subscription) (View, error) {
	kept, err := m.store(ctx)
	if err != nil {
		return View{}, err
	}
	r, revision, err := kept.record(ctx, id)
	if err != nil {
		return View{}, err
	}
	if s.ID != "" && s.ID != id {
		return View{}, fail("id", "can not be changed")
	}
	s.ID = ""
	old := r.Spec
	if err := s.restore(old); err != nil {
		return View{}, err
	}
	if s.Config.Start == "" {
		s.Config.Start = old.Config.Start
	}
	if err := s.check(m.options.Allow); err != nil {
		return View{}, err
	}
	switch {
	case s.Protocol != old.Protocol:
		return View{}, fail("protocol", "can not be changed; make another subscription")
	case s.Config.Project != old.Config.Project:
		return View{}, fail("config.project", "can not be changed; make another subscription")
	case s.Config.Start != old.Config.Start:
		return View{}, fail("config.start", "counts at the creation; make another subscription")
	case s.Protocol == NATS:
		return View{}, fail("protocol", "a NATS consumer can not be changed; make another subscription")
	}
	if err := m.checkSecret(s); err != nil {
		return View{}, err
	}
	if s.Config.Secret == "" && r.Secret == "" {
		return View{}, fail("config.secret", "can not be left out: this subscription has no generated secret")
	}
	s.ID, r.Spec = id, s
	r.Spec.ID = id
	r.Generation++
	r.Changed = time.Now().UTC()
	if err := m.options.Record(ctx, principal, id, "changed: "+describe(r.Spec)); err != nil {
		return View{}, err
	}
	if _, err := kept.put(ctx, recordPrefix+id, r, revision); err != nil {
		return View{}, err
	}
	st, _, err := kept.state(ctx, id)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return View{}, err
	}
	return m.view(ctx, r, st), nil
}

// Delete takes a subscription away; what is on its way may still arrive.
func (m *Manager) Delete(ctx context.Context, principal, id string) error {
	kept, err := m.store(ctx)
	if err != nil {
		return err
	}
	r, revision, err := kept.record(ctx, id)
	if err != nil {
		return err
	}
	if err := m.options.Record(ctx, principal, id, "removed: "+describe(r.Spec)); err != nil {
		return err
	}
	if r.Spec.Protocol == NATS {
		if err := m.deleteConsumer(ctx, r); err != nil {
			return err
		}
	}
	return kept.remove(ctx, id, revision)
}

// Project is the project that a subscription is about.
func (m *Manager) Project(ctx context.Context, id string) (string, error) {
	kept, err := m.store(ctx)
	if err != nil {
		return "", err
	}
	r, _, err := kept.record(ctx, id)
	return r.Spec.Config.Project, err
}
