package proxy

import (
	"bytes"
	"net/http"
	"net/url"
	"time"
)

// reading is how far a message was read.
type reading int

const (
	readWhole   reading = iota
	readUnusual         // nothing that the quick way understands
	readPartial         // its head is not there yet
	readBody            // its head is, its body is not
	readNone            // the connection has ended
)

// lower has the characters of a token (RFC 9110, 5.6.2) in lower case, and 0 for all others.
var lower = func() (t [256]byte) {
	for _, c := range []byte("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz") {
		t[c] = c
		if c >= 'a' && c <= 'z' {
			t[c-'a'+'A'] = c
		}
	}
	return t
}()

// targetBytes are those of a path and a query that are the same in every reading.
var targetBytes = characters("-._~!$&'()*+,;=:@/%?")

// hostBytes are those of a name or an address with a port.
var hostBytes = characters("-._:[]")

// markBytes are those of a mark that the front has made.
var markBytes = characters("")

func characters(more string) (t [256]bool) {
	for _, c := range []byte(more + "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") {
		t[c] = true
	}
	return t
}

func consists(of *[256]bool, text []byte) bool {
	for _, c := range text {
		if !of[c] {
			return false
		}
	}
	return true
}

// line is what comes before the first CRLF, and the rest. An end of another kind, and a control character, are unusual.
func line(data []byte) (text, rest []byte, got reading) {
	end := bytes.IndexByte(data, '\n')
	if end < 0 {
		return nil, nil, readPartial
	}
	if end == 0 || data[end-1] != '\r' {
		return nil, nil, readUnusual
	}
	text = data[:end-1]
	for _, c := range text {
		if c < ' ' && c != '\t' || c == 0x7f {
			return nil, nil, readUnusual
		}
	}
	return text, data[end+1:], readWhole
}

// field is a header's name in lower case, empty when it is longer than any that means something here, and its value, which is not
// nil, so that an empty one is told from none.
func field(text []byte, room *[24]byte) (name, value []byte, ok bool) {
	colon := bytes.IndexByte(text, ':')
	if colon <= 0 {
		return nil, nil, false
	}
	for i, c := range text[:colon] {
		c = lower[c]
		if c == 0 {
			return nil, nil, false
		}
		if i < len(room) {
			room[i] = c
		}
	}
	if colon <= len(room) {
		name = room[:colon]
	}
	for value = text[colon+1:]; len(value) > 0 && blank(value[0]); {
		value = value[1:]
	}
	for len(value) > 0 && blank(value[len(value)-1]) {
		value = value[:len(value)-1]
	}
	return name, value, true
}

func blank(c byte) bool { return c == ' ' || c == '\t' }

// length is the value of a Content-Length, -1 when it is none that everybody reads alike.
func length(value []byte) int {
	n := 0
	for _, c := range value {
		if c < '0' || c > '9' {
			return -1
		}
		n = 10*n + int(c-'0')
	}
	if len(value) == 0 || len(value) > 9 || (len(value) > 1 && value[0] == '0') {
		return -1
	}
	return n
}

// head is what goes on of the lines at the begin of a message, without what means one connection only.
type head struct {
	out    []byte
	length int // what Content-Length says; -1: nothing
}

// read reads the lines after the first one, which goes on as it is. It asks own about those that requests and answers mean
// differently: whether they go on, and whether they are understood.
func (h *head) read(data, rest []byte, own func(name, value []byte) (on, ok bool)) (body []byte, got reading) {
	h.out, h.length = append(h.out, data[:len(data)-len(rest)]...), -1
	var room [24]byte
	for {
		text, after, got := line(rest)
		if got != readWhole || len(text) == 0 {
			return after, got
		}
		name, value, ok := field(text, &room)
		if !ok {
			return nil, readUnusual
		}
		on := true
		switch string(name) {
		case "content-length":
			if h.length >= 0 {
				return nil, readUnusual
			}
			if h.length = length(value); h.length < 0 {
				return nil, readUnusual
			}
		case "te", "trailer", "transfer-encoding", "upgrade":
			return nil, readUnusual
		case "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization":
			on = false
		case "": // it means nothing here
		default:
			if on, ok = own(name, value); !ok {
				return nil, readUnusual
			}
		}
		if on {
			h.out = append(h.out, rest[:len(rest)-len(after)]...)
		}
		rest = after
	}
}

