package outward

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func TestAddresses(t *testing.T) {
	for _, refused := range []string{
		"127.0.0.1", "127.8.8.8", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254", "100.64.0.1",
		"100.100.100.200", "0.0.0.0", "0.1.2.3", "224.0.0.1", "239.1.1.1", "255.255.255.255", "240.0.0.1", "192.0.0.192", "198.18.0.1",
		"168.63.129.16", "::", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::7f00:1",
		"64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "2001:db8::1",
		"2001::1", "2002:7f00:1::", "100::1",
	} {
		if err := (Allowed{}).Check(netip.MustParseAddr(refused), true); !errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v", refused, err)
		}
	}
	for _, open := range []string{"1.1.1.1", "172.32.0.1", "2606:4700:4700::1111", "::ffff:8.8.8.8"} {
		if err := (Allowed{}).Check(netip.MustParseAddr(open), true); err != nil {
			t.Errorf("%s: %v", open, err)
		}
	}
	if err := (Allowed{}).Check(netip.MustParseAddr("1.1.1.1"), false); !errors.Is(err, ErrClosed) || !strings.Contains(err.Error(), "https") {
		t.Errorf("without TLS: %v", err)
	}
	ranges, err := Parse("10.0.0.0/8, 192.168.7.7 fd00::/8")
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]bool{"10.9.9.9": true, "::ffff:10.9.9.9": true, "192.168.7.7": true, "192.168.7.8": false, "fd12::1": true, "127.0.0.1": false} {
		if err := ranges.Check(netip.MustParseAddr(addr), false); (err == nil) != want {
			t.Errorf("%s: %v", addr, err)
		}
	}
	for _, bad := range []string{"10.0.0.0/99", "example.org", "::ffff:10.0.0.0/104", "fe80::1%eth0"} {
		if _, err := Parse(bad); err == nil {
			t.Errorf("%s was taken for a range", bad)
		}
	}
}
