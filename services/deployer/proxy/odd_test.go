package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// A request with a length and chunks is what another proxy before the front may have read in another way: what comes behind it on
// its connection is not taken for a request (RFC 9112, 6.1), however the pieces arrive. One without is no reason to close.
func TestNothingIsReadBehindALengthAndChunks(t *testing.T) {
	f := front(t, Config{}, Routes{Stable: serve(t, "v1", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, r.URL.Path)
	})})
	const (
		chunked = "POST /chunks HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
		sized   = "PUT /sized HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc"
		both    = "POST /both HTTP/1.1\r\nHost: a\r\ncontent-LENGTH: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
		last    = "GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
		behind  = "GET /behind HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
	)
	for name, c := range map[string]struct {
		pieces []string
		want   string
	}{
		"the first":         {[]string{both + behind}, "/both"},
		"after others":      {[]string{chunked, sized, both + behind}, "/chunks /sized /both"},
		"in single bytes":   {append([]string{chunked}, strings.Split(both+behind, "")...), "/chunks /both"},
		"neither has both":  {[]string{chunked, sized, chunked, last}, "/chunks /sized /chunks /last"},
		"both are for once": {[]string{sized, both, behind}, "/sized /both"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, err := net.Dial("tcp", f.Addr())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
			go func() {
				for _, p := range c.pieces {
					_, _ = io.WriteString(conn, p)
					<-time.After(5 * time.Millisecond) // it comes for itself
				}
			}()
			var got []string
			for in := bufio.NewReader(conn); ; {
				response, err := http.ReadResponse(in, nil)
				if err != nil {
					break
				}
				if body, _ := io.ReadAll(response.Body); len(body) > 0 { // not that it may go on
					got = append(got, string(body))
				}
			}
			if s := strings.Join(got, " "); s != c.want {
				t.Errorf("answered %q, not %q", s, c.want)
			}
		})
	}
}

