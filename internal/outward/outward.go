// Package outward is the rule for addresses that people name and the installation speaks to, as those of subscriptions, of whom alerts
// go to and of forges: public ones by TLS, and what the operator has opened beside. It is asked of the very address that is dialled.
package outward

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
)

// Allowed are the address ranges, closed otherwise, that the operator has opened.
type Allowed []netip.Prefix

// Variable is where operators say it to services.
const Variable = "LEMNIS_ALLOW_PRIVATE_SINKS"

// Parse reads ranges in CIDR notation, separated by commas or spaces; a single address is a range of its own.
func Parse(list string) (Allowed, error) {
	var out Allowed
	for _, text := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' }) {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			addr, addrErr := netip.ParseAddr(text)
			if addrErr != nil || addr.Zone() != "" {
				return nil, fmt.Errorf("%q is no range of addresses like 10.0.0.0/8", text)
			}
			p = netip.PrefixFrom(addr, addr.BitLen())
		}
		if p.Addr().Is4In6() {
			return nil, fmt.Errorf("write %q as a range of IPv4", text)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

func prefixes(texts ...string) (out []netip.Prefix) {
	for _, t := range texts {
		out = append(out, netip.MustParsePrefix(t))
	}
	return out
}

// closed are the ranges that are nobody's public address: IANA's special-purpose registries, and the public address at
// which one large cloud serves its machines' metadata. Of IPv6 only 2000::/3 is open at all, which closes loopback,
// unique local, link-local, multicast, IPv4-mapped, IPv4-compatible and NAT64 (64:ff9b::/96) addresses.
var (
	closed = prefixes(
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
		"192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
		"224.0.0.0/4", "240.0.0.0/4", "168.63.129.16/32",
		"2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
	)
	open6 = netip.MustParsePrefix("2000::/3")
)

// ErrClosed says that an address may not be spoken to.
var ErrClosed = errors.New("the address is not open")

// Check refuses an address that is not open. Without TLS only what the operator has opened is reached: the
// CloudEvents webhook rules ask for TLS.
func (a Allowed) Check(addr netip.Addr, tls bool) error {
	addr = addr.WithZone("").Unmap()
	for _, p := range a {
		if p.Contains(addr) {
			return nil
		}
	}
	if !addr.IsValid() || addr.Is6() && !open6.Contains(addr) {
		return fmt.Errorf("%w: %s is no public address; %s opens a range", ErrClosed, addr, Variable)
	}
	for _, p := range closed {
		if p.Contains(addr) {
			return fmt.Errorf("%w: %s is no public address; %s opens a range", ErrClosed, addr, Variable)
		}
	}
	if !tls {
		return fmt.Errorf("%w: %s is reached without TLS; use https", ErrClosed, addr)
	}
	return nil
}

// Control is a dialer's: it checks the address that is about to be dialled: after the name was resolved, so that a name which stands for
// something else the second time gains nothing.
func (a Allowed) Control(tls bool) func(network, address string, _ syscall.RawConn) error {
	return func(network, address string, _ syscall.RawConn) error {
		if network != "tcp4" && network != "tcp6" {
			return fmt.Errorf("%w: %s", ErrClosed, network)
		}
		to, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrClosed, err)
		}
		return a.Check(to.Addr(), tls)
	}
}
