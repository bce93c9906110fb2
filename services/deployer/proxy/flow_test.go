package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// While routes change and the old version is stopped as soon as it has drained, no user sees a failure, whatever
// the method and the body.
func TestNoRequestFailsWhenRoutesChange(t *testing.T) {
	echo := func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			w.WriteHeader(500)
		}
		_, _ = w.Write(body)
	}
	f := front(t, Config{}, Routes{})
	start := func(name string) (*httptest.Server, Upstream) {
		s := httptest.NewServer(http.HandlerFunc(echo))
		return s, Upstream{name, s.URL}
	}
	server, upstream := start("v0")
	if err := f.SetRoutes(Routes{Stable: upstream}); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var workers sync.WaitGroup
	body := strings.Repeat("x", 10000)
	for worker := range 4 {
		workers.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				r, _ := http.NewRequest([]string{"POST", "PUT"}[i%2], f.URL(), strings.NewReader(body))
				r.Header.Set(UserHeader, fmt.Sprint(worker, i))
				response, err := http.DefaultClient.Do(r)
				if err != nil {
					t.Error(err)
					return
				}
				got, err := io.ReadAll(response.Body)
				response.Body.Close()
				if err != nil || response.StatusCode != 200 || string(got) != body {
					t.Errorf("status %d, %d bytes, %v", response.StatusCode, len(got), err)
					return
				}
			}
		})
	}
	for i := 1; i <= 25; i++ {
		next, to := start(fmt.Sprint("v", i))
		for _, routes := range []Routes{{Stable: upstream, Canary: &to, Weight: 0.3}, {Stable: upstream, Canary: &to, Weight: 0.8}, {Stable: to}} {
			if err := f.SetRoutes(routes); err != nil {
				t.Fatal(err)
			}
		}
		within(t, "drain", f.Drain(upstream.Version))
		server.CloseClientConnections()
		server.Close()
		if !f.Forget(upstream.Version) {
			t.Error("a drained version was not forgotten")
		}
		server, upstream = next, to
	}
	close(stop)
	workers.Wait()
	server.Close()
	if got := f.Snapshot().Versions[upstream.Version].Errors; got != 0 {
		t.Errorf("%d errors", got)
	}
}

func TestStreamsFlushAndHoldTheDrain(t *testing.T) {
	next := make(chan string)
	stable := serve(t, "v1", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for line := range next {
			fmt.Fprintln(w, line)
			w.(http.Flusher).Flush()
		}
	})
	f := front(t, Config{}, Routes{Stable: stable})
	answer := make(chan *http.Response)
	go func() {
		response, err := http.Get(f.URL())
		if err != nil {
			t.Error(err)
		}
		answer <- response
	}()
	next <- "one"
	response := <-answer
	defer response.Body.Close()
	lines := bufio.NewReader(response.Body)
	if line, _ := lines.ReadString('\n'); line != "one\n" {
		t.Fatalf("read %q", line)
	}
	if got := f.Snapshot().Versions["v1"]; got.Requests != 1 || got.InFlight != 1 {
		t.Errorf("a running stream: %+v", got)
	}
	if err := f.SetRoutes(Routes{Stable: serve(t, "v2", nil)}); err != nil {
		t.Fatal(err)
	}
	drained := f.Drain("v1")
	next <- "two"
	if line, _ := lines.ReadString('\n'); line != "two\n" {
		t.Fatalf("read %q", line)
	}
	select {
	case <-drained:
		t.Fatal("drained under a running stream")
	default:
	}
	close(next)
	within(t, "drain", drained)
}

func TestUpgrade(t *testing.T) {
	stable := serve(t, "v1", func(w http.ResponseWriter, r *http.Request) {
		conn, buffer, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		_, _ = io.Copy(conn, buffer)
	})
	f := front(t, Config{}, Routes{Stable: stable})
	conn, err := net.Dial("tcp", f.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, nil)
	if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v %v", response, err)
	}
	fmt.Fprint(conn, "hello\n")
	if line, _ := reader.ReadString('\n'); line != "hello\n" {
		t.Errorf("echoed %q", line)
	}
	conn.Close()
	if err := f.SetRoutes(Routes{Stable: serve(t, "v2", nil)}); err != nil {
		t.Fatal(err)
	}
	within(t, "drain", f.Drain("v1"))
}

