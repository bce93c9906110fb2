package subscription

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

func post(t *testing.T, c *clients, url, body string) (status int, err error) {
	t.Helper()
	status, _, err = c.do(t.Context(), patience, http.MethodPost, url, http.Header{"Ce-Id": {"1"}}, []byte(body))
	return status, err
}

// counted is a receiver that counts its connections.
func counted(t *testing.T, h http.HandlerFunc, begin func(*httptest.Server)) (*httptest.Server, *atomic.Int32) {
	t.Helper()
	opened := new(atomic.Int32)
	s := httptest.NewUnstartedServer(h)
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	begin(s)
	t.Cleanup(s.Close)
	return s, opened
}

func echoes(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if string(body) != "hello" || r.Header.Get("Ce-Id") != "1" || r.ContentLength != 5 {
		w.WriteHeader(http.StatusBadRequest)
	}
	_, _ = fmt.Fprintf(w, "%s", strings.Repeat("x", 3000)) // in chunks, as nothing says how much
}

// One connection serves one request after the other, in the clear and over TLS, and takes no goroutine while it waits.
func TestConnectionsAreUsedAgain(t *testing.T) {
	for name, begin := range map[string]func(*httptest.Server){"plain": (*httptest.Server).Start, "tls": (*httptest.Server).StartTLS} {
		t.Run(name, func(t *testing.T) {
			s, opened := counted(t, echoes, begin)
			c := newClients(loopback, nil, nil)
			if s.TLS != nil {
				c = newClients(loopback, nil, s.Client().Transport.(*http.Transport).TLSClientConfig)
			}
			t.Cleanup(c.close)
			for range 10 {
				if status, err := post(t, c, s.URL, "hello"); err != nil || status != http.StatusOK {
					t.Fatal(status, err)
				}
			}
			if n := opened.Load(); n != 1 {
				t.Errorf("%d connections", n)
			}
		})
	}
}

func TestIdleConnectionsHaveNoGoroutine(t *testing.T) {
	const many = 50
	var all sync.WaitGroup
	gate := make(chan struct{})
	arrived := new(atomic.Int32)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	all.Go(func() { // a receiver of one goroutine for all, or its own would count
		var conns []net.Conn
		for range many {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conns = append(conns, conn)
			arrived.Add(1)
		}
		<-gate
		for _, conn := range conns {
			if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
				t.Error(err)
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 204 No Content\r\n\r\n")
		}
	})
	c := newClients(loopback, nil, nil)
	t.Cleanup(c.close)
	before := runtime.NumGoroutine()
	var requests sync.WaitGroup
	for range many {
		requests.Go(func() {
			if status, err := post(t, c, "http://"+listener.Addr().String(), ""); err != nil || status != http.StatusNoContent {
				t.Error(status, err)
			}
		})
	}
	until(t, func() bool { return arrived.Load() == many })
	close(gate)
	requests.Wait()
	all.Wait()
	if c.count != many {
		t.Errorf("%d connections wait", c.count)
	}
	until(t, func() bool { return runtime.NumGoroutine() <= before })
}

func until(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); <-time.After(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not in time")
		}
	}
}

// A receiver may close a connection that waits, at any time: the next request goes over another one.
func TestConnectionClosedWhileItWaited(t *testing.T) {
	s, opened := counted(t, echoes, (*httptest.Server).Start)
	c := newClients(loopback, nil, nil)
	t.Cleanup(c.close)
	for range 3 {
		if status, err := post(t, c, s.URL, "hello"); err != nil || status != http.StatusOK {
			t.Fatal(status, err)
		}
		s.CloseClientConnections()
	}
	if n := opened.Load(); n != 3 {
		t.Errorf("%d connections", n)
	}
}

// A fresh connection that ends without an answer is an error: whether to try again is not decided here.
func TestNoAnswer(t *testing.T) {
	var asked atomic.Int32
	s, _ := counted(t, func(http.ResponseWriter, *http.Request) {
		asked.Add(1)
		panic(http.ErrAbortHandler)
	}, (*httptest.Server).Start)
	c := newClients(loopback, nil, nil)
	t.Cleanup(c.close)
	if status, err := post(t, c, s.URL, "hello"); err == nil || asked.Load() != 1 {
		t.Errorf("%d, %v, asked %d times", status, err, asked.Load())
	}
}

