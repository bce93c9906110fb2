package natsd

import (
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

// followEvery is how often the keyring is read. It is a file of some
// kilobytes, and the end of a key's grace has to be noticed anyway.
const followEvery = time.Second

// follow keeps the server's accounts as the keyring says, until it stops.
func (s *Server) follow() {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.stopped:
			return
		case <-tick.C:
		}
		if err := s.Reload(); err != nil && s.options.Logger != nil {
			s.options.Logger("nats: the keys as they are now can not be taken over; those of before stay in force: %v", err)
		}
	}
}

// users are the services' users and the outsiders of now.
func (s *Server) users(now time.Time) (services []serviceUser, outsiders []outsider, err error) {
	services = []serviceUser{{key: s.key.public}}
	if !s.options.Auth {
		return services, []outsider{{name: Local, reads: []string{AnyProject}}}, nil
	}
	for _, name := range Services() {
		services = append(services, serviceUser{name, s.own[name].public})
	}
	keyring, err := ReadKeyring(s.options.Dir)
	if err != nil {
		return nil, nil, err
	}
	more, outsiders := keyring.users(now)
	return append(services, more...), outsiders, nil
}

// Reload takes the keyring over as it is now. Connections whose keys are good
// stay; those of keys that are not end.
func (s *Server) Reload() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	services, outsiders, err := s.users(time.Now())
	if err != nil {
		return err
	}
	config := accountsConfig(services, outsiders)
	if config == s.config {
		return nil
	}
	// What guards have opened is part of the configuration, or it would be
	// closed; and they open nothing while it changes.
	for i := range outsiders {
		if g := s.guards[outsiders[i].name]; g != nil {
			g.mu.Lock()
			defer g.mu.Unlock() //nolint:gocritic // all of them until it has changed
			outsiders[i].opened = sortedKeys(g.opened)
		}
	}
	// The server makes the imports of an account work when it is reloaded with
	// it, not when it first meets it.
	passes := 1
	for _, o := range outsiders {
		if s.guards[o.name] == nil {
			passes = 2
		}
	}
	for range passes {
		opts, err := serverOptions(s.options)
		if err != nil {
			return err
		}
		if err := configure(opts, accountsConfig(services, outsiders)); err != nil {
			return err
		}
		if err := s.nats.ReloadOptions(opts); err != nil {
			return fmt.Errorf("take over the keys: %w", err)
		}
	}
	if err := s.guardAll(outsiders); err != nil {
		return err // the same again, next time
	}
	s.config = config
	return nil
}

// guardAll begins, changes and ends guards as there are outsiders. The locks of
// those that stay are held.
func (s *Server) guardAll(outsiders []outsider) error {
	there := map[string]bool{}
	for _, o := range outsiders {
		there[o.name] = true
		if g := s.guards[o.name]; g != nil {
			g.setFacts(prefixes(o))
			continue
		}
		nc, err := s.Connect(nats.Name("lemnis wall"))
		if err != nil {
			return fmt.Errorf("connect the wall: %w", err)
		}
		g, err := startGuard(s.nats, nc, o)
		if err != nil {
			nc.Close()
			return err
		}
		s.guards[o.name] = g
	}
	for name, g := range s.guards {
		if !there[name] {
			g.stop()
			delete(s.guards, name)
		}
	}
	return nil
}

// ownKey is a service's key that lives as long as the process.
type ownKey struct {
	seed   []byte
	public string
}

// makeOwnKeys makes a key for each service that may run in this process.
func (s *Server) makeOwnKeys() error {
	if !s.options.Auth {
		return nil
	}
	for _, name := range Services() {
		seed, public, err := newUserKey()
		if err != nil {
			return err
		}
		s.own[name] = ownKey{seed, public}
	}
	return nil
}

// ConnectAs returns a connection with the rights of one service; without Auth,
// with those of all of them.
func (s *Server) ConnectAs(service string, opts ...nats.Option) (*nats.Conn, error) {
	if !s.options.Auth {
		return s.Connect(opts...)
	}
	key, ok := s.own[service]
	if !ok {
		return nil, fmt.Errorf("natsd: there is no service %q", service)
	}
	all, err := ServiceNameOptions(service, key.seed)
	if err != nil {
		return nil, err
	}
	return s.dial(append(all, opts...))
}
