package proxy

import (
	"bufio"
	"bytes"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// oddRequests are such as two servers could read in two ways, or that mean more than the quick way knows.
var oddRequests = map[string]string{
	"length and chunks":     "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"two lengths":           "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
	"a list of lengths":     "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc",
	"a signed length":       "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc",
	"a huge length":         "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551619\r\n\r\nabc",
	"a body of a GET":       "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
	"no length":             "POST / HTTP/1.1\r\nHost: a\r\n\r\n",
	"a folded header":       "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\r\n c\r\n\r\n",
	"a space before colon":  "GET / HTTP/1.1\r\nHost: a\r\nX-A : b\r\n\r\n",
	"no name":               "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
	"no colon":              "GET / HTTP/1.1\r\nHost: a\r\nX-A\r\n\r\n",
	"a bare line feed":      "GET / HTTP/1.1\r\nHost: a\nX-A: b\r\n\r\n",
	"a bare end":            "GET / HTTP/1.1\r\nHost: a\r\n\n",
	"a carriage return":     "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\rc\r\n\r\n",
	"a zero":                "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\x00c\r\n\r\n",
	"two cookies":           "GET / HTTP/1.1\r\nHost: a\r\nCookie:\r\nCookie: a=b\r\n\r\n",
	"two hosts":             "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
	"no host":               "GET / HTTP/1.1\r\nX-A: b\r\n\r\n",
	"an odd host":           "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
	"an older version":      "GET / HTTP/1.0\r\nHost: a\r\n\r\n",
	"two spaces":            "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
	"a space in the target": "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
	"a whole URL":           "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
	"a target with a name":  "GET //b/ HTTP/1.1\r\nHost: a\r\n\r\n",
	"a bad escape":          "GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n",
	"a fragment":            "GET /#a HTTP/1.1\r\nHost: a\r\n\r\n",
	"another method":        "CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n",
	"an upgrade":            "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n",
	"an option":             "GET / HTTP/1.1\r\nHost: a\r\nConnection: X-A\r\nX-A: b\r\n\r\n",
	"a question":            "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
	"HTTP/2":                "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}

func TestOddRequestsDoNotGoTheQuickWay(t *testing.T) {
	for name, text := range oddRequests {
		q := quickRequest{}
		if got := q.read([]byte(text)); got != readUnusual {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// A user is the same one on either way, and is given the same cookie.
func TestUsersAreTheSameOnBothWays(t *testing.T) {
	for _, cookie := range []string{
		"lemnis_user=ann", "a=b; lemnis_user=ann", "a=b;lemnis_user=ann", "lemnis_user=ann; lemnis_user=bob", "lemnis_user=; lemnis_user=bob", "lemnis_user=",
		"lemnis_user =ann", " lemnis_user=ann", "\tlemnis_user=ann", "a=b lemnis_user=ann", "xlemnis_user=ann", "x; xlemnis_user=a; lemnis_user=ann", "lemnis_user=a=b", "a=lemnis_user=x; lemnis_user=ann",
		`lemnis_user="ann"`, `lemnis_user="a n"`, `lemnis_user=a"n`, `a="; lemnis_user=ann"`, "lemnis_user=a n", "lemnis_user=ann ", "lemnis_user", "lemnis_users=ann", "lemnis_user\x80=a", "a;b; lemnis_user=ann;", "Lemnis_User=ann",
	} {
		q := quickRequest{cookie: []byte(cookie)}
		r := &http.Request{RemoteAddr: "127.0.0.1:80", Header: http.Header{"Cookie": {cookie}}}
		user, set := q.mark("127.0.0.1")
		if wantUser, wantSet := identify(r); user != wantUser || set != wantSet {
			t.Errorf("%q: %q %q, net/http reads %q %q", cookie, user, set, wantUser, wantSet)
		}
	}
	user, set := newMark("", "127.0.0.1")
	want := http.Cookie{Name: UserCookie, Value: user, Path: "/", MaxAge: 365 * 24 * 3600, HttpOnly: true, SameSite: http.SameSiteLaxMode}
	if set != want.String() {
		t.Errorf("%q, not %q", set, want.String())
	}
	marked := quickRequest{cookie: []byte("a=b; lemnis_user=" + user)}
	if n := testing.AllocsPerRun(100, func() { marked.mark("127.0.0.1") }); n > 1 { // the name itself
		t.Errorf("a marked user takes %v allocations", n)
	}
}

// What the quick way reads, net/http reads too, and as the same; and so it reads what the upstream is sent.
func FuzzQuickRequest(f *testing.F) {
	for _, text := range oddRequests {
		f.Add([]byte(text))
	}
	f.Add([]byte("GET /a%2Fb?x=1;y HTTP/1.1\r\nHost: [::1]:80\r\nX-A:  b\t\r\nX-A:\r\nConnection: Keep-Alive\r\nX-Forwarded-For: c\r\nCookie: a=b\r\n\r\nGET"))
	f.Add([]byte("POST / HTTP/1.1\r\nhOST: a\r\nContent-Length: 3\r\nForwarded: b\r\nX-User: ann\r\n\r\nabcGET / HTTP/1.1\r\n"))
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a\r\nX-User: \t\r\nX-User: ann\r\nAccept:\r\nAccept: text/html\r\n\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		q := quickRequest{}
		got := q.read(data)
		for cut := range data { // a head that comes in pieces is the same
			early := quickRequest{}
			if now := early.read(data[:cut]); now == readWhole && (got != readWhole || early.size != q.size) || now == readUnusual && got != readUnusual {
				t.Fatalf("%q: %v, of its first %d bytes %v", data, got, cut, now)
			}
		}
		if got != readWhole {
			return
		}
		rest := bytes.NewReader(data)
		in := bufio.NewReader(rest)
		same := func(r *http.Request, body []byte, err error) {
			t.Helper()
			if err != nil {
				t.Fatalf("%q: net/http does not read it: %v", data, err)
			}
			if r.Method != q.method || r.Host != string(q.host) || !strings.HasPrefix(r.RequestURI, string(q.path)) || !bytes.Equal(body, q.body) || len(r.TransferEncoding) > 0 || r.Close {
				t.Fatalf("%q: net/http reads %s %s of %s with %q", data, r.Method, r.RequestURI, r.Host, body)
			}
			if r.URL.RequestURI() != r.RequestURI {
				t.Fatalf("%q: net/http would send %q on", data, r.URL.RequestURI())
			}
			if r.Header.Get(UserHeader) != string(q.user) || r.Header.Get("Accept") != string(q.accept) || r.Header.Get("Cookie") != string(q.cookie) {
				t.Fatalf("%q: net/http reads the user from %v", data, r.Header)
			}
		}
		client, body, err := readRequest(in)
		same(client, body, err)
		if size := len(data) - rest.Len() - in.Buffered(); size != q.size {
			t.Fatalf("%q: %d bytes, net/http reads %d", data, q.size, size)
		}
		sent := bytes.NewReader(q.send("127.0.0.1"))
		in = bufio.NewReader(sent)
		upstream, body, err := readRequest(in)
		same(upstream, body, err)
		if sent.Len()+in.Buffered() > 0 {
			t.Fatalf("%q: more than one request is sent on", data)
		}
		for name := range client.Header {
			if hop[name] || forwarded[name] {
				delete(client.Header, name)
			}
		}
		for name, want := range map[string]string{"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": client.Host, "X-Forwarded-Proto": "http"} {
			client.Header.Set(name, want)
		}
		delete(upstream.Header, "Content-Length")
		if !maps.EqualFunc(client.Header, upstream.Header, slices.Equal) {
			t.Fatalf("%q: the upstream gets %v", data, upstream.Header)
		}
	})
}

func readRequest(in *bufio.Reader) (*http.Request, []byte, error) {
	r, err := http.ReadRequest(in)
	if err != nil {
		return nil, nil, err
	}
	body, err := io.ReadAll(r.Body)
	return r, body, err
}

var oddAnswers = map[string]string{
	"no HTTP":              "hello\r\n\r\n",
	"an older version":     "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
	"no length":            "HTTP/1.1 200 OK\r\n\r\nabc",
	"two lengths":          "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
	"chunks":               "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"chunks and length":    "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"a hint":               "HTTP/1.1 103 Early Hints\r\nContent-Length: 0\r\n\r\n",
	"an upgrade":           "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n",
	"a body of nothing":    "HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\nabc",
	"a stream":             "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 3\r\n\r\nabc",
	"a folded header":      "HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\nContent-Length: 0\r\n\r\n",
	"a space before colon": "HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n",
	"a bare line feed":     "HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n",
	"a carriage return":    "HTTP/1.1 200 OK\r\nX-A: b\rc\r\nContent-Length: 0\r\n\r\n",
	"an option":            "HTTP/1.1 200 OK\r\nConnection: X-A\r\nX-A: b\r\nContent-Length: 0\r\n\r\n",
	"an option and close":  "HTTP/1.1 200 OK\r\nConnection: close\r\nConnection: X-A\r\nX-A: b\r\nContent-Length: 0\r\n\r\n",
	"a status of its own":  "HTTP/1.1 001 Odd\r\nContent-Length: 0\r\n\r\n",
	"trailers":             "HTTP/1.1 200 OK\r\nTrailer: X-A\r\nContent-Length: 0\r\n\r\n",
}

func TestOddAnswersDoNotGoTheQuickWay(t *testing.T) {
	for name, text := range oddAnswers {
		a := quickAnswer{}
		if got := a.read([]byte(text), false); got != readUnusual {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// What the quick way reads of an answer, net/http reads too, and as the same; and so it reads what the client gets.
func FuzzQuickAnswer(f *testing.F) {
	for _, text := range oddAnswers {
		f.Add([]byte(text), false)
	}
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\nKeep-Alive: x\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\nabc"), false)
	f.Add([]byte("HTTP/1.1 304 Not Modified\r\nDate: x\r\nContent-Length: 9\r\n\r\n"), false)
	f.Add([]byte("HTTP/1.1 500 \r\nContent-Length: 9\r\n\r\n"), true)
	f.Fuzz(func(t *testing.T, data []byte, headOnly bool) {
		a := quickAnswer{}
		got := a.read(data, headOnly)
		for cut := range data {
			early := quickAnswer{}
			if now := early.read(data[:cut], headOnly); now == readWhole && (got != readWhole || early.size != a.size) || now == readUnusual && got != readUnusual {
				t.Fatalf("%q: %v, of its first %d bytes %v", data, got, cut, now)
			}
		}
		if got != readWhole {
			return
		}
		request := &http.Request{Method: http.MethodGet}
		if headOnly {
			request.Method = http.MethodHead
		}
		heads := []http.Header{}
		for i, text := range [][]byte{data[:a.size], a.send("", false)} {
			left := bytes.NewReader(text)
			in := bufio.NewReader(left)
			r, err := http.ReadResponse(in, request)
			if err != nil {
				t.Fatalf("%q: net/http does not read it: %v", text, err)
			}
			body, err := io.ReadAll(r.Body)
			if err != nil || r.StatusCode != a.status || !bytes.Equal(body, a.body) || r.Close != (i == 0 && a.last) || left.Len()+in.Buffered() > 0 {
				t.Fatalf("%q: net/http reads %d %q, close %v, %v", text, r.StatusCode, body, r.Close, err)
			}
			for name := range r.Header {
				if hop[name] && name != "Content-Length" || name == "Date" && !a.dated {
					delete(r.Header, name)
				}
			}
			heads = append(heads, r.Header)
		}
		if !maps.EqualFunc(heads[0], heads[1], slices.Equal) {
			t.Fatalf("%q: the client gets %v", data, heads[1])
		}
	})
}