// raw answers every connection with a text, after it has read so much of the request.
func raw(t *testing.T, read int64, answer string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = io.CopyN(io.Discard, conn, read)
			_, _ = io.WriteString(conn, answer)
			_ = conn.(*net.TCPConn).CloseWrite()
			serving.Go(func() { _, _ = io.Copy(io.Discard, conn); _ = conn.Close() })
		}
	})
	t.Cleanup(func() { _ = listener.Close(); serving.Wait() })
	return "http://" + listener.Addr().String()
}

func TestAnswersOutOfTheOrdinary(t *testing.T) {
	for name, test := range map[string]struct {
		answer string
		status int
		err    string
	}{
		"informal first":     {"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n", 202, ""},
		"informal only":      {strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 20), 0, "does not begin"},
		"of an old version":  {"HTTP/1.0 200 OK\r\n\r\nbody until the end", 200, ""},
		"a body cut short":   {"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this", 200, ""},
		"a header too large": {"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 2*mostHeader) + "\r\n\r\n", 0, "more than 65536 bytes"},
		"no HTTP":            {"220 mail.example.org ESMTP\r\n", 0, "malformed"},
		"nothing":            {"", 0, "EOF"},
		"more than asked":    {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, ""},
	} {
		t.Run(name, func(t *testing.T) {
			url := raw(t, 10, test.answer)
			c := newClients(loopback, nil, nil)
			t.Cleanup(c.close)
			status, err := post(t, c, url, "hello")
			if status != test.status || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("%d, %v", status, err)
			}
			if name != "informal first" && c.count != 0 {
				t.Errorf("%d connections are kept", c.count)
			}
		})
	}
}

// A receiver that does not want all of a large body answers before it has it.
func TestAnswerBeforeTheEndOfTheRequest(t *testing.T) {
	url := raw(t, 100, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
	c := newClients(loopback, nil, nil)
	t.Cleanup(c.close)
	if status, err := post(t, c, url, strings.Repeat("x", 1<<20)); err != nil || status != http.StatusRequestEntityTooLarge {
		t.Error(status, err)
	}
}

// together is a connection of a receiver that can send several writes as one.
type together struct {
	net.Conn
	holds bool
	held  []byte
}

func (g *together) Write(b []byte) (int, error) {
	if !g.holds {
		return g.Conn.Write(b)
	}
	g.held = append(g.held, b...)
	return len(b), nil
}

func (g *together) send() error {
	g.holds = false
	_, err := g.Conn.Write(g.held)
	return err
}

type togethers struct{ net.Listener }

func (l togethers) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return &together{Conn: conn}, err
}

// What a receiver says unasked is nobody's answer, whether it comes while the connection waits, or close behind an answer.
func TestUnaskedAnswerIsNobodys(t *testing.T) {
	const taken, gone = "HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n"
	for name, test := range map[string]struct {
		begin  func(*httptest.Server)
		behind bool
	}{
		"plain": {(*httptest.Server).Start, false}, "tls": {(*httptest.Server).StartTLS, false}, "tls, behind": {(*httptest.Server).StartTLS, true},
	} {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int32
			say, said := make(chan struct{}), make(chan struct{})
			s, opened := counted(t, func(w http.ResponseWriter, r *http.Request) {
				if asked.Add(1) > 1 {
					w.WriteHeader(http.StatusNoContent)
					return
				}
				conn, _, err := w.(http.Hijacker).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				defer func() { _ = conn.Close() }()
				if test.behind {
					under := conn.(*tls.Conn).NetConn().(*together)
					under.holds = true
					_, _ = io.WriteString(conn, taken)
					_, _ = io.WriteString(conn, gone)
					if err := under.send(); err != nil {
						t.Error(err)
					}
				} else {
					_, _ = io.WriteString(conn, taken)
					<-say
					_, _ = io.WriteString(conn, gone)
				}
				close(said)
				_, _ = io.Copy(io.Discard, conn)
			}, func(s *httptest.Server) { s.Listener = togethers{s.Listener}; test.begin(s) })
			c := newClients(loopback, nil, nil)
			if s.TLS != nil {
				c = newClients(loopback, nil, s.Client().Transport.(*http.Transport).TLSClientConfig)
			}
			t.Cleanup(c.close)
			for n := range 2 {
				if status, err := post(t, c, s.URL, "hello"); err != nil || status != http.StatusNoContent {
					t.Errorf("request %d: %d, %v", n+1, status, err)
				}
				if n == 0 {
					close(say)
					<-said
				}
			}
			if n := opened.Load(); n != 2 {
				t.Errorf("%d connections", n)
			}
		})
	}
}

