package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Config of a Front.
type Config struct {
	Environment string
	Service     string
	// Address to listen on, a loopback address unless Open; port 0 takes a free one. Empty: 127.0.0.1:0.
	Address string
	// Open allows an Address that other machines reach.
	Open bool
	// Host is the name in the URL by which users reach the address; empty: the address's own.
	Host string
	// Features maps the name of a feature to its path prefix. "/cart" holds /cart and /cart/…, not /cartoon; the longest prefix
	// wins; a path under none is the feature OtherFeature.
	Features map[string]string
	// Patience is how long a client must have waited for its giving up to count as an error. Zero: 5 s.
	Patience time.Duration
	// ResponseTimeout bounds the wait for a response's headers. Zero: 60 s.
	ResponseTimeout time.Duration
	// Log is told of changed routes, faults and failed requests, with keys and values in turn. Nil: silent.
	Log func(message string, keysAndValues ...any) `json:"-"`
}

// Upstream is a running version.
type Upstream struct {
	Version string `json:"version"`
	URL     string `json:"url"` // http://host:port
}

// Routes say which versions serve users. A nil Canary, or weight 0, sends everyone to Stable.
type Routes struct {
	Stable Upstream  `json:"stable"`
	Canary *Upstream `json:"canary,omitempty"`
	Weight float64   `json:"weight"` // the canary's share of users, 0 to 1
	// Baseline serves as many users as the canary, who would be Stable's; nil: they are. Beside it, Weight is at most a half.
	Baseline *Upstream `json:"baseline,omitempty"`
}

// clone shares nothing with r.
func (r Routes) clone() Routes {
	for _, u := range []**Upstream{&r.Canary, &r.Baseline} {
		if *u != nil {
			own := **u
			*u = &own
		}
	}
	return r
}

// Front is one listener and its routes. Its methods may be called from several goroutines.
type Front struct {
	config    Config
	since     time.Time
	listener  net.Listener
	loops     []*loop
	door      *door
	closed    sync.Once
	server    *http.Server // of what does not go the quick way
	handed    *handed
	clients   clients
	upgraded  clients // net/http's server does not know them any more
	cutting   context.Context
	cut       context.CancelFunc // closes those that were upgraded
	upstreams upstreams
	faults    faults
	features  atomic.Pointer[[]feature] // those that count now, the longest prefix first
	paused    atomic.Int64              // Snapshot's
	unserved  atomic.Int64
	// quickPatience bounds the wait for an answer on the quick way.
	quickPatience time.Duration
	// stall bounds the wait for the next piece of a client's body, and for a client to take the next piece of its answer.
	stall time.Duration

	mu       sync.Mutex
	routes   Routes
	targets  map[string]target // of the routes, by version
	versions map[string]*version
	slots    map[string]int // where versions count a feature, by name, also of features that were
}

type target struct {
	url     *url.URL
	version *version
}

// New listens and serves. Until SetRoutes it answers 503.
func New(config Config) (*Front, error) {
	if config.Address == "" {
		config.Address = "127.0.0.1:0"
	}
	if config.Patience <= 0 {
		config.Patience = 5 * time.Second
	}
	if config.ResponseTimeout <= 0 {
		config.ResponseTimeout = time.Minute
	}
	if config.Log == nil {
		config.Log = func(string, ...any) {}
	}
	address, err := net.ResolveTCPAddr("tcp", config.Address)
	if err != nil {
		return nil, fmt.Errorf("proxy address: %w", err)
	}
	if !config.Open && !address.IP.IsLoopback() {
		return nil, fmt.Errorf("proxy address %s is not a loopback address", config.Address)
	}
	listener, err := net.ListenTCP("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("proxy listen: %w", err)
	}
	f := &Front{
		config: config, since: time.Now(), listener: listener,
		quickPatience: min(quickPatience, config.Patience, config.ResponseTimeout), stall: idlePatience,
		handed:  &handed{Listener: listener, conns: make(chan net.Conn), done: make(chan struct{})},
		clients: clients{empty: make(chan struct{})}, upgraded: clients{empty: make(chan struct{})},
		targets: map[string]target{}, versions: map[string]*version{}, slots: map[string]int{},
	}
	if err := f.SetFeatures(config.Features); err != nil {
		_ = listener.Close()
		return nil, err
	}
	f.cutting, f.cut = context.WithCancel(context.Background())
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	f.server = &http.Server{
		Handler: http.HandlerFunc(f.serve), Protocols: &protocols, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		ErrorLog:    log.New(io.Discard, "", 0),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
	}
	f.server.DisableGeneralOptionsHandler = true // OPTIONS * asks the service
	raw, err := listener.SyscallConn()
	if err == nil {
		f.loops, err = joinLoops()
	}
	if err != nil {
		_ = listener.Close()
		return nil, err
	}
	go func() { _ = f.server.Serve(f.handed) }()
	f.door = &door{f: f, loop: f.loops[0], raw: raw}
	f.door.loop.post(f.door.open)
	return f, nil
}

// Addr is the address that users connect to, host:port.
func (f *Front) Addr() string { return f.listener.Addr().String() }

// URL is where users find the service.
func (f *Front) URL() string {
	if _, port, err := net.SplitHostPort(f.Addr()); err == nil && f.config.Host != "" {
		return "http://" + net.JoinHostPort(f.config.Host, port)
	}
	return "http://" + f.Addr()
}

