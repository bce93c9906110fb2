package subscription

import (
	"bufio"
	"bytes"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strconv"
)

// target is where a sink is.
type target struct {
	secure  bool
	origin  string // scheme and host, as they are written
	host    string // as it is written
	name    string // of the host alone
	address string // to dial
	uri     string // path and query
}

func newTarget(sink string) (*target, error) {
	u, err := url.Parse(sink)
	if err != nil {
		return nil, errors.New("the sink is no URL")
	}
	if u.Host == "" || u.User != nil || u.Scheme != "https" && u.Scheme != "http" {
		return nil, errors.New("the sink is no URL to send to")
	}
	t := &target{secure: u.Scheme == "https", origin: u.Scheme + "://" + u.Host, host: u.Host, name: u.Hostname(), uri: u.RequestURI()}
	port := u.Port()
	switch {
	case port != "":
	case t.secure:
		port = "443"
	default:
		port = "80"
	}
	t.address = net.JoinHostPort(t.name, port)
	return t, nil
}

// request is what is sent. Its header is written already, apart from what frames it: much of it is the same for all who
// get an event.
type request struct {
	method string
	to     *target
	head   [3][]byte // whole lines
	body   []byte
}

// lines are a header as it is sent. What would end a line within a value is a space.
func lines(h http.Header) []byte {
	var b bytes.Buffer
	_ = h.Write(&b) // a buffer takes all
	return b.Bytes()
}

// write sends all of it. A buffered writer keeps its first error.
func (q request) write(w *bufio.Writer) error {
	for _, s := range [...]string{q.method, " ", q.to.uri, " HTTP/1.1\r\nHost: ", q.to.host, "\r\n"} {
		_, _ = w.WriteString(s)
	}
	for _, h := range q.head {
		_, _ = w.Write(h)
	}
	if len(q.body) > 0 || q.method == http.MethodPost {
		var number [20]byte
		_, _ = w.WriteString("Content-Length: ")
		_, _ = w.Write(strconv.AppendInt(number[:0], int64(len(q.body)), 10))
		_, _ = w.WriteString("\r\n")
	}
	_, _ = w.WriteString("\r\n")
	_, _ = w.Write(q.body)
	return w.Flush()
}