// What nobody has used for a while is closed.
func TestIdleConnectionsAreClosed(t *testing.T) {
	s, _ := counted(t, echoes, (*httptest.Server).Start)
	c := newClients(loopback, nil, nil)
	if status, err := post(t, c, s.URL, "hello"); err != nil || status != http.StatusOK {
		t.Fatal(status, err)
	}
	c.drop(time.Now().Add(-idleTimeout))
	if c.count != 1 || c.sweep == nil {
		t.Errorf("%d wait, looked at again: %v", c.count, c.sweep != nil)
	}
	c.drop(time.Now().Add(time.Second))
	if c.count != 0 || len(c.idle) != 0 || c.sweep != nil {
		t.Errorf("%d wait, looked at again: %v", c.count, c.sweep != nil)
	}
}

// What a receiver answers at once is heard at once; whoever takes longer, or has closed the connection, is waited for
// elsewhere, and in no case is a request sent twice that may have been taken.
func TestSendSoon(t *testing.T) {
	var asked atomic.Int32
	slow := make(chan struct{})
	s, opened := counted(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.URL.Path == "/slow" {
			<-slow
		}
		w.WriteHeader(http.StatusAccepted)
	}, (*httptest.Server).Start)
	c := newClients(loopback, nil, nil)
	t.Cleanup(c.close)
	soon := func(path string) (heard, func() heard) {
		to, err := newTarget(s.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		return c.sendSoon(t.Context(), beside, patience, request{method: http.MethodPost, to: to, body: []byte("hello")})
	}
	expect := func(what string, h heard, requests, connections int32) {
		t.Helper()
		if h.err != nil || h.status != http.StatusAccepted || asked.Load() != requests || opened.Load() != connections {
			t.Errorf("%s: %+v after %d requests over %d connections", what, h, asked.Load(), opened.Load())
		}
	}
	_, rest := soon("/")
	if rest == nil || asked.Load() != 0 {
		t.Fatal("there was no connection, and it did not leave dialling to others")
	}
	expect("the first", rest(), 1, 1)
	h, rest := soon("/")
	if rest != nil {
		t.Fatal("not at once")
	}
	expect("at once", h, 2, 1)
	if _, rest = soon("/slow"); rest == nil {
		t.Fatal("it waited")
	}
	close(slow)
	expect("slow", rest(), 3, 1)
	s.CloseClientConnections()
	if h, rest = soon("/"); rest != nil { // it may have been seen only when the answer was to be read
		h = rest()
	}
	expect("closed meanwhile", h, 4, 2)
}

// stuck is a connection that can neither be written to nor closed at once, as over TLS to a receiver that reads nothing.
type stuck struct {
	net.Conn
	release, closed chan struct{}
}

func (s *stuck) Write([]byte) (int, error)   { return 0, os.ErrDeadlineExceeded }
func (s *stuck) SetDeadline(time.Time) error { return nil }
func (s *stuck) Close() error                { <-s.release; close(s.closed); return s.Conn.Close() }

func (s *stuck) SyscallConn() (syscall.RawConn, error) { return s.Conn.(*net.TCPConn).SyscallConn() }

// Whoever closes a connection does not wait for its goodbye.
func TestGoodbyeIsNotWaitedFor(t *testing.T) {
	c := newClients(loopback, nil, nil)
	to, err := newTarget("https://example.org/")
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	for name, use := range map[string]func(k *connection){
		"answered": func(k *connection) { c.finished(k, answered{}) },
		"not taken": func(k *connection) {
			c.keep(k)
			if _, rest := c.sendSoon(t.Context(), prompt, patience, request{method: http.MethodPost, to: to}); rest == nil {
				t.Error("it was sent")
			}
		},
		"idle": func(k *connection) {
			c.keep(k)
			c.close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			s := &stuck{Conn: conn, release: make(chan struct{}), closed: make(chan struct{})}
			release := time.AfterFunc(patience, func() { close(s.release) })
			use(&connection{Conn: s, origin: to.origin})
			if !release.Stop() {
				t.Fatal("it waited")
			}
			close(s.release)
			<-s.closed
		})
	}
}
