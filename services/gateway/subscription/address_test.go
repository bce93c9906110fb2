package subscription

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestAddresses(t *testing.T) {
	for _, refused := range []string{
		"127.0.0.1", "127.8.8.8", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254", "100.64.0.1",
		"100.100.100.200", "0.0.0.0", "0.1.2.3", "224.0.0.1", "239.1.1.1", "255.255.255.255", "240.0.0.1", "192.0.0.192", "198.18.0.1",
		"168.63.129.16", "::", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::7f00:1",
		"64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "2001:db8::1",
		"2001::1", "2002:7f00:1::", "100::1",
	} {
		if err := (allowed{}).check(netip.MustParseAddr(refused), true); !errors.Is(err, errClosed) {
			t.Errorf("%s: %v", refused, err)
		}
	}
	for _, open := range []string{"1.1.1.1", "172.32.0.1", "2606:4700:4700::1111", "::ffff:8.8.8.8"} {
		if err := (allowed{}).check(netip.MustParseAddr(open), true); err != nil {
			t.Errorf("%s: %v", open, err)
		}
	}
	if err := (allowed{}).check(netip.MustParseAddr("1.1.1.1"), false); !errors.Is(err, errClosed) || !strings.Contains(err.Error(), "https") {
		t.Errorf("without TLS: %v", err)
	}
	ranges, err := ParseAllowed("10.0.0.0/8, 192.168.7.7 fd00::/8")
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]bool{"10.9.9.9": true, "::ffff:10.9.9.9": true, "192.168.7.7": true, "192.168.7.8": false, "fd12::1": true, "127.0.0.1": false} {
		if err := allowed(ranges).check(netip.MustParseAddr(addr), false); (err == nil) != want {
			t.Errorf("%s: %v", addr, err)
		}
	}
	for _, bad := range []string{"10.0.0.0/99", "example.org", "::ffff:10.0.0.0/104", "fe80::1%eth0"} {
		if _, err := ParseAllowed(bad); err == nil {
			t.Errorf("%s was taken for a range", bad)
		}
	}
}

// A redirect to a closed address is not followed, whoever it comes from.
func TestRedirectIsNotFollowed(t *testing.T) {
	var reached atomic.Bool
	inner := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Store(true) }))
	defer inner.Close()
	outer := httptest.NewServer(http.RedirectHandler(inner.URL, http.StatusTemporaryRedirect))
	defer outer.Close()
	c := newClients(loopback, nil, nil)
	defer c.close()
	status, h, err := c.do(t.Context(), time.Second, http.MethodPost, outer.URL, http.Header{}, nil)
	if o := judge(heard{status, h, err}, time.Now()); reached.Load() || o.verdict != again || !strings.Contains(o.reason, "redirect") {
		t.Errorf("%+v, reached %v", o, reached.Load())
	}
}

// A proxy of the environment would dial in the gateway's place, without its checks.
func TestNoProxy(t *testing.T) {
	var asked atomic.Bool
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Store(true) }))
	defer proxy.Close()
	t.Setenv("HTTP_PROXY", proxy.URL)
	t.Setenv("HTTPS_PROXY", proxy.URL)
	c := newClients(nil, nil, nil)
	defer c.close()
	_, _, err := c.do(t.Context(), time.Second, http.MethodPost, "http://10.1.2.3/", http.Header{}, nil)
	if !errors.Is(err, errClosed) || asked.Load() {
		t.Errorf("%v, proxy asked: %v", err, asked.Load())
	}
}

// A name that stood for an open address when it was asked for the first time stands for a closed one the second time.
func TestNameThatChanges(t *testing.T) {
	var hits, answers atomic.Int32
	sink := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		hits.Add(1)
		w.Header().Set("Connection", "close") // or the second request needs no name
	}))
	defer sink.Close()
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(sink.URL, "https://"))
	server := newNameServer(t, func() net.IP {
		if answers.Add(1) == 1 {
			return net.IPv4(127, 0, 0, 1) // where the test's sink is; open by the option
		}
		return net.IPv4(127, 0, 0, 2)
	})
	roots := x509.NewCertPool()
	roots.AddCert(sink.Certificate())
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", server)
	}}
	c := newClients([]netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, resolver, &tls.Config{RootCAs: roots, ServerName: "example.com", MinVersion: tls.VersionTLS12})
	defer c.close()
	url := "https://moving.example.com:" + port + "/"
	if status, _, err := c.do(t.Context(), 5*time.Second, http.MethodPost, url, http.Header{}, nil); err != nil || status != 200 {
		t.Fatalf("the first time: %d, %v", status, err)
	}
	if _, _, err := c.do(t.Context(), 5*time.Second, http.MethodPost, url, http.Header{}, nil); !errors.Is(err, errClosed) {
		t.Errorf("the second time: %v", err)
	}
	if hits.Load() != 1 {
		t.Errorf("the sink was reached %d times", hits.Load())
	}
}

// newNameServer answers every question for an IPv4 address.
func newNameServer(t *testing.T, answer func() net.IP) (address string) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { _ = conn.Close(); <-done })
	go func() {
		defer close(done)
		b := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo(nameAnswer(b[:n], answer), from)
		}
	}()
	return conn.LocalAddr().String()
}

// nameAnswer is a DNS message with the question and, for type A, one address of no lifetime.
func nameAnswer(question []byte, answer func() net.IP) []byte {
	end := 12
	for question[end] != 0 {
		end += int(question[end]) + 1
	}
	kind := question[end+2]
	end += 5
	out := append([]byte{question[0], question[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, question[12:end]...)
	if kind != 1 {
		return out
	}
	out[7] = 1
	out = append(out, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
	return append(out, answer().To4()...)
}

// A large or endless answer is not read to its end, and one that does not come ends the try.
func TestAnswersAreBounded(t *testing.T) {
	endless := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 32<<10)); err != nil {
				return
			}
		}
	}))
	defer endless.Close()
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer silent.Close()
	c := newClients(loopback, nil, nil)
	defer c.close()
	if status, _, err := c.do(t.Context(), patience, http.MethodPost, endless.URL, http.Header{}, nil); err != nil || status != 200 {
		t.Errorf("endless: %d, %v", status, err)
	}
	_, _, err := c.do(t.Context(), 50*time.Millisecond, http.MethodPost, silent.URL+"/?token=geheim", http.Header{}, nil)
	if err == nil || !strings.Contains(err.Error(), "within 50ms") || strings.Contains(err.Error(), "geheim") {
		t.Errorf("silent: %v", err)
	}
}
