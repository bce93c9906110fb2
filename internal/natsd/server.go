package natsd

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// MaxEvent is the most that one event may take, headers and body together, in
// bytes. The server's own limit is higher by headroom: a message between the
// two is refused with an answer, where one above the server's limit costs the
// client its connection.
const (
	MaxEvent = 1 << 20
	headroom = 64 << 10
)

// startTimeout bounds how long Start waits for the server to take connections.
const startTimeout = 30 * time.Second

// Options says how to run one embedded server.
type Options struct {
	Dir        string                           // data folder, required; created when absent
	Listen     string                           // "" for no socket, else a loopback host:port; port 0 picks a free one
	Replicas   int                              // replicas of a stream that the server makes itself; 0 is 1
	Name       string                           // server name; "" for a generated one; required in a cluster
	Cluster    *ClusterOptions                  // nil for a single server
	Durability string                           // "" syncs at intervals; "fsync" before each ack
	Logger     func(format string, args ...any) // nil discards; warnings and errors of the server otherwise
	// Auth lets nobody in without a key: services and principals are those of
	// the keyring in Dir, which is followed while the server runs. Listen may
	// then be any address.
	Auth bool
	TLS  *tls.Config // of the socket; nil: none
}

// ClusterOptions joins a server to others. All members need the same
// services.nk in their data folders.
type ClusterOptions struct {
	Name   string   // same on all members
	Listen string   // loopback host:port for routes; port 0 picks a free one
	Routes []string // nats://host:port of the other members' routes
}

// Server is a running embedded server.
type Server struct {
	nats    *server.Server
	options Options
	key     serviceKey
	own     map[string]ownKey // of the services in this process, by name

	mu     sync.Mutex // held while the accounts change
	config string     // accounts, as of the last change
	guards map[string]*guard

	store      *server.JetStreamConfig // as it was opened first
	outOfSpace atomic.Bool             // the store met a full disk

	stopped chan struct{}
	once    sync.Once
	follows sync.WaitGroup
}

// Start runs a server and returns when it takes connections, usually within
// milliseconds. In a cluster JetStream may need longer, until a leader is
// elected.
func Start(o Options) (*Server, error) {
	opts, err := serverOptions(o)
	if err != nil {
		return nil, err
	}
	if o.Listen != "" {
		// The server would try for as long as it is waited for, and not say why.
		l, err := net.Listen("tcp", o.Listen)
		if err != nil {
			return nil, err
		}
		_ = l.Close()
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("create data folder: %w", err)
	}
	key, err := loadOrCreateKey(o.Dir)
	if err != nil {
		return nil, err
	}
	s := &Server{options: o, key: key, own: map[string]ownKey{}, guards: map[string]*guard{}, stopped: make(chan struct{})}
	if err := s.makeOwnKeys(); err != nil {
		return nil, err
	}
	services, outsiders, err := s.users(time.Now())
	if err != nil {
		return nil, err
	}
	config := accountsConfig(services, outsiders)
	if err := configure(opts, config); err != nil {
		return nil, err
	}
	s.config = config
	if s.nats, err = server.NewServer(opts); err != nil {
		return nil, fmt.Errorf("create nats server: %w", err)
	}
	if o.Logger == nil {
		o.Logger = func(string, ...any) {}
	}
	s.nats.SetLoggerV2(serverLog(s.watchSpace(o.Logger)), false, false, false)
	s.nats.Start()
	if !s.nats.ReadyForConnections(startTimeout) {
		s.Stop()
		return nil, errors.New("nats server is not ready for connections")
	}
	if !s.nats.JetStreamEnabled() {
		s.Stop()
		return nil, fmt.Errorf("nats server started without its store in %s: is another process using it?", o.Dir)
	}
	s.store = s.nats.JetStreamConfig()
	if err := s.guardAll(outsiders); err != nil {
		s.Stop()
		return nil, err
	}
	if o.Auth {
		s.follows.Go(s.follow)
	}
	s.follows.Go(s.heal)
	return s, nil
}

// configure puts the accounts on options.
func configure(opts *server.Options, accounts string) error {
	if err := opts.ProcessConfigString(accounts); err != nil {
		return fmt.Errorf("configure accounts: %w", err)
	}
	// The configuration text resets what it does not name.
	opts.NoSigs, opts.NoLog = true, true
	return nil
}

// Connect returns a connection with the rights of a service. Its replies come
// under their own inbox prefix.
func (s *Server) Connect(opts ...nats.Option) (*nats.Conn, error) {
	return s.dial(append(s.ServiceOptions(), opts...))
}

// ConnectLocal returns a connection without credentials: the principal local.
func (s *Server) ConnectLocal(opts ...nats.Option) (*nats.Conn, error) {
	return s.dial(opts)
}

