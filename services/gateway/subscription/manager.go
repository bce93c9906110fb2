package subscription

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

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
	Allow []netip.Prefix
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

// View is a subscription as it is shown.
type View struct {
	Subscription
	// Secret is what deliveries are signed with. It is there once: in the answer to the creation.
	Secret  string    `json:"signingsecret,omitempty"`
	Created time.Time `json:"created"`
	Changed time.Time `json:"changed"`
	Status  Status    `json:"status"`
}

// Status is how a subscription fares.
type Status struct {
	State        string    `json:"state"`                 // pending, refused, active, disabled
	Reason       string    `json:"reason,omitempty"`      // why it is not active
	Sequence     uint64    `json:"sequence,omitempty"`    // of the fact that was delivered last
	Settled      uint64    `json:"settled"`               // every wanted fact up to here is delivered or dead-lettered
	Lag          uint64    `json:"lag"`                   // places on the stream between that and the last fact
	Waiting      int       `json:"waiting"`               // facts that are on their way
	Delivered    uint64    `json:"delivered"`             // how many so far
	Retried      uint64    `json:"retried"`               // tries that failed, but not for good
	DeadLettered uint64    `json:"deadlettered"`          // facts that were given up
	Unjudged     uint64    `json:"unjudged,omitempty"`    // facts that a filter failed on; they are not delivered
	Rate         int       `json:"allowedrate,omitempty"` // deliveries a minute that the sink allows
	LastError    string    `json:"lasterror,omitempty"`   //
	LastErrorAt  time.Time `json:"lasterrorat,omitzero"`  //
	Consumer     string    `json:"consumer,omitempty"`    // NATS: what to ask for the facts
	At           time.Time `json:"at,omitzero"`           // when all this was so
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

// describe says in a line what a subscription is, without what it may hold of secrets.
func describe(s Subscription) string {
	if s.Protocol == NATS {
		return "NATS consumer " + s.Settings.Consumer + " of " + s.Config.Project
	}
	to, _, _ := strings.Cut(s.Sink, "?")
	return s.Config.Project + " to " + clip(to)
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
	for name, value := range s.Settings.Headers {
		if value == hidden {
			was, ok := old.Settings.Headers[name]
			if !ok {
				return View{}, fail("protocolsettings.headers."+clip(name), "has no value")
			}
			s.Settings.Headers[name] = was
		}
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

// view joins what was asked for with how it fares, as this gateway knows it or as the delivering one has written it.
func (m *Manager) view(ctx context.Context, r record, s state) View {
	v := View{Subscription: r.Spec.masked(), Created: r.Created, Changed: r.Changed}
	if r.Spec.Protocol == NATS {
		v.Status = m.consumerStatus(ctx, r)
		return v
	}
	m.mu.Lock()
	w := m.working[r.Spec.ID]
	m.mu.Unlock()
	if w != nil && w.record.Generation == r.Generation {
		if now := w.status(); now.Generation == r.Generation {
			s = now
		}
	}
	if s.Generation < r.Generation && s.State != Active {
		s.State, s.Reason = Pending, ""
	}
	settled := s.Read
	if len(s.Open) > 0 {
		settled = s.Open[0].Sequence - 1
	}
	v.Status = Status{
		State: s.State, Reason: s.Reason, Sequence: s.Sequence, Settled: settled, Lag: s.Lag, Waiting: s.Waiting, Delivered: s.Delivered,
		Retried: s.Retried, DeadLettered: s.DeadLettered, Unjudged: s.Unjudged, Rate: s.Rate, LastError: s.LastError, LastErrorAt: s.LastErrorAt, At: s.At,
	}
	return v
}

// Run delivers whenever no other gateway does, until ctx ends.
func (m *Manager) Run(ctx context.Context) error {
	defer m.clients.close()
	return service.WhileOwner(ctx, m.host, lease, m.deliver)
}

// deliver keeps a worker for every HTTP subscription until ctx ends.
func (m *Manager) deliver(ctx context.Context) error {
	kept, err := m.store(ctx)
	if err != nil {
		return err
	}
	f, err := newFeed(ctx, m.host, m.options.Tail)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return f.run(ctx) })
	group.Go(func() error { return m.supervise(ctx, kept, f) })
	return group.Wait()
}

// supervised is the worker of one subscription, or of the one after the next change.
type supervised struct {
	stop context.CancelFunc
	done chan struct{}
}

func (m *Manager) supervise(ctx context.Context, kept store, f *feed) error {
	w, err := kept.kv.Watch(ctx, recordPrefix+"*")
	if err != nil {
		return fmt.Errorf("watch subscriptions: %w", err)
	}
	defer func() { _ = w.Stop() }()
	var all sync.WaitGroup
	defer all.Wait()
	running := map[string]supervised{}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case entry, ok := <-w.Updates():
			if !ok {
				return errors.New("watch subscriptions: the connection was lost")
			}
			if entry == nil {
				continue
			}
			id := strings.TrimPrefix(entry.Key(), recordPrefix)
			before, had := running[id]
			if had {
				before.stop()
			}
			if entry.Operation() != jetstream.KeyValuePut {
				delete(running, id)
				continue
			}
			var r record
			if err := json.Unmarshal(entry.Value(), &r); err != nil {
				m.log.Error("a subscription can not be read", zap.String("subscription", id), zap.Error(err))
				continue
			}
			if r.Spec.Protocol != HTTP {
				continue
			}
			one, stop := context.WithCancel(ctx)
			s := supervised{stop: stop, done: make(chan struct{})}
			running[id] = s
			all.Go(func() {
				defer close(s.done)
				defer stop()
				if had {
					<-before.done // it writes down how far it came
				}
				m.keepWorking(one, kept, f, r)
			})
		}
	}
}

// keepWorking delivers one subscription until ctx ends or it is disabled.
func (m *Manager) keepWorking(ctx context.Context, kept store, f *feed, r record) {
	log := m.log.With(zap.String("subscription", r.Spec.ID))
	wanted, err := compileAll(r.Spec.Filters)
	if err != nil { // a version before this one let it through
		log.Error("a subscription's filters are not understood", zap.Error(err))
		return
	}
	for ctx.Err() == nil {
		w := &worker{
			manager: m, host: m.host, log: log, store: kept, feed: f, clients: m.clients, patience: m.options.Patience, record: r, wanted: wanted,
		}
		m.mu.Lock()
		m.working[r.Spec.ID] = w
		m.mu.Unlock()
		err := w.work(ctx)
		m.mu.Lock()
		delete(m.working, r.Spec.ID)
		m.mu.Unlock()
		switch {
		case ctx.Err() != nil && err != nil && !errors.Is(err, context.Canceled):
			log.Warn("how far a subscription came could not be saved; what it delivered last may come again", zap.Error(err))
		case ctx.Err() != nil:
		case errors.Is(err, errDisabled):
			log.Info("a subscription is disabled", zap.String("reason", w.status().Reason))
			return
		case err != nil:
			log.Warn("the delivery of a subscription was interrupted; going on", zap.Error(err))
			pause(ctx, time.Second)
		}
	}
}
