package up

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/lemnis/lemnis/internal/fold"
	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/internal/privacy"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/internal/trace"
	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/gateway"
)

// AddressFile in the data folder says where a running installation can be reached, as JSON.
const AddressFile = "addresses.json"

// instance is the name under which processes of one data folder follow one another: the lock sees to it that the one
// before is gone.
const instance = "up"

// Addresses say where an installation can be reached.
type Addresses struct {
	HTTP string `json:"http"`           // URL of the gateway and the dashboard
	NATS string `json:"nats,omitempty"` // URL for NATS clients
	PID  int    `json:"pid"`
}

// Stack is an installation in this process.
type Stack struct {
	options   Options
	project   *events.Project // of Options.Config
	addresses Addresses
	doors     doors
	bus       *natsd.Server // nil: it is not embedded
	listener  net.Listener
	front     *service.Front // answers from the start on
	served    chan error     // what serving ended with
	stopServe func()         // lets requests under way finish
	gateway   *gateway.Gateway
	services  []*service.Service

	adminToken bool           // the first token was written by this start
	closers    []func() error // in the order of their making
	ready      chan struct{}
}

// New claims the data folder and the addresses, starts the bus and the store, and prepares the services. What it holds is
// given back by Run, or by Close where Run is not called.
func New(ctx context.Context, o Options) (_ *Stack, err error) {
	o = o.withDefaults()
	s := &Stack{options: o, ready: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if err := s.check(); err != nil {
		return nil, err
	}
	if s.doors, err = openDoors(o); err != nil {
		return nil, err
	}
	held, err := lock(o.Data)
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, held.Close)
	var listen net.ListenConfig
	if s.listener, err = listen.Listen(ctx, "tcp", o.HTTP); err != nil {
		return nil, fmt.Errorf("listen for HTTP: %w; is another installation running? choose another address with --http", err)
	}
	s.closers = append(s.closers, func() error { return ignoreClosed(s.listener.Close()) })
	tracer, err := trace.Open(ctx, "lemnis", service.Version(), o.Log)
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, func() error { tracer.Close(context.Background()); return nil }) //nolint:contextcheck // it is closed when ctx has ended
	s.serve(ctx)
	host, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	host.Trace = tracer
	vault, err := privacy.NewVault(ctx, host.JS, host.Replicas)
	if err != nil {
		return nil, fmt.Errorf("vault of the users' keys: %w", err)
	}
	s.addresses.HTTP, s.addresses.PID = "http"+s.secure()+"://"+s.listener.Addr().String(), os.Getpid()
	for _, d := range s.definitions(host, vault) { //nolint:contextcheck // the builder removes what a killed one left, within a minute
		its, err := s.hostOf(d.Phase, host)
		if err != nil {
			return nil, err
		}
		s.services = append(s.services, service.New(its, d))
	}
	if s.gateway, err = s.newGateway(ctx, host); err != nil {
		return nil, err
	}
	if err := s.writeAddresses(); err != nil {
		return nil, err
	}
	s.front.Open(s.gateway.Handler())
	return s, nil
}

// serve answers requests from now on: until the gateway is there, with what is missing.
func (s *Stack) serve(ctx context.Context) {
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	s.front, s.served = &service.Front{}, make(chan error, 1)
	go func() {
		defer close(ended)
		s.served <- gateway.Serve(ctx, s.doors.listener(s.listener), s.front, s.options.Log)
	}()
	s.stopServe = func() { stop(); <-ended }
	s.closers = append(s.closers, func() error { s.stopServe(); return nil })
}