// SetRoutes sends new requests by the routes; those in flight end where they are.
func (f *Front) SetRoutes(routes Routes) error {
	if !(routes.Weight >= 0 && routes.Weight <= 1) {
		return fmt.Errorf("weight %v is not within 0 and 1", routes.Weight)
	}
	if routes.Baseline != nil && (routes.Canary == nil || routes.Weight > 0.5) {
		return fmt.Errorf("a baseline needs a canary of at most half of the users, not %v", routes.Weight)
	}
	routes = routes.clone() // the caller keeps its own
	upstreams := []Upstream{routes.Stable}
	for _, u := range []*Upstream{routes.Canary, routes.Baseline} {
		if u == nil {
			continue
		}
		if slices.ContainsFunc(upstreams, func(other Upstream) bool { return other.Version == u.Version }) {
			return fmt.Errorf("two of stable, canary and baseline are version %q", u.Version)
		}
		upstreams = append(upstreams, *u)
	}
	parsed := make([]*url.URL, len(upstreams))
	for i, u := range upstreams {
		address, err := url.Parse(u.URL)
		if err != nil || address.Scheme != "http" || address.Port() == "" || strings.Trim(address.Path, "/") != "" || u.Version == "" {
			return fmt.Errorf("upstream %q needs a version and a URL of the form http://host:port, not %q", u.Version, u.URL)
		}
		parsed[i] = address
	}

	f.mu.Lock()
	f.routes = routes
	clear(f.targets)
	for i, u := range upstreams {
		v := f.versions[u.Version]
		if v == nil {
			v = newVersion(u.Version)
			f.versions[u.Version] = v
		}
		f.targets[u.Version] = target{parsed[i], v}
	}
	for _, v := range f.versions {
		v.routed.Store(f.routed(v.name))
		v.settle()
	}
	f.mu.Unlock()

	f.closeIdle()
	canary := ""
	if routes.Canary != nil {
		canary = routes.Canary.Version
	}
	f.config.Log("routes changed", "environment", f.config.Environment, "service", f.config.Service,
		"stable", routes.Stable.Version, "canary", canary, "weight", routes.Weight)
	return nil
}

// SetFeatures has requests counted by these features from now on, as in Config.Features. What a feature of the same name has counted
// stays, and one that is left out is in no Snapshot. The error names the first that can not be one; nothing is changed then.
func (f *Front) SetFeatures(named map[string]string) error {
	features, err := parseFeatures(named)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, one := range features {
		if _, known := f.slots[one.name]; !known {
			f.slots[one.name] = len(f.slots) + 1
		}
		features[i].slot = f.slots[one.name]
	}
	f.features.Store(&features)
	return nil
}

// closeIdle closes the connections to upstreams that wait, and later those that are in use: none may wait at one that is about to stop.
func (f *Front) closeIdle() {
	f.upstreams.closeIdle()
	f.each((*share).closeIdle)
}

// Routes returns the present routes.
func (f *Front) Routes() Routes {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.routes.clone()
}

func (f *Front) routed(name string) bool { _, ok := f.targets[name]; return ok }

// Drain returns a channel that is closed once the version is in no route and none of its requests is in flight,
// upgraded connections and streams included. Wait on it with a deadline before the version is stopped.
func (f *Front) Drain(name string) <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	drained := make(chan struct{})
	v := f.versions[name]
	if v == nil {
		close(drained)
		return drained
	}
	v.drains = append(v.drains, drained)
	v.settle()
	return drained
}

// Forget drops the counts of a version that is in no route and has drained; it reports whether it did.
func (f *Front) Forget(name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if v := f.versions[name]; v == nil || v.inFlight.Load() > 0 || f.routed(name) {
		return false
	}
	delete(f.versions, name)
	return true
}

// enter picks the version of a user and counts the request in flight, in one step with SetRoutes, so that a
// drained version gets no request.
func (f *Front) enter(user string) (target, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	name := f.routes.Stable.Version
	if c := f.routes.Canary; c != nil {
		switch x := place(f.config.Service, c.Version, user); {
		case x < f.routes.Weight:
			name = c.Version
		case f.routes.Baseline != nil && x < 2*f.routes.Weight:
			name = f.routes.Baseline.Version
		}
	}
	to, ok := f.targets[name]
	if ok {
		to.version.inFlight.Add(1)
	}
	return to, ok
}

// leave ends what enter began. Only the last one of a version that is in no route settles it: where SetRoutes takes it out later,
// it sees that none is left.
func (f *Front) leave(v *version) {
	if v.inFlight.Add(-1) > 0 || v.routed.Load() {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	v.settle()
}

// Close stops to accept, waits for the requests in flight until ctx ends, upgraded connections and streams included, then cuts them.
func (f *Front) Close(ctx context.Context) error {
	_ = f.listener.Close()
	f.door.loop.post(f.door.shut)
	f.server.SetKeepAlivesEnabled(false) // those that wait go, the others after the answer that is under way: they hold up nobody's grace
	err := errors.Join(f.endClients(ctx), f.server.Shutdown(ctx))
	f.upgraded.close() // not before: an upgrade that is under way is in while the server still waits for its handler
	if err = errors.Join(err, f.upgraded.wait(ctx)); err != nil {
		err = errors.Join(err, f.server.Close())
	}
	f.cut()
	f.upstreams.closeIdle()
	f.each(func(s *share) {
		s.closeIdle()
		delete(s.loop.shares, f)
	})
	f.closed.Do(leaveLoops)
	return err
}
