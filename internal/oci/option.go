package oci

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

type settings struct {
	plainHTTP bool
	user      string
	password  string
	base      http.RoundTripper
	silence   time.Duration
}

// Option changes how Push and Pull reach the registry. Without one: https (plain http for a
// loopback address), nobody's name, the default transport, 15 s of silence.
type Option func(*settings)

// PlainHTTP allows http to a host that is not on loopback, as inside a container network.
func PlainHTTP() Option { return func(s *settings) { s.plainHTTP = true } }

// BasicAuth gives a user and a password or token.
func BasicAuth(user, password string) Option {
	return func(s *settings) { s.user, s.password = user, password }
}

// Transport replaces http.DefaultTransport.
func Transport(base http.RoundTripper) Option { return func(s *settings) { s.base = base } }

// Silence is how long the registry may say nothing while something is read from it (ErrSilent).
func Silence(most time.Duration) Option { return func(s *settings) { s.silence = most } }

func newSettings(options []Option) settings {
	s := settings{base: http.DefaultTransport, silence: defaultSilence}
	for _, o := range options {
		o(&s)
	}
	return s
}

func (s settings) auth() authn.Authenticator {
	if s.user == "" && s.password == "" {
		return authn.Anonymous
	}
	return &authn.Basic{Username: s.user, Password: s.password}
}

// parseRepository takes host[:port]/path, and also a URL; "http://" is consent to plain http.
func parseRepository(repository string, s settings) (name.Repository, error) {
	options := []name.Option{name.StrictValidation}
	rest, plain := strings.CutPrefix(repository, "http://")
	rest = strings.TrimPrefix(rest, "https://")
	if plain || s.plainHTTP {
		options = append(options, name.Insecure)
	}
	// The library lets dots through, which a server could take for its own paths.
	for _, part := range strings.Split(rest, "/") {
		if part == "" || part == "." || part == ".." {
			return name.Repository{}, fmt.Errorf("%w: repository %q", ErrBadReference, repository)
		}
	}
	// Without a host the library would mean Docker Hub.
	if host, _, found := strings.Cut(rest, "/"); !found || !strings.ContainsAny(host, ".:") && host != "localhost" {
		return name.Repository{}, fmt.Errorf("%w: repository %q names no registry", ErrBadReference, repository)
	}
	repo, err := name.NewRepository(rest, options...)
	if err != nil {
		return name.Repository{}, fmt.Errorf("%w: repository %q: %w", ErrBadReference, repository, err)
	}
	return repo, nil
}

// puller returns a client that may read the repository.
func (s settings) puller(ctx context.Context, repo name.Repository) (*http.Client, error) {
	t, err := transport.NewWithContext(ctx, repo.Registry, s.auth(), impatient{s.base, s.silence}, []string{repo.Scope(transport.PullScope)})
	if err != nil {
		return nil, err
	}
	return &http.Client{Transport: t}, nil
}
