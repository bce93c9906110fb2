package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"

	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/test/chaos/small"
)

// Options of a stack.
type Options struct {
	Programs Programs
	Dir      string // work folder, of this stack alone
	Store    string // where the bus keeps its streams; in Dir when empty
	Nodes    int    // of the bus: 1 or 3
	Copies   int    // processes of each service
	Lease    time.Duration
	Seed     uint64
	// Names lets a process that is started again take its predecessor's leases over at once.
	Names bool
	// Env is added to that of a service's n-th process, from 0.
	Env func(service string, n int) []string
	// Space asks for a network of its own for the bus, so that a node can be cut off.
	Space bool
}

// Stack is an installation in processes of its own.
type Stack struct {
	Options
	Nodes    []*Node
	Redis    *Process // nil without a redis-server
	Proxy    *Proxy   // in front of it
	Services map[string][]*Process
	Gateway  *Process
	URL      string // of the gateway
	Identity string // of the stream
	// Spaceless says why the nodes of the bus have no network of their own, if they should.
	Spaceless error

	Conn *nats.Conn
	JS   jetstream.JetStream

	network *network
	socket  string            // of Redis
	health  map[string]string // address of a process's health
}

// Up starts a stack and waits until it is ready.
func Up(ctx context.Context, o Options) (*Stack, error) {
	s := &Stack{Options: o, Services: map[string][]*Process{}, health: map[string]string{}}
	if err := s.up(ctx); err != nil {
		return nil, errors.Join(err, s.Down())
	}
	return s, nil
}

func (s *Stack) up(ctx context.Context) error {
	var err error
	if s.Space {
		if s.network, s.Spaceless = newNetwork(s.Options.Nodes); s.Spaceless != nil {
			s.network = nil
		}
	}
	if s.Nodes, err = newNodes(s.Dir, s.Store, s.Programs, s.Options.Nodes, s.network); err != nil {
		return err
	}
	for _, n := range s.Nodes {
		if err := n.Start(); err != nil {
			return err
		}
		if err := n.listens(ctx); err != nil {
			return err
		}
	}
	if err := s.startRedis(ctx); err != nil {
		return err
	}
	if s.Conn, s.JS, err = dial(s.urls()); err != nil {
		return err
	}
	if s.Identity, err = natsd.EnsureStreams(ctx, s.JS, len(s.Nodes)); err != nil {
		return fmt.Errorf("make the streams: %w", err)
	}
	if err := s.startGateway(ctx); err != nil {
		return err
	}
	for _, name := range small.Services {
		for i := range s.Copies {
			p := newProcess(s.Dir, fmt.Sprintf("%s-%d", name, i), nil, s.Programs.Service, name)
			ports, err := freePorts(1)
			if err != nil {
				return err
			}
			s.health[p.Name] = ports[0]
			s.Services[name] = append(s.Services[name], p)
			p.setEnv(s.environment(name, i))
			if err := p.Start(); err != nil {
				return err
			}
		}
	}
	return s.Ready(ctx)
}

func (s *Stack) urls() string {
	all := make([]string, len(s.Nodes))
	for i, n := range s.Nodes {
		all[i] = n.URL
	}
	return strings.Join(all, ",")
}

// environment of a copy of a service.
func (s *Stack) environment(name string, n int) []string {
	who := fmt.Sprintf("%s-%d", name, n)
	env := append(s.common(filepath.Join(s.Dir, who)), "LEMNIS_HTTP="+s.health[who], "CHAOS_LEASE="+s.Lease.String(),
		fmt.Sprintf("CHAOS_SEED=%d", s.Seed+uint64(n)))
	if s.Names {
		env = append(env, "CHAOS_INSTANCE="+who)
	}
	if s.Env != nil {
		env = append(env, s.Env(name, n)...)
	}
	return env
}

func (s *Stack) common(data string) []string {
	env := []string{"LEMNIS_NATS_URL=" + s.urls(), "LEMNIS_DATA=" + data, fmt.Sprintf("LEMNIS_REPLICAS=%d", len(s.Nodes)), "LEMNIS_LOG=info",
		"LEMNIS_REDIS_URL=", "LEMNIS_NATS_KEY_FILE="}
	if s.Proxy != nil {
		env = append(env, "LEMNIS_REDIS_URL=redis://"+s.Proxy.Addr())
	}
	return env
}

