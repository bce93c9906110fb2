package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// upgradeOf is the protocol that a head wants to go on in; empty when it does not.
func upgradeOf(h http.Header) string {
	if len(h["Upgrade"]) == 0 || !slices.Contains(listed(h["Connection"]), "Upgrade") {
		return ""
	}
	return h.Get("Upgrade")
}

var errClosing = errors.New("the front is closing")

// upgrade joins the client's connection and the upstream's, until one of them ends, or the front cuts them.
func (c *connection) upgrade(f *Front, w http.ResponseWriter, r *http.Request, response *http.Response) error {
	wanted, got := upgradeOf(r.Header), upgradeOf(response.Header)
	if !strings.EqualFold(wanted, got) {
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
	ended := make(chan struct{}, 2)
	join := func(to io.Writer, from io.Reader) {
		_, _ = copyBody(to, from, nil)
		ended <- struct{}{}
	}
	go join(c.Conn, buffered)
	go join(client, c.in)
	<-ended
	_ = client.Close()
	_ = c.Close()
	<-ended
	return nil
}