// quickRequest is a request that can be read in one way only. Its slices are good until more is read from its client.
type quickRequest struct {
	method                                 string
	bodied                                 bool
	path, host, body, user, accept, cookie []byte
	size                                   int  // of all
	head                                   head // for the upstream, without what the front says itself
	answer                                 quickAnswer
}

// methodOf is one of the quick way, and whether it has a body there; empty: none of them.
func methodOf(text []byte) (name string, bodied bool) {
	switch string(text) {
	case http.MethodGet:
		return http.MethodGet, false
	case http.MethodPost:
		return http.MethodPost, true
	case http.MethodHead:
		return http.MethodHead, false
	case http.MethodPut:
		return http.MethodPut, true
	case http.MethodDelete:
		return http.MethodDelete, false
	case http.MethodOptions:
		return http.MethodOptions, false
	case http.MethodPatch:
		return http.MethodPatch, true
	}
	return "", false
}

// read reads what has come so far.
func (q *quickRequest) read(data []byte) reading {
	*q = quickRequest{head: head{out: q.head.out[:0]}, answer: q.answer}
	text, rest, got := line(data)
	if got != readWhole {
		return got
	}
	if !q.first(text) {
		return readUnusual
	}
	if rest, got = q.head.read(data, rest, q.field); got != readWhole {
		return got
	}
	size := q.head.length
	if q.host == nil || (size >= 0) != q.bodied { // a body that is not expected, or one of no length
		return readUnusual
	}
	size = max(size, 0)
	q.size = len(data) - len(rest) + size
	if len(rest) < size {
		if q.size > quickMost {
			return readUnusual
		}
		return readBody
	}
	q.body = rest[:size]
	return readWhole
}

func (q *quickRequest) field(name, value []byte) (on, ok bool) {
	switch string(name) {
	case "host":
		if q.host != nil || len(value) == 0 || !consists(&hostBytes, value) {
			return false, false
		}
		q.host = value
	case "connection":
		return false, bytes.EqualFold(value, []byte("keep-alive"))
	case "expect":
		return false, false
	case "forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto":
		return false, true
	case "x-user": // UserHeader
		if q.user == nil {
			q.user = value
		}
	case "accept":
		if q.accept == nil {
			q.accept = value
		}
	case "cookie":
		if q.cookie != nil {
			return false, false
		}
		q.cookie = value
	}
	return true, true
}

// harmless says whether the upstream may do it twice.
func (q *quickRequest) harmless() bool {
	return q.method == http.MethodGet || q.method == http.MethodHead || q.method == http.MethodOptions
}

// first reads the request line.
func (q *quickRequest) first(text []byte) bool {
	space := bytes.IndexByte(text, ' ')
	if space < 0 {
		return false
	}
	q.method, q.bodied = methodOf(text[:space])
	target, ok := bytes.CutSuffix(text[space+1:], []byte(" HTTP/1.1"))
	if q.method == "" || !ok || len(target) == 0 || target[0] != '/' || (len(target) > 1 && target[1] == '/') || !consists(&targetBytes, target) {
		return false
	}
	q.path, _, _ = bytes.Cut(target, []byte("?"))
	if bytes.IndexByte(q.path, '%') >= 0 {
		_, err := url.PathUnescape(string(q.path))
		return err == nil
	}
	return true
}

// feature is the slot of the one that the path belongs to.
func (q *quickRequest) feature(features []feature) int {
	if len(features) == 0 {
		return otherSlot
	}
	path, _ := url.PathUnescape(string(q.path)) // first has seen that it can be
	return featureOf(features, path)
}

