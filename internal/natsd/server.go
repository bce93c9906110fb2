package natsd

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
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
	nats  *server.Server
	key   serviceKey
	guard *guard
}

// Start runs a server and returns when it takes connections, usually within
// milliseconds. In a cluster JetStream may need longer, until a leader is
// elected.
func Start(o Options) (*Server, error) {
	opts, err := serverOptions(o)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("create data folder: %w", err)
	}
	key, err := loadOrCreateKey(o.Dir)
	if err != nil {
		return nil, err
	}
	if err := opts.ProcessConfigString(accountsConfig(key.public)); err != nil {
		return nil, fmt.Errorf("configure accounts: %w", err)
	}
	// The configuration text resets what it does not name.
	opts.NoSigs, opts.NoLog = true, true

	ns, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("create nats server: %w", err)
	}
	if o.Logger != nil {
		ns.SetLoggerV2(serverLog(o.Logger), false, false, false)
	}
	s := &Server{nats: ns, key: key}
	ns.Start()
	if !ns.ReadyForConnections(startTimeout) {
		s.Stop()
		return nil, errors.New("nats server is not ready for connections")
	}
	if !ns.JetStreamEnabled() {
		s.Stop()
		return nil, fmt.Errorf("nats server started without its store in %s: is another process using it?", o.Dir)
	}
	nc, err := s.Connect(nats.Name("lemnis wall"))
	if err != nil {
		s.Stop()
		return nil, fmt.Errorf("connect the wall: %w", err)
	}
	if s.guard, err = startGuard(ns, nc, Local); err != nil {
		nc.Close()
		s.Stop()
		return nil, err
	}
	return s, nil
}

// Connect returns a connection with the rights of a service. Its replies come
// under their own inbox prefix.
func (s *Server) Connect(opts ...nats.Option) (*nats.Conn, error) {
	all := append(s.ServiceOptions(), nats.InProcessServer(s.nats))
	return nats.Connect("", append(all, opts...)...)
}

// ConnectLocal returns a connection without credentials: the principal local.
func (s *Server) ConnectLocal(opts ...nats.Option) (*nats.Conn, error) {
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
	if s.guard != nil {
		s.guard.stop()
	}
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
	} else if opts.Host, opts.Port, err = loopback(o.Listen); err != nil {
		return nil, err
	}
	if c := o.Cluster; c != nil {
		if o.Name == "" || c.Name == "" {
			return nil, errors.New("natsd: a cluster needs a name, and each server in it")
		}
		opts.Cluster.Name = c.Name
		if opts.Cluster.Host, opts.Cluster.Port, err = loopback(c.Listen); err != nil {
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

// loopback splits an address and refuses one that other machines could reach:
// the embedded server lets clients in without credentials.
func loopback(addr string) (host string, port int, err error) {
	host, p, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, fmt.Errorf("natsd: listen address: %w", err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return "", 0, fmt.Errorf("natsd: %s is not a loopback address, and the embedded server has no authentication", addr)
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
