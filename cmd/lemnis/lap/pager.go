package lap

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// message is what the lap reads of an alert.
type message struct {
	Incident string `json:"incident"`
	To       string `json:"to"`
	Text     string `json:"text"`
}

// pager receives the messages to whoever is on duty, as a webhook.
type pager struct {
	url      string
	server   *http.Server
	messages chan message
}

func startPager(address, host string) (*pager, error) {
	listener, err := net.Listen("tcp", cmp.Or(address, "127.0.0.1:0"))
	if err != nil {
		return nil, fmt.Errorf("listen for alerts: %w", err)
	}
	at := listener.Addr().String()
	if _, port, err := net.SplitHostPort(at); err == nil && host != "" {
		at = net.JoinHostPort(host, port)
	}
	p := &pager{url: "http://" + at + "/page", messages: make(chan message, 64)}
	p.server = &http.Server{Handler: http.HandlerFunc(p.receive), ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = p.server.Serve(listener) }() // ends with close
	return p, nil
}

func (p *pager) receive(w http.ResponseWriter, r *http.Request) {
	var m message
	if err := json.NewDecoder(io.LimitReader(r.Body, 1<<20)).Decode(&m); err != nil {
		http.Error(w, "no JSON", http.StatusBadRequest)
		return
	}
	select {
	case p.messages <- m:
		w.WriteHeader(http.StatusNoContent)
	default:
		http.Error(w, "too many messages", http.StatusTooManyRequests)
	}
}

// await waits for the message about an incident.
func (p *pager) await(ctx context.Context, incident string) (message, error) {
	for {
		select {
		case <-ctx.Done():
			return message{}, fmt.Errorf("waited in vain for the message about incident %s: %w", incident, context.Cause(ctx))
		case m := <-p.messages:
			if m.Incident == incident {
				return m, nil
			}
		}
	}
}

func (p *pager) close() error {
	if err := p.server.Close(); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
