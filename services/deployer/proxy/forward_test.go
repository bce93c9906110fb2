package proxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// raw is an upstream that is told byte by byte what to say: answer gets each connection.
func raw(t *testing.T, version string, answer func(conn net.Conn, in *bufio.Reader, n int)) Upstream {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for n := 1; ; n++ {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				answer(conn, bufio.NewReader(conn), n)
			}()
		}
	}()
	return Upstream{version, "http://" + listener.Addr().String()}
}

// say sends a request byte by byte, and reads the answers until the front closes.
func say(t *testing.T, f *Front, text string) string {
	t.Helper()
	conn, err := net.Dial("tcp", f.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	all, _ := io.ReadAll(conn)
	return string(all)
}

func TestHeadersOnTheWay(t *testing.T) {
	var seen http.Header
	f := front(t, Config{}, Routes{Stable: serve(t, "v1", func(w http.ResponseWriter, r *http.Request) {
		seen = r.Header.Clone()
		seen.Set("Host", r.Host)
		w.Header().Set("Connection", "X-Private")
		w.Header().Set("X-Private", "secret")
		w.Header().Set("Keep-Alive", "timeout=5")
		w.Header().Set("Proxy-Authenticate", "Basic")
		w.Header()["X-Two"] = []string{"one", "two"}
		w.WriteHeader(http.StatusTeapot)
	})})
	r, _ := http.NewRequest(http.MethodGet, f.URL()+"/a%2Fb?x=1;y=%zz", nil)
	r.Host = "shop.example"
	r.Header = http.Header{"Connection": {"close, X-Hop"}, "X-Hop": {"1"}, "Te": {"gzip"}, "Proxy-Authorization": {"x"}, "Forwarded": {"for=evil"},
		"X-Forwarded-For": {"6.6.6.6"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {"evil"}, "X-Kept": {"a", "b"}, UserHeader: {"ann"}}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	for name, want := range map[string][]string{
		"X-Hop": nil, "Te": nil, "Proxy-Authorization": nil, "Forwarded": nil, "Connection": nil, "X-Kept": {"a", "b"}, "Host": {"shop.example"},
		"X-Forwarded-For": {"127.0.0.1"}, "X-Forwarded-Proto": {"http"}, "X-Forwarded-Host": {"shop.example"},
	} {
		if !slices.Equal(seen[name], want) {
			t.Errorf("the upstream got %s %q, want %q", name, seen[name], want)
		}
	}
	for name, want := range map[string][]string{"X-Private": nil, "Keep-Alive": nil, "Proxy-Authenticate": nil, "X-Two": {"one", "two"}} {
		if !slices.Equal(response.Header[name], want) {
			t.Errorf("the client got %s %q, want %q", name, response.Header[name], want)
		}
	}
	if response.StatusCode != http.StatusTeapot {
		t.Errorf("status %d", response.StatusCode)
	}
}

func TestBodilessAnswers(t *testing.T) {
	f := front(t, Config{}, Routes{Stable: serve(t, "v1", func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/head":
			w.Header().Set("Content-Length", "1234")
		case "/none":
			w.WriteHeader(http.StatusNoContent)
		case "/same":
			w.WriteHeader(http.StatusNotModified)
		}
	})})
	for range 2 { // the connection has to be good for another request
		for path, want := range map[string]struct {
			method string
			status int
			length int64
		}{"/head": {http.MethodHead, 200, 1234}, "/none": {http.MethodGet, 204, 0}, "/same": {http.MethodGet, 304, 0}, "/empty": {http.MethodPost, 200, 0}} {
			r, _ := http.NewRequest(want.method, f.URL()+path, nil)
			response, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(response.Body)
			response.Body.Close()
			if err != nil || response.StatusCode != want.status || response.ContentLength != want.length || len(body) > 0 {
				t.Errorf("%s %s: %d, length %d, %q %v", want.method, path, response.StatusCode, response.ContentLength, body, err)
			}
		}
	}
}