func (s *Stack) startRedis(ctx context.Context) error {
	if s.Programs.Redis == "" {
		return nil
	}
	folder, err := os.MkdirTemp("", "lemnis-redis-") // the path of a socket has to be short
	if err != nil {
		return err
	}
	s.socket = filepath.Join(folder, "redis.sock")
	s.Redis = newProcess(s.Dir, "redis", nil, s.Programs.Redis, "--port", "0", "--unixsocket", s.socket, "--save", "", "--dir", folder)
	if err := s.Redis.Start(); err != nil {
		return err
	}
	if s.Proxy, err = newProxy(func() (net.Conn, error) { return net.Dial("unix", s.socket) }); err != nil {
		return err
	}
	return s.RedisReady(ctx)
}

// RedisReady waits until Redis answers.
func (s *Stack) RedisReady(ctx context.Context) error {
	client := s.RedisClient()
	defer func() { _ = client.Close() }()
	for {
		err := client.Ping(ctx).Err()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("redis does not answer: %w", err)
		}
		wait(ctx, 20*time.Millisecond)
	}
}

// RedisClient reaches Redis past the proxy.
func (s *Stack) RedisClient() *redis.Client {
	return redis.NewClient(&redis.Options{Network: "unix", Addr: s.socket})
}

func (s *Stack) startGateway(ctx context.Context) error {
	ports, err := freePorts(1)
	if err != nil {
		return err
	}
	s.URL = "http://" + ports[0]
	s.Gateway = newProcess(s.Dir, "gateway", append(s.common(filepath.Join(s.Dir, "gateway")), "LEMNIS_HTTP="+ports[0]), s.Programs.Gateway)
	s.health["gateway"] = ports[0]
	if err := s.Gateway.Start(); err != nil {
		return err
	}
	return s.ready(ctx, s.Gateway)
}

// Ready waits until every process says so.
func (s *Stack) Ready(ctx context.Context) error {
	for _, p := range s.All() {
		if err := s.ready(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

func (s *Stack) ready(ctx context.Context, p *Process) error {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	for {
		_, err := s.ask(ctx, p, "/readyz")
		if err == nil {
			return nil
		}
		if !p.Alive() || ctx.Err() != nil {
			return fmt.Errorf("%s does not get ready: %w\n%s", p.Name, err, p.tail(2000))
		}
		wait(ctx, 20*time.Millisecond)
	}
}

// ask reads a page of a process's health.
func (s *Stack) ask(ctx context.Context, p *Process, path string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.health[p.Name]+path, http.NoBody)
	if err != nil {
		return "", err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", err
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answers %d: %s", path, answer.StatusCode, strings.TrimSpace(string(body)))
	}
	return string(body), err
}

// Owner is the copy of a service that decides now; nil when none says so.
func (s *Stack) Owner(ctx context.Context, name string) *Process {
	for _, p := range s.Services[name] {
		if page, err := s.ask(ctx, p, "/metrics"); err == nil && owns(page) {
			return p
		}
	}
	return nil
}

// owns reads the metrics of a process.
func owns(page string) bool {
	for line := range strings.SplitSeq(page, "\n") {
		if strings.HasPrefix(line, "lemnis_owner{") && strings.HasSuffix(line, " 1") {
			return true
		}
	}
	return false
}

// Deciders are the processes of the services, in a fixed order.
func (s *Stack) Deciders() []*Process {
	var all []*Process
	for _, name := range small.Services {
		all = append(all, s.Services[name]...)
	}
	return all
}

// All are the processes of Lemnis.
func (s *Stack) All() []*Process {
	all := s.Deciders()
	if s.Gateway != nil {
		all = append([]*Process{s.Gateway}, all...)
	}
	return slices.DeleteFunc(all, func(p *Process) bool { return p == nil })
}

// StopServices ends the processes of Lemnis in order, at the same time.
func (s *Stack) StopServices() error {
	var mu sync.Mutex
	var all error
	var wg sync.WaitGroup
	for _, p := range s.All() {
		wg.Go(func() {
			if err := p.Stop(40 * time.Second); err != nil {
				mu.Lock()
				defer mu.Unlock()
				all = errors.Join(all, err)
			}
		})
	}
	wg.Wait()
	return all
}

// Down ends everything.
func (s *Stack) Down() error {
	err := s.StopServices()
	if s.Conn != nil {
		s.Conn.Close()
	}
	for _, n := range s.Nodes {
		n.Kill()
	}
	if s.Redis != nil {
		s.Redis.Kill()
		_ = os.RemoveAll(filepath.Dir(s.socket))
	}
	if s.Proxy != nil {
		s.Proxy.Close()
	}
	if s.network != nil {
		s.network.Close()
	}
	return err
}