func TestAnswerWhileTheBodyIsStillSent(t *testing.T) {
	f := front(t, Config{}, Routes{Stable: serve(t, "v1", func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		chunk := make([]byte, 500)
		for {
			n, err := r.Body.Read(chunk)
			_, _ = w.Write(chunk[:n])
			w.(http.Flusher).Flush()
			if err != nil {
				return
			}
		}
	})})
	body, send := io.Pipe()
	response, err := http.Post(f.URL(), "text/plain", body)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	for range 3 {
		line := strings.Repeat("x", 2000)
		fmt.Fprint(send, line)
		got := make([]byte, len(line))
		if _, err := io.ReadFull(response.Body, got); err != nil || string(got) != line {
			t.Fatalf("%q %v", got, err)
		}
	}
	send.Close()
	if rest, err := io.ReadAll(response.Body); err != nil || len(rest) > 0 {
		t.Errorf("%q %v", rest, err)
	}
}

// echo is an upstream that goes on in a protocol of its own, and says everything again.
func echo(t *testing.T, version string) Upstream {
	t.Helper()
	return raw(t, version, func(conn net.Conn, in *bufio.Reader, _ int) {
		if _, err := http.ReadRequest(in); err == nil {
			fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
			_, _ = io.Copy(conn, in)
		}
	})
}

// upgrade is a client that is joined with an echo.
func upgrade(t *testing.T, f *Front) *keptClient {
	t.Helper()
	c := keep(t, f)
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	if response, err := http.ReadResponse(c.in, nil); err != nil || response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v %v", response, err)
	}
	return c
}

// A front that closes waits for upgraded connections as for any request, and cuts them when it may not wait longer.
func TestCloseWaitsForUpgradedConnections(t *testing.T) {
	for name, cut := range map[string]bool{"they end": false, "they are cut": true} {
		t.Run(name, func(t *testing.T) {
			f := front(t, Config{}, Routes{Stable: echo(t, "v1")})
			c := upgrade(t, f)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			closed := make(chan error, 1)
			go func() { closed <- f.Close(ctx) }()
			eventually(t, "the front to wait", func() bool { return f.upgraded.closing.Load() })
			for range 3 {
				fmt.Fprint(c, "hello\n")
				if line, _ := c.in.ReadString('\n'); line != "hello\n" {
					t.Errorf("echoed %q", line)
				}
				select {
				case err := <-closed:
					t.Fatalf("the front has closed under an upgraded connection: %v", err)
				default:
				}
			}
			if cut {
				cancel()
				if _, err := c.in.ReadByte(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("a connection that was cut: %v", err)
				}
			} else {
				_ = c.Close()
			}
			if err := <-closed; (err != nil) != cut {
				t.Errorf("closed with %v", err)
			}
			eventually(t, "the request to be over", func() bool { return f.Snapshot().Versions["v1"].InFlight == 0 })
		})
	}
}

// versions of HTTP that users speak, by name.
func versions() map[string]*http.Client {
	var two http.Protocols
	two.SetUnencryptedHTTP2(true)
	return map[string]*http.Client{"HTTP/1.1": {Transport: &http.Transport{}}, "HTTP/2": {Transport: &http.Transport{Protocols: &two}}}
}

// A client that does not send the rest of its body is told so, has no request in flight any more, and is nobody's error.
func TestAnUploadThatStalls(t *testing.T) {
	for name, client := range versions() {
		t.Run(name, func(t *testing.T) {
			broke := make(chan struct{})
			f := front(t, Config{Patience: time.Nanosecond}, Routes{Stable: serve(t, "v1", func(_ http.ResponseWriter, r *http.Request) {
				if _, err := io.Copy(io.Discard, r.Body); err != nil {
					close(broke)
				}
			})})
			f.stall = 500 * time.Millisecond // also what the answer may take to be written
			body, send := io.Pipe()
			defer time.AfterFunc(20*time.Second, func() { _ = send.Close() }).Stop() // or the client waits for ever where its connection ends
			defer send.Close()
			go func() { _, _ = send.Write([]byte("half")) }()
			response, err := client.Post(f.URL(), "text/plain", body)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			if response.StatusCode != http.StatusRequestTimeout || response.ProtoMajor == 1 && !response.Close {
				t.Errorf("%d, close %v", response.StatusCode, response.Close)
			}
			within(t, "end at the upstream", broke)
			eventually(t, "the request to be over", func() bool {
				got := f.Snapshot().Versions["v1"]
				return got.InFlight == 0 && got.Requests == 1 && got.Errors == 0
			})
		})
	}
}

