package gateway

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/gateway/access"
)

// routes is a mux whose handlers are reached through the rule of their pattern. It remembers the patterns, so that a test
// can hold each against the rules.
type routes struct {
	mux       *http.ServeMux
	authorize func(pattern string, next http.Handler) http.Handler
	patterns  []string
}

// HandleFunc is as of [http.ServeMux].
func (m *routes) HandleFunc(pattern string, h http.HandlerFunc) { m.Handle(pattern, h) }

// Handle is as of [http.ServeMux].
func (m *routes) Handle(pattern string, h http.Handler) {
	m.patterns = append(m.patterns, pattern)
	m.mux.Handle(pattern, m.authorize(pattern, h))
}

// authorize lets a request reach its handler when the endpoint's rule allows that, with who asks in its context.
func (g *Gateway) authorize(pattern string, next http.Handler) http.Handler {
	one, ok := rules[pattern]
	if !ok {
		one = administrators
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		open := one.open || one.near && near(r)
		who, err := g.identify(r, one, open)
		if err == nil && one.need != nil && !open {
			for _, need := range one.need(r) {
				if err = who.May(need); err != nil {
					break
				}
			}
		}
		if err == nil && g.authenticated && !open && one.signed == nil { // or strangers would use up what a sender may
			err = g.within(r.Context(), who)
		}
		if err != nil {
			g.deny(w, r, err)
			return
		}
		next.ServeHTTP(w, r.WithContext(access.With(r.Context(), who)))
	})
}

// errNobody says that a request does not say who asks.
var errNobody = errors.New("this gateway asks who you are: send a token, as in Authorization: Bearer lmn_…")

// identify says who asks.
func (g *Gateway) identify(r *http.Request, one rule, open bool) (access.Identity, error) {
	switch {
	case one.signed != nil:
		return one.signed(r), nil
	case !g.authenticated:
		return access.Everybody(), nil
	case open:
		return access.Identity{}, nil
	}
	text, ok := credential(r)
	if !ok {
		return access.Identity{}, errNobody
	}
	for _, one := range g.services {
		if one.is(text) {
			return one.who, nil
		}
	}
	wait, cancel := context.WithTimeout(r.Context(), beginTimeout)
	defer cancel()
	select {
	case <-g.tokens.Synced():
		return g.tokens.Authenticate(wait, text)
	case <-wait.Done():
		return access.Identity{}, errAway
	}
}

// credential is the token that a request carries: as a bearer's, or as the password of whatever user, as clients of
// registries send it.
func credential(r *http.Request) (string, bool) {
	values := r.Header.Values("Authorization")
	if len(values) != 1 {
		return "", false
	}
	if scheme, rest, _ := strings.Cut(values[0], " "); strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(rest), true
	}
	_, password, ok := r.BasicAuth()
	return password, ok
}

// near reports whether a request comes from this machine, and not for another one.
func near(r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	ip := net.ParseIP(host)
	return err == nil && ip != nil && ip.IsLoopback() && r.Header.Get("Forwarded") == "" && r.Header.Get("X-Forwarded-For") == ""
}

// serviceToken is a token of a service of this installation; it is in no store.
type serviceToken struct {
	hash [sha256.Size]byte
	who  access.Identity
}

func (t serviceToken) is(text string) bool {
	hash := sha256.Sum256([]byte(text))
	return subtle.ConstantTimeCompare(hash[:], t.hash[:]) == 1
}

// within counts the request against its principal's limit.
func (g *Gateway) within(ctx context.Context, who access.Identity) error {
	return g.counted(g.limiter.Request(ctx, who.Principal))
}

// counted passes on that a limit is reached. A store that does not answer limits nobody: the loop goes on without it.
func (g *Gateway) counted(err error) error {
	var limit *access.LimitError
	if err == nil || errors.As(err, &limit) {
		return err
	}
	if time.Since(time.Unix(0, g.limitless.Load())) > time.Minute {
		g.limitless.Store(time.Now().UnixNano())
		g.log.Warn("rates are not limited: the store does not answer", zap.Error(err))
	}
	return nil
}

// mayClaim judges a claim by who makes it, and refuses one for a project that nobody has configured: a mistyped name would begin
// another. Where nobody is asked who they are, every project is there.
func (g *Gateway) mayClaim(ctx context.Context, e events.Event) error {
	if err := access.From(ctx).May(access.OfClaim(e)); err != nil {
		return err
	}
	if err := g.withinQuota(e.Project, g.counted(g.limiter.Event(ctx, e.Project))); err != nil || !g.authenticated || e.Type == configured {
		return err
	}
	return g.mustBeConfigured(ctx, e.Project)
}

var configured = events.TypeOf(events.ProjectConfigured{})

// mustBeConfigured asks the stream where the overview does not know a project: the fact may have been stated just now.
func (g *Gateway) mustBeConfigured(ctx context.Context, project string) error {
	there, err := g.overview.configured(ctx, project)
	if err != nil || there {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	q := query{project: project, phase: events.Plan, subject: configured.Subject(), predicate: configured.Predicate(), kinds: []events.Kind{events.Stated}}
	last, err := service.LastOf(ctx, g.host, lifecycle, q.filters()...)
	switch {
	case err != nil:
		return away(err)
	case last == 0:
		return refuse(http.StatusForbidden, "there is no project %s: `lemnis apply` makes one", project)
	}
	return nil
}

// deny answers a request that its rule does not let through.
func (g *Gateway) deny(w http.ResponseWriter, r *http.Request, err error) {
	registry := r.URL.Path == "/v2" || strings.HasPrefix(r.URL.Path, "/v2/")
	p, _ := problemOf(err)
	if p.Status == http.StatusUnauthorized {
		// Clients of registries offer what they have when they are asked for Basic; a browser would ask its user.
		w.Header().Set("WWW-Authenticate", map[bool]string{true: `Basic realm="lemnis"`, false: `Bearer realm="lemnis"`}[registry])
	}
	if !registry {
		g.fail(w, r, err)
		return
	}
	g.metrics.refused(p.Status)
	setRetryAfter(w, err, p.Status)
	type entry struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	code := map[int]string{http.StatusUnauthorized: "UNAUTHORIZED", http.StatusForbidden: "DENIED", http.StatusTooManyRequests: "TOOMANYREQUESTS"}[p.Status]
	if code == "" {
		code = "UNKNOWN"
	}
	g.write(w, p.Status, "application/json", map[string][]entry{"errors": {{code, p.Detail}}})
}

// setRetryAfter says when the same request may succeed.
func setRetryAfter(w http.ResponseWriter, err error, status int) {
	var limit *access.LimitError
	switch {
	case errors.As(err, &limit):
		w.Header().Set("Retry-After", strconv.Itoa(int(limit.After/time.Second)+1))
	case status == http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
	}
}