// Nobody is joined with an upstream who did not ask for it: what came next would be no one's answer.
func TestAnUpstreamThatGoesOnUnasked(t *testing.T) {
	f := front(t, Config{}, Routes{Stable: raw(t, "v1", func(conn net.Conn, in *bufio.Reader, _ int) {
		if _, err := http.ReadRequest(in); err == nil {
			_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad")
			_, _ = io.Copy(io.Discard, in)
		}
	})})
	answer := say(t, f, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	if !strings.HasPrefix(answer, "HTTP/1.1 502 ") || strings.Contains(answer, "bad") {
		t.Errorf("%q", answer)
	}
	if got := f.Snapshot().Versions["v1"]; got.Errors != 1 || got.Requests != 1 {
		t.Errorf("counted %d errors of %d", got.Errors, got.Requests)
	}
}

// No protocol is gone on in that holds requests of several users, and no tunnel opened; what is asked of the service as a whole
// it is asked.
func TestWhatTheFrontDoesNotHandOn(t *testing.T) {
	got := make(chan string, 10)
	f := front(t, Config{}, Routes{Stable: raw(t, "v1", func(conn net.Conn, in *bufio.Reader, _ int) {
		for {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			got <- r.Method + " " + r.RequestURI + " " + r.Header.Get("Upgrade")
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nAllow: GET\r\nContent-Length: 0\r\n\r\n")
		}
	})})
	for text, want := range map[string]struct{ status, upstream string }{
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n": {"200", "GET / "},
		"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\nGET /within HTTP/1.1\r\nHost: a\r\n\r\n":                                                  {"501", ""},
		"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n":                                                                          {"200", "OPTIONS * "},
	} {
		answer, upstream := say(t, f, text), ""
		select {
		case upstream = <-got:
		default:
		}
		if !strings.HasPrefix(answer, "HTTP/1.1 "+want.status+" ") || upstream != want.upstream || strings.Count(answer, "HTTP/1.1") != 1 {
			t.Errorf("%q: the upstream got %q, the client %q", text, upstream, answer)
		}
	}
}

// A side of an upgraded connection that has said all still hears the other, for as long as that does not stall.
func TestHalfOfAnUpgradedConnection(t *testing.T) {
	const head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
	heard := make(chan string, 1)
	sides := map[string]func(conn *net.TCPConn, in *bufio.Reader){
		"the client ends": func(conn *net.TCPConn, in *bufio.Reader) {
			all, _ := io.ReadAll(in)
			for range 4 { // longer in all than it may stall
				<-time.After(50 * time.Millisecond)
				_, _ = fmt.Fprintf(conn, "%d", len(all))
			}
		},
		"the upstream ends": func(conn *net.TCPConn, in *bufio.Reader) {
			_ = conn.CloseWrite()
			all, _ := io.ReadAll(in)
			heard <- string(all)
		},
		"the upstream stalls": func(_ *net.TCPConn, in *bufio.Reader) {
			_, _ = io.Copy(io.Discard, in)
			<-heard
		},
	}
	for name, side := range sides {
		t.Run(name, func(t *testing.T) {
			f := front(t, Config{}, Routes{Stable: raw(t, "v1", func(conn net.Conn, in *bufio.Reader, _ int) {
				if _, err := http.ReadRequest(in); err == nil {
					_, _ = io.WriteString(conn, head)
					side(conn.(*net.TCPConn), in)
				}
			})})
			f.stall = 150 * time.Millisecond
			c := upgrade(t, f)
			switch name {
			case "the client ends":
				fmt.Fprint(c, "hello")
				_ = c.Conn.(*net.TCPConn).CloseWrite()
				if all, err := io.ReadAll(c.in); string(all) != "5555" || err != nil {
					t.Errorf("heard %q, %v", all, err)
				}
			case "the upstream ends":
				if all, err := io.ReadAll(c.in); len(all) > 0 || err != nil {
					t.Errorf("heard %q, %v", all, err)
				}
				fmt.Fprint(c, "farewell")
				_ = c.Conn.(*net.TCPConn).CloseWrite()
				if all := <-heard; all != "farewell" {
					t.Errorf("the upstream heard %q", all)
				}
			default:
				_ = c.Conn.(*net.TCPConn).CloseWrite()
				if all, err := io.ReadAll(c.in); len(all) > 0 || err != nil {
					t.Errorf("heard %q, %v", all, err)
				}
				heard <- "all"
			}
			eventually(t, "the request to be over", func() bool { return f.Snapshot().Versions["v1"].InFlight == 0 })
		})
	}
}

// What is left of a body would be mixed with what the client says in the other protocol.
func TestNoProtocolIsGoneOnInBeforeTheRequestIsWhole(t *testing.T) {
	const upgrade = " / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n"
	for name, c := range map[string]struct {
		request string
		whole   bool // the upstream waits for all of it
		want    int
	}{
		"within the body":      {"POST" + upgrade + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", false, http.StatusRequestTimeout}, // the client is asked for the rest, and stalls
		"in place of the body": {"POST" + upgrade + "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n", false, http.StatusBadGateway},
		"beside the body":      {"POST" + upgrade + "Content-Length: 3\r\n\r\nabc", false, http.StatusSwitchingProtocols},
		"beside its chunks":    {"POST" + upgrade + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", false, http.StatusSwitchingProtocols},
		"after the body":       {"POST" + upgrade + "Content-Length: 3\r\n\r\nabc", true, http.StatusSwitchingProtocols},
		"after its chunks":     {"POST" + upgrade + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", true, http.StatusSwitchingProtocols},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			left := make(chan struct{})
			f := front(t, Config{}, Routes{Stable: raw(t, "v1", func(conn net.Conn, in *bufio.Reader, _ int) {
				defer close(left)
				r, err := http.ReadRequest(in)
				if err != nil {
					return
				}
				if c.whole {
					_, _ = io.Copy(io.Discard, r.Body)
				}
				_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
				_, _ = io.Copy(conn, in)
			})})
			f.stall = 200 * time.Millisecond
			client := keep(t, f)
			fmt.Fprint(client, c.request)
			response, err := http.ReadResponse(client.in, nil)
			if err != nil || response.StatusCode != c.want {
				t.Fatalf("%v %v", response, err)
			}
			if c.want == http.StatusSwitchingProtocols {
				fmt.Fprint(client, "hello")
				_ = client.Conn.(*net.TCPConn).CloseWrite()
				if all, err := io.ReadAll(client.in); !strings.HasSuffix(string(all), "hello") || err != nil { // the body too, of an upstream that did not wait for it
					t.Errorf("heard %q, %v", all, err)
				}
			} else if _, err := io.ReadAll(io.MultiReader(response.Body, client.in)); err != nil || !response.Close {
				t.Errorf("the connection stays: %v, %v", response.Header, err)
			}
			within(t, "the upstream to be left", left)
		})
	}
}

// HTTP/1.0 knows no answers before the answer, and goes on in no other protocol (RFC 9110, 7.8 and 15.2).
func TestHTTP10GetsOneAnswer(t *testing.T) {
	f := front(t, Config{}, Routes{Stable: raw(t, "v1", func(conn net.Conn, in *bufio.Reader, _ int) {
		if r, err := http.ReadRequest(in); err == nil {
			_, _ = io.WriteString(conn, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
			_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\npage%s", 4+len(r.Header.Get("Upgrade")), r.Header.Get("Upgrade"))
		}
	})})
	answer := say(t, f, "GET / HTTP/1.0\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	if !strings.HasPrefix(answer, "HTTP/1.0 200 ") || strings.Count(answer, "HTTP/1.") != 1 || !strings.HasSuffix(answer, "\r\n\r\npage") {
		t.Errorf("%q", answer)
	}
}

// Empty lines before a request are no request (RFC 9112, 2.2), and no reason to leave the quick way, or to end sooner than another
// client that waits.
func TestEmptyLinesBeforeARequest(t *testing.T) {
	const (
		get  = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
		put  = "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"
		brew = "BREW / HTTP/1.1\r\nHost: a\r\n\r\n"
	)
	for name, c := range map[string]struct {
		pieces []string
		stage  stage // after them
	}{
		"the first":         {[]string{"\r\n" + get}, clientIdle},
		"some":              {[]string{"\r\n\r\n\r\n" + get}, clientIdle},
		"for themselves":    {[]string{"\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", get}, clientIdle},
		"in bytes":          {[]string{"\r", "\n", "\r", "\n", get}, clientIdle},
		"after a body":      {[]string{put + "\r\n", put + "\r\n"}, clientIdle},
		"between two":       {[]string{get + "\r\n" + get}, clientIdle},
		"before a half":     {[]string{"\r\n" + get[:8], get[8:]}, clientIdle},
		"what is handed on": {[]string{"\r\n" + brew}, clientGone},
		"and later":         {[]string{put + "\r\n", "\r\n" + brew}, clientGone},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := front(t, Config{}, Routes{Stable: serve(t, "v1", func(http.ResponseWriter, *http.Request) {})})
			client, got := keep(t, f), clientGone
			for _, p := range c.pieces {
				fmt.Fprint(client, p)
				for range strings.Count(p, "Host") {
					if status, _ := client.answer(); status != http.StatusOK {
						t.Fatalf("status %d", status)
					}
				}
				got = clientGone
				look(f, func(s *share) {
					for c := range s.clients {
						got = c.stage
					}
				})
			}
			if got != c.stage {
				t.Errorf("it is in stage %d, not %d", got, c.stage)
			}
		})
	}
}

// Who says nothing but empty lines gets no more time by them, and not many at once.
func TestNothingButEmptyLines(t *testing.T) {
	f := front(t, Config{}, Routes{})
	client := keep(t, f)
	dues := func() (all []time.Time) {
		look(f, func(s *share) {
			for c := range s.clients {
				all = append(all, c.due)
			}
		})
		return all
	}
	eventually(t, "the client to be taken in", func() bool { return len(dues()) == 1 })
	before := dues()
	for range 3 {
		fmt.Fprint(client, "\r\n")
		if now := dues(); !slices.Equal(now, before) {
			t.Fatalf("it is due at %v, not %v", now, before)
		}
	}
	fmt.Fprint(client, strings.Repeat("\r\n", 100))
	if status, _ := client.answer(); status != http.StatusBadRequest {
		t.Errorf("status %d", status)
	}
}