// connect starts what is embedded, or reaches what is not.
func (s *Stack) connect(ctx context.Context) (service.Host, error) {
	if s.options.NATS != "" {
		return s.outside(ctx)
	}
	o := s.options
	folds, err := s.folds(ctx)
	if err != nil {
		return service.Host{}, err
	}
	s.closers = append(s.closers, folds.Close)
	server, err := natsd.Start(natsd.Options{
		Dir: filepath.Join(o.Data, "nats"), Listen: o.NATSListen, Durability: o.Durability, Logger: o.Log.Sugar().Warnf,
		Auth: o.Auth, TLS: s.doors.server(),
	})
	if errors.Is(err, syscall.EADDRINUSE) {
		return service.Host{}, fmt.Errorf("listen for NATS: %w; is another installation running? choose another address with --nats-listen", err)
	}
	if err != nil {
		return service.Host{}, fmt.Errorf("start the bus: %w", err)
	}
	s.closers = append(s.closers, func() error { server.Stop(); return nil })
	s.bus = server
	nc, err := server.Connect()
	if err != nil {
		return service.Host{}, fmt.Errorf("connect to the bus: %w", err)
	}
	s.closers = append(s.closers, func() error { nc.Close(); return nil })
	s.addresses.NATS = server.URL()
	host, err := service.NewHost(ctx, nc, folds, 1, o.Log)
	host.Instance, host.Timing = instance, o.Timing
	return host, err
}

// folds opens the store, and waits for one that is not embedded.
func (s *Stack) folds(ctx context.Context) (*fold.Store, error) {
	o := s.options
	if o.Redis == "" {
		return fold.Embedded(filepath.Join(o.Data, "folds"), fold.WithLogger(o.Log.Sugar().Warnf)) //nolint:contextcheck // it lives as long as the process, not as the start
	}
	return service.ReachFolds(ctx, o.Redis, o.Log, s.front)
}

// outside reaches a bus that others use too: then nothing says that an earlier holder of a lease is gone.
func (s *Stack) outside(ctx context.Context) (service.Host, error) {
	o := s.options
	host, done, err := service.Environment{NATS: o.NATS, Key: o.NATSKey, Redis: o.Redis, Replicas: max(o.Replicas, 1)}.Connect(ctx, o.Log, s.front)
	if err != nil {
		return service.Host{}, err
	}
	s.closers = append(s.closers, func() error { done(); return nil })
	s.addresses.NATS = o.NATS
	host.Timing = o.Timing
	return host, nil
}

func (s *Stack) writeAddresses() error {
	body, err := json.MarshalIndent(s.addresses, "", "  ")
	if err != nil {
		return err
	}
	file := filepath.Join(s.options.Data, AddressFile)
	if err := os.WriteFile(file+".new", append(body, '\n'), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", AddressFile, err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		return fmt.Errorf("write %s: %w", AddressFile, err)
	}
	s.closers = append(s.closers, func() error { return os.Remove(file) })
	return nil
}

// URL is where the gateway is, and the dashboard.
func (s *Stack) URL() string { return s.addresses.HTTP }

// Addresses say where all of it is.
func (s *Stack) Addresses() Addresses { return s.addresses }

// Ready is closed when the gateway and all services have caught up.
func (s *Stack) Ready() <-chan struct{} { return s.ready }

// Run works until ctx ends, or a part of it fails; then it drains and gives everything back.
func (s *Stack) Run(ctx context.Context) error {
	group, running := errgroup.WithContext(ctx)
	group.Go(func() error { return s.gateway.Run(running) })
	group.Go(func() error {
		select {
		case err := <-s.served:
			return err
		case <-running.Done():
			s.stopServe()
			return nil
		}
	})
	for _, one := range s.services {
		group.Go(func() error {
			if err := one.Run(running); err != nil {
				return fmt.Errorf("the phase %s: %w", one.Phase(), err)
			}
			return nil
		})
	}
	group.Go(func() error { return s.watch(running) })
	err := group.Wait()
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = nil
	}
	return errors.Join(err, s.Close())
}

// watch says when all is ready, and applies the project file.
func (s *Stack) watch(ctx context.Context) error {
	for _, one := range s.services {
		select {
		case <-ctx.Done():
			return nil
		case <-one.Ready():
		}
	}
	if !s.gatewayReady(ctx) {
		return nil
	}
	if s.project != nil {
		if err := s.apply(ctx); err != nil && ctx.Err() == nil {
			return err
		}
	}
	close(s.ready)
	return nil
}

// Close gives everything back, the latest first. It may be called again.
func (s *Stack) Close() error {
	var all []error
	for i := len(s.closers) - 1; i >= 0; i-- {
		all = append(all, s.closers[i]())
	}
	s.closers = nil
	return errors.Join(all...)
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
