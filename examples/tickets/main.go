// Command tickets ties an outside ticket tracker to Lemnis: its webhooks become claims, and what became of a ticket goes
// back as a comment, or closes it.
//
//	tickets -project shop -listen 127.0.0.1:8090 -tracker https://tracker.example.org/api
//
// The tracker posts {"action":"opened|edited|closed","ticket":{…}} to /hook; it is told by POST
// <tracker>/tickets/<id>/comments and PUT <tracker>/tickets/<id>/state.
package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
)

const source = "/example/tickets"

// ours begins the ids of the bridge's claims. A fact names its claim as its cause: so the bridge knows what the tracker said
// itself, and remembers nothing.
const ours = "tracker/"

func main() {
	nats := flag.String("nats", "nats://127.0.0.1:4222", "NATS server of the installation")
	listen := flag.String("listen", "127.0.0.1:8090", "address for the tracker's webhooks")
	b := &bridge{http: &http.Client{Timeout: 10 * time.Second}}
	flag.StringVar(&b.project, "project", "shop", "project that the tickets belong to")
	flag.StringVar(&b.tracker, "tracker", "", "URL of the tracker's API")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := b.run(ctx, *nats, *listen)
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

type bridge struct {
	client           *events.Client
	http             *http.Client
	project, tracker string
}

// run takes webhooks in and tells the tracker until ctx ends.
func (b *bridge) run(ctx context.Context, nats, listen string) error {
	if err := b.connect(ctx, nats); err != nil {
		return err
	}
	defer func() { _ = b.client.Close() }()
	server := &http.Server{Addr: listen, Handler: http.HandlerFunc(b.hook), ReadHeaderTimeout: 5 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (b *bridge) connect(ctx context.Context, nats string) (err error) {
	if b.client, err = events.Connect(nats, events.WithSource(source)); err != nil {
		return err
	}
	_, err = b.client.Subscribe(ctx, events.Selector{Project: b.project}, b.tell, events.Durable("example-tickets"),
		events.OnReject(func(e events.Event, err error) { log.Printf("%s is passed over: %v", e.ID, err) }))
	return err
}

// hook takes one webhook in. It answers when the claim is stored: a tracker that gets an error sends it again, and the id of
// the claim, made of the delivery's, keeps it from being claimed twice.
func (b *bridge) hook(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Delivery string `json:"delivery"`
		Action   string `json:"action"`
		Ticket   struct {
			ID, Title, Author, URL, Kind, Priority, Resolution string
		} `json:"ticket"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&in); err != nil || in.Delivery == "" || in.Ticket.ID == "" {
		http.Error(w, "a webhook is JSON with delivery, action and ticket.id", http.StatusBadRequest)
		return
	}
	t := events.Ticket{Summary: in.Ticket.Title, Creator: in.Ticket.Author, URI: in.Ticket.URL, TicketType: in.Ticket.Kind, Priority: in.Ticket.Priority}
	contents := map[string]any{
		"opened": events.TicketCreated{Ticket: t, Lemnis: events.TicketDetail{Origin: events.Stakeholder}},
		"edited": events.TicketUpdated{Ticket: t},
		"closed": events.TicketClosed{Ticket: t, Resolution: cmp.Or(in.Ticket.Resolution, "completed")},
	}
	content, ok := contents[in.Action]
	if !ok {
		w.WriteHeader(http.StatusNoContent) // something else happened
		return
	}
	e := events.New(b.project, in.Ticket.ID, content)
	e.ID = ours + in.Delivery
	if err := b.client.Submit(r.Context(), e); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

// tell is the handler of facts: what the tracker shall know goes back to it.
func (b *bridge) tell(ctx context.Context, e events.Event) error {
	comment := func(ticket, text string) error {
		return b.send(ctx, http.MethodPost, ticket, "comments", map[string]string{"text": text})
	}
	switch c := e.Content.(type) {
	case events.BacklogRanked:
		return nil // many at a time: a tracker is not told of each place
	case events.ReleasePlanned:
		var all error
		for _, p := range c.Items {
			all = errors.Join(all, comment(p.Item, fmt.Sprintf("Planned for release %s: %s", c.Release, p.Reason)))
		}
		return all
	case events.ChangeMerged:
		if c.Lemnis.Item != "" {
			return comment(c.Lemnis.Item, fmt.Sprintf("Change %s is merged as %s", e.SubjectID, c.Lemnis.Commit))
		}
	case events.TicketClosed:
		if strings.HasPrefix(e.Cause, ours) {
			return nil
		}
		return b.send(ctx, http.MethodPut, e.SubjectID, "state", map[string]string{"state": "closed", "resolution": c.Resolution})
	case events.ClaimRefused:
		if c.ClaimType.Subject() == "ticket" {
			log.Printf("claim %s was refused: %s", c.Claim, c.Reason)
		}
	}
	return nil
}

func (b *bridge) send(ctx context.Context, method, ticket, what string, body any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return events.Reject(err)
	}
	address := strings.TrimRight(b.tracker, "/") + "/tickets/" + url.PathEscape(ticket) + "/" + what
	req, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(text))
	if err != nil {
		return events.Reject(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := b.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<16))
	switch {
	case resp.StatusCode == http.StatusNotFound:
		return nil // a ticket that is not the tracker's
	case resp.StatusCode >= 400 && resp.StatusCode < 500 && resp.StatusCode != http.StatusTooManyRequests:
		return events.Reject(fmt.Errorf("%s %s: %s", method, address, resp.Status))
	case resp.StatusCode >= 300:
		return fmt.Errorf("%s %s: %s", method, address, resp.Status)
	}
	return nil
}
