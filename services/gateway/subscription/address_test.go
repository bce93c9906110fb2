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

	"github.com/lemnis/lemnis/internal/outward"
)

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
	if !errors.Is(err, outward.ErrClosed) || asked.Load() {
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
	if _, _, err := c.do(t.Context(), 5*time.Second, http.MethodPost, url, http.Header{}, nil); !errors.Is(err, outward.ErrClosed) {
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
