package gateway

import (
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/lemnis/lemnis/internal/excerpt"
)

// guard refuses what a foreign web page could send through the browser of somebody on this machine: a request for
// another host's name (that was made to point here), or from a page of another origin.
func (g *Gateway) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if reason := g.foreign(r); reason != "" {
			g.fail(w, r, refuse(http.StatusForbidden, "%s", reason))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// foreign says why a request is not from here; empty when it is.
func (g *Gateway) foreign(r *http.Request) string {
	// Where a token is asked for, a page that was given this address has none to send.
	if !g.authenticated && !g.knownHost(r.Host) {
		return "this gateway is not called " + quote(r.Host) + "; without authentication it answers to this machine's own names only"
	}
	for _, origin := range r.Header.Values("Origin") {
		u, err := url.Parse(origin)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || !strings.EqualFold(u.Host, r.Host) {
			return "requests from pages of " + quote(origin) + " are refused"
		}
	}
	// Browsers say so themselves, also where they send no Origin. Following a link to the dashboard is all right.
	switch r.Header.Get("Sec-Fetch-Site") {
	case "cross-site", "same-site":
		if r.Header.Get("Sec-Fetch-Mode") != "navigate" || r.Method != http.MethodGet {
			return "requests from pages of other sites are refused"
		}
	}
	return ""
}

// knownHost reports whether a Host header names this machine by loopback, or as the options allow.
func (g *Gateway) knownHost(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")
	if strings.EqualFold(name, "localhost") {
		return true
	}
	if ip := net.ParseIP(name); ip != nil && ip.IsLoopback() {
		return true
	}
	for _, allowed := range g.allowed {
		if strings.EqualFold(allowed, host) || strings.EqualFold(allowed, name) {
			return true
		}
	}
	return false
}

// quote shows what a stranger sent, cut short.
func quote(s string) string {
	return `"` + excerpt.Of(s, 100) + `"`
}