// What kind of a body it is, nobody says but the upstream.
func TestNoContentTypeIsGuessed(t *testing.T) {
	f := front(t, Config{}, Routes{Stable: serve(t, "v1", func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Content-Type"] = nil
		fmt.Fprint(w, "<html>")
		if r.URL.Path == "/chunks" {
			w.(http.Flusher).Flush()
		}
	})})
	for _, path := range []string{"/", "/chunks"} {
		response, err := http.Get(f.URL() + path)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if got, said := response.Header["Content-Type"]; said {
			t.Errorf("%s: Content-Type %q", path, got)
		}
	}
}

func TestTrailers(t *testing.T) {
	f := front(t, Config{}, Routes{Stable: serve(t, "v1", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		body, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %v", body, err)
		w.(http.Flusher).Flush()
		w.Header().Set("X-Sum", r.Trailer.Get("X-Count"))
	})})
	r, _ := http.NewRequest(http.MethodPost, f.URL(), io.MultiReader(strings.NewReader("one "), strings.NewReader("two")))
	r.Trailer = http.Header{"X-Count": {"7"}}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if string(body) != "one two <nil>" || err != nil || response.Trailer.Get("X-Sum") != "7" {
		t.Errorf("%q %v, trailer %v", body, err, response.Trailer)
	}
}

func TestExpectContinue(t *testing.T) {
	const size = 1 << 20
	var read atomic.Int64
	f := front(t, Config{}, Routes{Stable: serve(t, "v1", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/refused" {
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		n, _ := io.Copy(io.Discard, r.Body)
		read.Store(n)
	})})
	send := func(path string) (status int, sent int64, continued bool) {
		body := &counted{Reader: bytes.NewReader(make([]byte, size))}
		r, _ := http.NewRequest(http.MethodPut, f.URL()+path, body)
		r.ContentLength = size
		r.Header.Set("Expect", "100-continue")
		r = r.WithContext(httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got100Continue: func() { continued = true }}))
		response, err := (&http.Transport{ExpectContinueTimeout: 10 * time.Second}).RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		_, _ = io.Copy(io.Discard, response.Body)
		return response.StatusCode, body.n.Load(), continued
	}
	if status, sent, continued := send("/refused"); status != http.StatusUnauthorized || sent != 0 || continued {
		t.Errorf("refused: %d, %d bytes sent, continued %v", status, sent, continued)
	}
	if status, sent, continued := send("/taken"); status != http.StatusOK || sent != size || !continued || read.Load() != size {
		t.Errorf("taken: %d, %d bytes sent, %d read, continued %v", status, sent, read.Load(), continued)
	}
}

type counted struct {
	io.Reader
	n atomic.Int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n.Add(int64(n))
	return n, err
}

func TestEarlyHints(t *testing.T) {
	f := front(t, Config{}, Routes{Stable: serve(t, "v1", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		fmt.Fprint(w, "page")
	})})
	hints := ""
	r, _ := http.NewRequest(http.MethodGet, f.URL(), nil)
	r = r.WithContext(httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		hints = fmt.Sprint(code, h.Get("Link"))
		return nil
	}}))
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, _ := io.ReadAll(response.Body); string(body) != "page" || hints != "103</style.css>; rel=preload" || response.Header.Get("Link") != "" {
		t.Errorf("%q, hints %q, headers %v", body, hints, response.Header)
	}
	if cookies := response.Cookies(); len(cookies) != 1 || cookies[0].Name != UserCookie {
		t.Errorf("the user is marked by %v", cookies)
	}
}

