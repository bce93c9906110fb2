package up

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"maps"
	"net"
	"net/http"
	"path/filepath"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lemnis/lemnis/cmd/lemnis/api"
	"github.com/lemnis/lemnis/internal/certs"
	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/internal/oci"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/gateway"
	"github.com/lemnis/lemnis/services/gateway/access"
)

// self is the principal of the installation's own parts at its own gateway.
const self = "lemnis"

// doors is how the installation's own parts reach its gateway: tokens that live as long as the process, and the
// certificate that it serves.
type doors struct {
	pair                    *certs.Pair // nil without TLS
	keeper, builder, placer string      // tokens; empty without authentication
}

func openDoors(o Options) (doors, error) {
	var d doors
	if o.Auth {
		d.keeper, d.builder, d.placer = rand.Text(), rand.Text(), rand.Text()
	}
	if !o.TLS.Given() {
		return d, nil
	}
	var err error
	d.pair, err = certs.Load(o.TLS)
	return d, err
}

// identities are the tokens for the gateway to know.
func (d doors) identities() map[string]access.Identity {
	if d.keeper == "" {
		return map[string]access.Identity{}
	}
	all := access.Any
	return map[string]access.Identity{
		d.keeper:  {Principal: self, Scopes: []access.Scope{access.Need(access.Admin, all, all)}},
		d.builder: {Principal: self, Scopes: []access.Scope{access.Need(access.Publish, "integrate", all), access.Need(access.Read, all, all)}},
		d.placer:  {Principal: self, Scopes: []access.Scope{access.Need(access.Read, all, all)}},
	}
}

// listener wraps the gateway's listener in TLS where that is asked for.
func (d doors) listener(l net.Listener) net.Listener {
	if d.pair == nil {
		return l
	}
	c := d.pair.Server()
	c.NextProtos = []string{"http/1.1"}
	return tls.NewListener(l, c)
}

// server is the configuration of the bus's listener; nil without TLS.
func (d doors) server() *tls.Config {
	if d.pair == nil {
		return nil
	}
	return d.pair.Server()
}

// deciders are the services by the phase that they decide.
var deciders = map[events.Phase]string{
	events.Plan: "planner", events.Develop: "builder", events.Integrate: "builder", events.Deploy: "deployer", events.Operate: "monitor", events.Learn: "feedback",
}

// hostOf gives a phase's service a connection with its own rights, where the bus tells services apart.
func (s *Stack) hostOf(phase events.Phase, host service.Host) (service.Host, error) {
	if s.bus == nil || !s.options.Auth {
		return host, nil
	}
	return s.hostAs(deciders[phase], host)
}

func (s *Stack) hostAs(name string, host service.Host) (service.Host, error) {
	nc, err := s.bus.ConnectAs(name, nats.Name("lemnis "+name))
	if err != nil {
		return host, fmt.Errorf("connect %s to the bus: %w", name, err)
	}
	s.closers = append(s.closers, func() error { nc.Close(); return nil })
	host.Conn = nc
	host.JS, err = jetstream.New(nc)
	return host, err
}

// registry is how a service with this token reaches the registry.
func (d doors) registry(token string) []oci.Option {
	var options []oci.Option
	if token != "" {
		options = append(options, oci.BasicAuth(self, token))
	}
	if d.pair != nil {
		options = append(options, oci.Transport(d.transport()))
	}
	return options
}

func (d doors) transport() http.RoundTripper {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = d.pair.Self()
	return t
}

// client reaches the gateway as the installation itself.
func (s *Stack) client() *api.Client {
	options := []api.Option{api.Token(s.doors.keeper)}
	if s.doors.pair != nil {
		options = append(options, api.TLS(s.doors.pair.Self()))
	}
	return api.New("http"+s.secure()+"://"+s.inner(), options...)
}

func (s *Stack) secure() string {
	if s.doors.pair != nil {
		return "s"
	}
	return ""
}

// inner is the address by which this machine reaches the gateway, also where it listens on all interfaces.
func (s *Stack) inner() string {
	at := s.listener.Addr().String()
	host, port, err := net.SplitHostPort(at)
	if ip := net.ParseIP(host); err == nil && ip != nil && ip.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return at
}

// lend gives the gateway what it needs to know its callers.
func (s *Stack) lend(ctx context.Context, host service.Host, to *gateway.Options) error {
	tokens, err := access.Open(ctx, host.JS, host.Replicas, host.Log)
	if err != nil {
		return err
	}
	to.Tokens, to.Authenticate, to.Services, to.Limits = tokens, s.options.Auth, s.doors.identities(), s.options.Limits
	maps.Copy(to.Services, s.options.Known)
	if !s.options.Auth {
		return nil
	}
	if s.bus != nil {
		if to.Host, err = s.hostAs(natsd.Gateway, host); err != nil {
			return err
		}
		dir := filepath.Join(s.options.Data, "nats")
		to.Principals = func() ([]access.Identity, error) {
			k, err := natsd.ReadKeyring(dir)
			if err != nil {
				return nil, err
			}
			return access.OfKeyring(k)
		}
	}
	file := filepath.Join(s.options.Data, access.AdminFile)
	if s.adminToken, err = tokens.EnsureAdmin(ctx, file, s.options.NATS == ""); err != nil {
		return fmt.Errorf("the first token: %w", err)
	}
	return nil
}

// AdminToken is the file that this start has written the first token to; empty when it was there before.
func (s *Stack) AdminToken() string {
	if !s.adminToken {
		return ""
	}
	return filepath.Join(s.options.Data, access.AdminFile)
}