// late is a body whose client is given up before it says that it stalled, as the server does it.
type late struct{ giveUp context.CancelFunc }

func (l late) Read([]byte) (int, error) {
	l.giveUp()
	<-time.After(50 * time.Millisecond) // the front notices meanwhile
	return 0, os.ErrDeadlineExceeded
}

// A client that is given up because it stalls has not left, whoever notices first.
func TestAStallIsToldThatIsNoticedLate(t *testing.T) {
	f := front(t, Config{}, Routes{Stable: serve(t, "v1", func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })})
	ctx, giveUp := context.WithCancel(t.Context())
	w := httptest.NewRecorder()
	f.serve(w, httptest.NewRequestWithContext(ctx, http.MethodPost, "/", late{giveUp}))
	if w.Code != http.StatusRequestTimeout {
		t.Error(w.Code)
	}
}

// A body that has gone whole to an upstream, which answers at once, ends no connection.
func TestAnAnswerRightAfterTheBody(t *testing.T) {
	f := front(t, Config{}, Routes{Stable: raw(t, "v1", func(conn net.Conn, in *bufio.Reader, _ int) {
		for {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				return
			}
			fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})})
	conn := connected(t, f, 30*time.Second)
	in := bufio.NewReader(conn)
	const size = 100_000
	for i := range 500 {
		fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", size, strings.Repeat("x", size))
		response, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		if _, err := io.Copy(io.Discard, response.Body); err != nil || response.StatusCode != http.StatusOK || response.Close {
			t.Fatalf("request %d: %s, %v, close %v", i, response.Status, err, response.Close)
		}
	}
}

// A client that takes no more of its answer is cut, and is nobody's error.
func TestAReaderThatStalls(t *testing.T) {
	for name, client := range versions() {
		for _, path := range []string{"/chunks", "/known"} {
			t.Run(name+path, func(t *testing.T) {
				f := front(t, Config{}, Routes{Stable: serve(t, "v1", func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/known" {
						w.Header().Set("Content-Length", "1000000000000")
					}
					for block := make([]byte, 64<<10); r.Context().Err() == nil; {
						_, _ = w.Write(block)
					}
				})})
				f.stall = 50 * time.Millisecond
				response, err := client.Get(f.URL() + path)
				if err != nil {
					t.Fatal(err)
				}
				defer response.Body.Close()
				eventually(t, "the request to be over", func() bool {
					got := f.Snapshot().Versions["v1"]
					return got.InFlight == 0 && got.Requests == 1 && got.Errors == 0
				})
			})
		}
	}
}

// What an upstream takes its time for stalls nobody, before the answer and within it, nor does a body that goes on and on.
func TestPausesOfTheUpstreamAreNotTheClients(t *testing.T) {
	const stall = 200 * time.Millisecond
	for name, client := range versions() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := front(t, Config{}, Routes{Stable: serve(t, "v1", func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				for range 3 {
					<-time.After(2 * stall)
					fmt.Fprint(w, string(body), err)
					w.(http.Flusher).Flush()
				}
			})})
			f.stall = stall
			body, send := io.Pipe()
			go func() {
				for range 20 {
					fmt.Fprint(send, "x")
					<-time.After(stall / 10)
				}
				_ = send.Close()
			}()
			response, err := client.Post(f.URL(), "text/plain", body)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			want := strings.Repeat(strings.Repeat("x", 20)+"<nil>", 3)
			if got, err := io.ReadAll(response.Body); string(got) != want || err != nil {
				t.Errorf("%d %q %v", response.StatusCode, got, err)
			}
		})
	}
}

// Who sent a body that can not be read is not told that all is well.
func TestABrokenUploadIsNotAnswered(t *testing.T) {
	f := front(t, Config{}, Routes{Stable: serve(t, "v1", func(_ http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			panic(http.ErrAbortHandler)
		}
	})})
	if answer := say(t, f, "POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\nnot a length\r\n"); strings.Contains(answer, "200 OK") {
		t.Errorf("%q", answer)
	}
}

// connected is a connection to a front, which ends with the test, or after its patience.
func connected(t *testing.T, f *Front, patience time.Duration) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", f.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	return conn
}