// Hints may also come while the client waits to be asked for its body: they are not the answer.
func TestEarlyHintsBeforeTheBody(t *testing.T) {
	for name, after := range map[string]string{"asks for it": "HTTP/1.1 100 Continue\r\n\r\n", "answers": ""} {
		t.Run(name, func(t *testing.T) {
			f := front(t, Config{}, Routes{Stable: raw(t, "v1", func(conn net.Conn, in *bufio.Reader, _ int) {
				r, err := http.ReadRequest(in)
				if err != nil {
					return
				}
				_, _ = io.WriteString(conn, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"+after)
				if after != "" {
					_, _ = io.Copy(io.Discard, r.Body)
				}
				_, _ = io.WriteString(conn, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
			})})
			hints := 0
			r, _ := http.NewRequest(http.MethodPut, f.URL(), strings.NewReader("body"))
			r.Header.Set("Expect", "100-continue")
			r = r.WithContext(httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, _ textproto.MIMEHeader) error {
				if code == http.StatusEarlyHints {
					hints++
				}
				return nil
			}}))
			response, err := (&http.Transport{ExpectContinueTimeout: 10 * time.Second}).RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			if body, _ := io.ReadAll(response.Body); response.StatusCode != http.StatusForbidden || string(body) != "no" || hints != 1 {
				t.Errorf("%d %q after %d hints", response.StatusCode, body, hints)
			}
		})
	}
}

func TestHTTP2InFront(t *testing.T) {
	f := front(t, Config{}, Routes{Stable: serve(t, "v1", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s", r.Method, r.Host, body)
	})})
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	client := &http.Client{Transport: &http.Transport{Protocols: &protocols}}
	for _, body := range []string{"", strings.Repeat("x", 100_000)} {
		response, err := client.Post(f.URL(), "text/plain", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.ProtoMajor != 2 || string(got) != "POST "+f.Addr()+" "+body {
			t.Errorf("HTTP/%d, %d bytes, %v", response.ProtoMajor, len(got), err)
		}
	}
}

// What two servers could read in two ways reaches no upstream, or in one way only.
func TestNothingIsSmuggled(t *testing.T) {
	var mu sync.Mutex
	var got []string
	f := front(t, Config{}, Routes{Stable: serve(t, "v1", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		got = append(got, r.URL.Path+" "+string(body))
	})})
	for name, text := range map[string]string{
		"length and chunks":    "POST /one HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /two HTTP/1.1\r\nHost: a\r\n\r\n",
		"two lengths":          "POST /one HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 9\r\n\r\nabcGET /two HTTP/1.1\r\nHost: a\r\n\r\n",
		"an odd encoding":      "POST /one HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
		"a folded header":      "GET /one HTTP/1.1\r\nHost: a\r\nX-A: b\r\n Content-Length: 10\r\nConnection: close\r\n\r\n",
		"a space before colon": "GET /one HTTP/1.1\r\nHost: a\r\nContent-Length : 5\r\n\r\nhello",
		"a bare line feed":     "GET /one HTTP/1.1\r\nHost: a\r\nX: a\rb\r\nConnection: close\r\n\r\n",
		"a bad chunk":          "POST /one HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nabc\r\n0\r\n\r\n",
	} {
		answer := say(t, f, text)
		if n := strings.Count(answer, "HTTP/1.1 "); n > 1 {
			t.Errorf("%s: %d answers: %q", name, n, answer)
		}
	}
	eventually(t, "the requests to be over", func() bool { return f.Snapshot().Versions["v1"].InFlight == 0 })
	mu.Lock()
	defer mu.Unlock()
	for _, p := range got {
		if p != "/one " {
			t.Errorf("an upstream got %q", p)
		}
	}
}

// idleConnections are those to upstreams that wait for a request.
func idleConnections(f *Front) (n int) {
	f.upstreams.mu.Lock()
	for _, waiting := range f.upstreams.idle {
		n += len(waiting)
	}
	f.upstreams.mu.Unlock()
	look(f, func(s *share) {
		for _, waiting := range s.idle {
			n += len(waiting)
		}
	})
	return n
}

// look has the loops look at what they have of a front, one after the other.
func look(f *Front, at func(s *share)) {
	for _, l := range f.loops {
		looked := make(chan struct{})
		l.post(func() { at(l.of(f)); close(looked) })
		<-looked
	}
}

