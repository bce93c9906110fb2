package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// upgradeOf is the protocol that a head wants to go on in; empty when it does not. HTTP/2 is none: it would hold the requests of
// several users, and the settings that it begins with mean one connection only.
func upgradeOf(h http.Header) string {
	protocol := h.Get("Upgrade")
	if !slices.Contains(listed(h["Connection"]), "Upgrade") || strings.EqualFold(protocol, "h2c") {
		return ""
	}
	return protocol
}

// wantedOf is the protocol that a client wants to go on in; HTTP/1.0 knows none (RFC 9110, 7.8).
func wantedOf(r *http.Request) string {
	if !r.ProtoAtLeast(1, 1) {
		return ""
	}
	return upgradeOf(r.Header)
}

var errClosing = errors.New("the front is closing")

// upgrade joins the client's connection and the upstream's until both have said all, or the front cuts them. Where one has, the other
// has to say something every stall.
func (c *connection) upgrade(f *Front, w http.ResponseWriter, r *http.Request, response *http.Response) error {
	wanted, got := wantedOf(r), upgradeOf(response.Header)
	if wanted == "" || !strings.EqualFold(wanted, got) {
		return fmt.Errorf("the upstream goes on in %q, %q was asked for", got, wanted)
	}
	if !f.upgraded.add() {
		return errClosing
	}
	defer f.upgraded.remove()
	client, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	defer context.AfterFunc(f.cutting, func() { _, _ = client.Close(), c.Close() })()
	_ = client.SetDeadline(time.Time{})
	h := w.Header()
	copyHeaders(h, response.Header)
	h.Set("Connection", "Upgrade")
	h.Set("Upgrade", got)
	_, _ = buffered.WriteString("HTTP/1.1 101 Switching Protocols\r\n")
	_ = h.Write(buffered)
	_, _ = buffered.WriteString("\r\n")
	if err := buffered.Flush(); err != nil {
		return &brokenError{errClient}
	}
	var half atomic.Bool
	ended := make(chan bool, 2)
	join := func(to, from net.Conn, in io.Reader) {
		patient := func() error {
			if half.Load() {
				return from.SetReadDeadline(time.Now().Add(f.stall))
			}
			return nil
		}
		read, written := copyBody(to, in, patient)
		whole := read == nil && written == nil
		if whole && !half.Swap(true) {
			_ = to.SetReadDeadline(time.Now().Add(f.stall)) // the other way
			closing, can := to.(interface{ CloseWrite() error })
			whole = can && closing.CloseWrite() == nil
		}
		ended <- whole
	}
	early, _ := buffered.Peek(buffered.Reader.Buffered())
	// Not through buffered: at its end net/http would take the request for given up.
	go join(c.Conn, client, io.MultiReader(bytes.NewReader(early), client))
	go join(client, c.Conn, c.in)
	first := <-ended
	if first {
		<-ended
	}
	_ = client.Close()
	_ = c.Close()
	if !first {
		<-ended
	}
	return nil
}