// mark names the user, and the cookie to set, empty: none.
func (q *quickRequest) mark(host string) (user, set string) {
	if len(q.user) > 0 {
		return string(q.user), ""
	}
	if user = cookieUser(q.cookie); user != "" {
		return user, ""
	}
	return newMark(string(q.accept), host)
}

// cookieUser is the user that a Cookie header names, as net/http reads it; empty: none.
func cookieUser(header []byte) string {
	at := bytes.Index(header, []byte(UserCookie))
	if at < 0 {
		return ""
	}
	before, value := header[:at], header[at+len(UserCookie):]
	if end := bytes.IndexByte(value, ';'); end >= 0 {
		value = value[:end]
	}
	if (len(before) == 0 || bytes.HasSuffix(before, []byte("; "))) && len(value) > 1 && value[0] == '=' && consists(&markBytes, value[1:]) {
		return string(value[1:])
	}
	r := http.Request{Header: http.Header{"Cookie": {string(header)}}} // it is odd, or another one's value has the name in it
	if c, err := r.Cookie(UserCookie); err == nil {
		return c.Value
	}
	return ""
}

// send is the request with what the front says of its client.
func (q *quickRequest) send(client string) []byte {
	out := q.head.out
	out = append(out, "X-Forwarded-For: "...)
	out = append(out, client...)
	out = append(out, "\r\nX-Forwarded-Host: "...)
	out = append(out, q.host...)
	out = append(out, "\r\nX-Forwarded-Proto: http\r\n\r\n"...)
	out = append(out, q.body...)
	q.head.out = out
	return out
}

// quickAnswer is an answer of a known length that says nothing to the front. Its slices are good until more is read from its upstream.
type quickAnswer struct {
	status int
	last   bool // the upstream closes after it
	dated  bool
	body   []byte
	size   int  // of all
	head   head // for the client, without what the front says itself
}

// read reads what has come so far of the answer to a request for a head only, or another one.
func (a *quickAnswer) read(data []byte, headOnly bool) reading {
	*a = quickAnswer{head: head{out: a.head.out[:0]}}
	text, rest, got := line(data)
	if got != readWhole {
		return got
	}
	const version = "HTTP/1.1 "
	if len(text) < len(version)+4 || string(text[:len(version)]) != version || text[len(version)+3] != ' ' {
		return readUnusual
	}
	if a.status = length(text[len(version) : len(version)+3]); a.status < http.StatusOK {
		return readUnusual
	}
	if rest, got = a.head.read(data, rest, a.field); got != readWhole {
		return got
	}
	size := a.head.length
	switch {
	case a.status == http.StatusNoContent && size < 0, a.status == http.StatusNotModified, headOnly:
		size = 0
	case a.status == http.StatusNoContent, size < 0:
		return readUnusual
	}
	a.size = len(data) - len(rest) + size
	if len(rest) < size {
		return readBody
	}
	a.body = rest[:size]
	return readWhole
}

func (a *quickAnswer) field(name, value []byte) (on, ok bool) {
	switch string(name) {
	case "connection":
		if bytes.EqualFold(value, []byte("close")) {
			a.last = true
			return false, true
		}
		return false, bytes.EqualFold(value, []byte("keep-alive"))
	case "content-type":
		return true, !bytes.HasPrefix(value, []byte("text/event-stream"))
	case "date":
		a.dated = true
	}
	return true, true
}

// send is the answer with what the front says itself.
func (a *quickAnswer) send(cookie string, last bool) []byte {
	out := a.head.out
	if !a.dated {
		out = append(out, "Date: "...)
		out = time.Now().UTC().AppendFormat(out, http.TimeFormat)
		out = append(out, "\r\n"...)
	}
	if cookie != "" {
		out = append(out, "Set-Cookie: "...)
		out = append(out, cookie...)
		out = append(out, "\r\n"...)
	}
	if last {
		out = append(out, "Connection: close\r\n"...)
	}
	out = append(out, "\r\n"...)
	out = append(out, a.body...)
	a.head.out = out
	return out
}
