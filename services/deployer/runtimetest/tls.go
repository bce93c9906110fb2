//go:build linux

package runtimetest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/lemnis/lemnis/internal/outward"
)

// TLS is asked of the addresses where users reach the service.
type TLS struct {
	Addresses []string `json:"addresses"` // host or host:port
	// Allow are ranges of addresses, closed otherwise, that the addresses may be in.
	Allow outward.Allowed `json:"-"`
	Roots *x509.CertPool  `json:"-"` // nil: those of the machine
}

// expiring is how long a certificate has to hold on at least.
const expiring = 7 * 24 * time.Hour

// reachedByTLS wants a certificate for the name that is trusted and holds on, and no protocol from before TLS 1.2.
func reachedByTLS(ctx context.Context, test TLS, r *Result) error {
	if len(test.Addresses) == 0 {
		return errors.New("no address to ask")
	}
	var problems []error
	soonest := time.Duration(-1)
	for _, address := range test.Addresses {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			host, address = address, net.JoinHostPort(address, "443")
		}
		modern := &tls.Config{ServerName: host, RootCAs: test.Roots, MinVersion: tls.VersionTLS12}
		left, err := test.handshake(ctx, address, modern)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", address, err))
			continue
		}
		if soonest < 0 || left < soonest {
			soonest = left
		}
		if left < expiring {
			problems = append(problems, fmt.Errorf("%s: its certificate ends in %s", address, left.Truncate(time.Minute)))
		}
		// Whom it shows to does not matter to what it speaks.
		old := &tls.Config{ServerName: host, InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11, CipherSuites: everySuite()} //nolint:gosec // it shall be refused
		if _, err := test.handshake(ctx, address, old); err == nil {
			problems = append(problems, fmt.Errorf("%s: it still speaks TLS 1.1 or 1.0", address))
		} else if _, err := test.handshake(ctx, address, modern); err != nil { // a refusal may be silent, or it may be gone
			problems = append(problems, fmt.Errorf("%s: whether it speaks TLS 1.1 or 1.0 is not known: %w", address, err))
		}
	}
	if soonest >= 0 {
		r.Values["days"] = soonest.Hours() / 24
	}
	r.Reason = fmt.Sprintf("%s: certificates that are trusted, and TLS 1.2 or newer alone", strings.Join(test.Addresses, ", "))
	return errors.Join(problems...)
}

// everySuite are those too that nobody should speak any more: who has no other would seem to have refused the protocol.
func everySuite() (all []uint16) {
	for _, s := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
		all = append(all, s.ID)
	}
	return all
}

// handshake is how long the certificate holds on.
func (t TLS) handshake(ctx context.Context, address string, config *tls.Config) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	c, err := (&tls.Dialer{NetDialer: &net.Dialer{Control: t.Allow.Control(true)}, Config: config}).DialContext(ctx, "tcp", address)
	if err != nil {
		return 0, err
	}
	defer func() { _ = c.Close() }()
	secured, ok := c.(*tls.Conn)
	if !ok {
		return 0, errors.New("it is no TLS")
	}
	return time.Until(secured.ConnectionState().PeerCertificates[0].NotAfter), nil
}