// A connection that its upstream has closed while it waited is not used, also for what must not be sent twice, and also where the
// request is heard of before the end.
func TestConnectionsThatWereClosedMeanwhile(t *testing.T) {
	shut, closed := make(chan struct{}), make(chan struct{}, 10)
	f := front(t, Config{}, Routes{Stable: raw(t, "v1", func(conn net.Conn, in *bufio.Reader, n int) {
		if r, err := http.ReadRequest(in); err == nil {
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
		<-shut
		_ = conn.Close() // without having said so
		closed <- struct{}{}
	})})
	defer close(shut)
	c := keep(t, f)
	for n := range 6 {
		release := func() {}
		if n > 0 {
			if idleConnections(f) != 1 {
				t.Fatalf("request %d: no connection waits", n)
			}
			release = hold(t, f)
		}
		c.ask(http.MethodPost, "once")
		if n > 0 {
			<-time.After(10 * time.Millisecond)
			shut <- struct{}{}
			within(t, "close", closed)
			<-time.After(10 * time.Millisecond)
		}
		release()
		if status, body := c.answer(); status != http.StatusOK || body != "ok" {
			t.Fatalf("request %d: %d %q", n, status, body)
		}
	}
}

// An upstream that reads a request over a used connection and dies gets it once, unless doing it twice does no harm.
func TestWhatIsSentAgain(t *testing.T) {
	var requests atomic.Int64
	f := front(t, Config{}, Routes{Stable: raw(t, "v1", func(conn net.Conn, in *bufio.Reader, n int) {
		for i := 1; ; i++ {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, r.Body)
			requests.Add(1)
			if n%2 == 1 && i == 2 { // the second request over a first connection
				return
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})})
	send := func(method, body string) int {
		r, _ := http.NewRequest(method, f.URL(), strings.NewReader(body))
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		_, _ = io.Copy(io.Discard, response.Body)
		return response.StatusCode
	}
	if first, second := send("GET", ""), send("GET", ""); first != 200 || second != 200 || requests.Load() != 3 {
		t.Errorf("GET: %d, then %d; the upstream got %d", first, second, requests.Load())
	}
	f.closeIdle()
	requests.Store(0)
	if first, second := send("POST", "a"), send("POST", "b"); first != 200 || second != http.StatusBadGateway || requests.Load() != 2 {
		t.Errorf("POST: %d, then %d; the upstream got %d", first, second, requests.Load())
	}
}

// What had begun to answer has seen the request: it is not sent again, although its connection had waited and was reset.
func TestNothingIsSentAgainAfterTheAnswerBegan(t *testing.T) {
	for _, says := range []string{"", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nX-A"} { // after a hint
		var requests atomic.Int64
		read := make(chan struct{}) // the front has what was said
		f := front(t, Config{}, Routes{Stable: raw(t, "v1", func(conn net.Conn, in *bufio.Reader, _ int) {
			for i := 1; ; i++ {
				if _, err := http.ReadRequest(in); err != nil {
					return
				}
				requests.Add(1)
				if i == 1 {
					fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
					continue
				}
				fmt.Fprint(conn, "HTTP/1.1 103 Early Hints\r\n\r\n", says)
				<-read
				_ = conn.(*net.TCPConn).SetLinger(0)
				return
			}
		})})
		c := keep(t, f)
		fmt.Fprint(c, "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n") // which does not go the quick way
		if status, _ := c.answer(); status != http.StatusOK {
			t.Fatalf("status %d", status)
		}
		fmt.Fprint(c, "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n")
		if status, _ := c.answer(); status != http.StatusEarlyHints {
			t.Fatalf("status %d", status)
		}
		close(read)
		if status, _ := c.answer(); status != http.StatusBadGateway || requests.Load() != 2 {
			t.Errorf("%q: status %d after %d requests", says, status, requests.Load())
		}
	}
}

func TestUpstreamsThatMisbehave(t *testing.T) {
	for name, c := range map[string]struct {
		says   string
		status int // 0: the answer breaks off
	}{
		"no HTTP":               {"hello\r\n\r\n", http.StatusBadGateway},
		"a status of its own":   {"HTTP/1.1 001 Odd\r\n\r\n", http.StatusBadGateway},
		"a head without end":    {"HTTP/1.1 200 OK\r\n" + strings.Repeat("X-A: "+strings.Repeat("b", 1000)+"\r\n", 2000), http.StatusBadGateway},
		"hints without end":     {strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 50), http.StatusBadGateway},
		"two lengths":           {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", http.StatusBadGateway},
		"an unasked upgrade":    {"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n", http.StatusBadGateway},
		"half a body":           {"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", 0},
		"half a body of chunks": {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := front(t, Config{}, Routes{Stable: raw(t, "v1", func(conn net.Conn, in *bufio.Reader, _ int) {
				if _, err := http.ReadRequest(in); err == nil {
					_, _ = io.WriteString(conn, c.says)
				}
			})})
			response, err := http.Get(f.URL())
			status := 0
			if err == nil {
				defer response.Body.Close()
				if _, err = io.ReadAll(response.Body); err == nil {
					status = response.StatusCode
				}
			}
			if status != c.status {
				t.Errorf("status %d, %v", status, err)
			}
			eventually(t, "the error to count, and the request to be over", func() bool {
				counts := f.Snapshot().Versions["v1"]
				return counts.Requests == 1 && counts.Errors == 1 && counts.InFlight == 0
			})
		})
	}
}

// An upstream that answers before it has read the body, and closes.
func TestAnswerInPlaceOfTheBody(t *testing.T) {
	f := front(t, Config{}, Routes{Stable: raw(t, "v1", func(conn net.Conn, in *bufio.Reader, _ int) {
		if _, err := http.ReadRequest(in); err == nil {
			_, _ = io.WriteString(conn, "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno")
			_, _ = io.CopyN(io.Discard, in, 1<<20) // or a reset could overtake the answer
		}
	})})
	body, send := io.Pipe()
	answered := make(chan struct{})
	go func() {
		defer func() { _ = send.Close() }()
		_, _ = send.Write(make([]byte, 64<<10))
		<-answered
	}()
	response, err := http.Post(f.URL(), "text/plain", body)
	close(answered)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if got, err := io.ReadAll(response.Body); response.StatusCode != http.StatusRequestEntityTooLarge || string(got) != "no" || err != nil {
		t.Errorf("%d %q %v", response.StatusCode, got, err)
	}
}

// A client that leaves has its request end at the upstream too.
func TestAClientThatLeavesEndsTheRequest(t *testing.T) {
	began, ended := make(chan struct{}), make(chan struct{})
	f := front(t, Config{}, Routes{Stable: serve(t, "v1", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		close(began)
		<-r.Context().Done()
		close(ended)
	})})
	ctx, leave := context.WithCancel(t.Context())
	r, _ := http.NewRequestWithContext(ctx, http.MethodGet, f.URL(), nil)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	within(t, "begin", began)
	leave()
	within(t, "end", ended)
	if _, err := io.ReadAll(response.Body); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	eventually(t, "the request to be over", func() bool { return f.Snapshot().Versions["v1"].InFlight == 0 })
	if counts := f.Snapshot().Versions["v1"]; counts.Errors != 0 {
		t.Errorf("%d errors for a client that left", counts.Errors)
	}
}

func TestIdleConnectionsAreFew(t *testing.T) {
	f := front(t, Config{}, Routes{Stable: serve(t, "v1", nil)})
	for _, method := range []string{"GET", "BREW"} { // of which one goes the quick way
		before := idleConnections(f)
		for range 50 {
			r, _ := http.NewRequest(method, f.URL(), nil)
			response, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, response.Body)
			response.Body.Close()
		}
		if waiting := idleConnections(f) - before; waiting != 1 {
			t.Errorf("%d connections after requests one by one: %s", waiting, method)
		}
	}
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	if err := f.SetRoutes(Routes{Stable: Upstream{"v2", other.URL}}); err != nil {
		t.Fatal(err)
	}
	if idleConnections(f) != 0 {
		t.Error("connections wait at a version that is in no route any more")
	}
}