// dial connects by the server's own socket where this process reaches it over
// loopback in the clear: the in-process connection is a net.Pipe, where each
// write waits for its reader, and takes half as long again (docs/performance.md).
func (s *Server) dial(opts []nats.Option) (*nats.Conn, error) {
	if addr, ok := s.nats.Addr().(*net.TCPAddr); ok && addr != nil && s.options.TLS == nil {
		if addr.IP.IsUnspecified() {
			addr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: addr.Port}
		}
		if addr.IP.IsLoopback() {
			return nats.Connect("nats://"+addr.String(), opts...)
		}
	}
	return nats.Connect("", append([]nats.Option{nats.InProcessServer(s.nats)}, opts...)...)
}

// Name is the server's name, as stream information calls it.
func (s *Server) Name() string { return s.nats.Name() }

// URL is where outside clients connect, or "" without a socket.
func (s *Server) URL() string {
	addr, ok := s.nats.Addr().(*net.TCPAddr)
	if !ok || addr == nil {
		return ""
	}
	return (&url.URL{Scheme: "nats", Host: addr.String()}).String()
}

// RouteURL is where the other members of a cluster connect, or "".
func (s *Server) RouteURL() string {
	if addr := s.nats.ClusterAddr(); addr != nil {
		return "nats://" + addr.String()
	}
	return ""
}

// ServiceOptions are the options with which a connection by URL is a service.
func (s *Server) ServiceOptions() []nats.Option { return s.key.options() }

// Stop ends the server and waits until its files are closed. It may be called
// more than once.
func (s *Server) Stop() {
	s.once.Do(func() { close(s.stopped) })
	s.follows.Wait()
	s.mu.Lock()
	for name, g := range s.guards {
		g.stop()
		delete(s.guards, name)
	}
	s.mu.Unlock()
	s.nats.Shutdown()
	s.nats.WaitForShutdown()
}

func serverOptions(o Options) (*server.Options, error) {
	if o.Dir == "" {
		return nil, errors.New("natsd: no data folder")
	}
	opts := &server.Options{
		ServerName: o.Name,
		JetStream:  true,
		StoreDir:   o.Dir,
		MaxPayload: MaxEvent + headroom,
		NoSigs:     true,
		NoLog:      true,
	}
	switch o.Durability {
	case "":
	case "fsync":
		opts.SyncAlways = true
	default:
		return nil, fmt.Errorf("natsd: unknown durability %q, want fsync or nothing", o.Durability)
	}
	var err error
	if o.Listen == "" {
		opts.DontListen = true
	} else if opts.Host, opts.Port, err = address(o.Listen, o.Auth); err != nil {
		return nil, err
	}
	if o.TLS != nil && o.Listen != "" {
		opts.TLS, opts.TLSConfig, opts.TLSTimeout = true, o.TLS, 5
	}
	if c := o.Cluster; c != nil {
		if o.Name == "" || c.Name == "" {
			return nil, errors.New("natsd: a cluster needs a name, and each server in it")
		}
		opts.Cluster.Name = c.Name
		if opts.Cluster.Host, opts.Cluster.Port, err = address(c.Listen, false); err != nil {
			return nil, err
		}
		for _, r := range c.Routes {
			u, err := url.Parse(r)
			if err != nil {
				return nil, fmt.Errorf("natsd: route: %w", err)
			}
			opts.Routes = append(opts.Routes, u)
		}
	}
	return opts, nil
}

// address splits one and, unless everybody is asked for a key, refuses what
// other machines could reach: the server then lets clients in without one.
func address(addr string, open bool) (host string, port int, err error) {
	host, p, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, fmt.Errorf("natsd: listen address: %w", err)
	}
	if ip := net.ParseIP(host); !open && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return "", 0, fmt.Errorf("natsd: %s is not a loopback address, and nobody is authenticated", addr)
	}
	if port, err = strconv.Atoi(p); err != nil || port < 0 || port > 65535 {
		return "", 0, fmt.Errorf("natsd: port of %s", addr)
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	return host, port, nil
}

// serverLog passes on what an operator should see of the server's log.
type serverLog func(format string, args ...any)

func (l serverLog) Noticef(string, ...any)            {}
func (l serverLog) Warnf(format string, args ...any)  { l("nats: "+format, args...) }
func (l serverLog) Errorf(format string, args ...any) { l("nats: "+format, args...) }
func (l serverLog) Fatalf(format string, args ...any) { l("nats: "+format, args...) }
func (l serverLog) Debugf(string, ...any)             {}
func (l serverLog) Tracef(string, ...any)             {}
