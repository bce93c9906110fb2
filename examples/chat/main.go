// Command chat tells a chat room what matters of a project: what serves its users now, what was taken back, what waits for
// an approval, what is wrong. It posts {"text":…} to an incoming webhook, as Slack, Mattermost and others have them.
//
//	chat -webhook https://chat.example.org/hooks/… -project shop
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
)

func main() {
	nats := flag.String("nats", "nats://127.0.0.1:4222", "NATS server of the installation")
	project := flag.String("project", "", "project; all without it")
	webhook := flag.String("webhook", "", "incoming webhook of the room")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *nats, *project, room{webhook: *webhook, http: &http.Client{Timeout: 10 * time.Second}})
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

// run tells the room until ctx ends.
func run(ctx context.Context, nats, project string, to room) error {
	client, err := events.Connect(nats, events.WithErrorHandler(func(err error) { log.Print(err) }))
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	// The server remembers under this name how far the room was told: a restart goes on there.
	_, err = client.Subscribe(ctx, events.Selector{Project: project}, to.tell, events.Durable("chat"),
		events.OnReject(func(e events.Event, err error) { log.Printf("%s is passed over: %v", e.ID, err) }))
	if err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// room is a chat room that can be posted to.
type room struct {
	webhook string
	http    *http.Client
}

// tell is the handler: what it returns says what becomes of the fact.
func (r room) tell(ctx context.Context, e events.Event) error {
	text := describe(e)
	if text == "" {
		return nil // nothing that the room cares for
	}
	body, err := json.Marshal(map[string]string{"text": text})
	if err != nil {
		return events.Reject(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.webhook, bytes.NewReader(body))
	if err != nil {
		return events.Reject(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := r.http.Do(req)
	if err != nil {
		return err // away: again, with backoff; the facts behind wait, so the room reads them in order
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode < 300:
		return nil
	case resp.StatusCode == http.StatusTooManyRequests:
		seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
		return events.Retry(time.Duration(max(seconds, 1))*time.Second, errors.New("the room is told too much"))
	case resp.StatusCode < 500:
		return events.Reject(fmt.Errorf("the room answers %s", resp.Status)) // it will never take this
	}
	return fmt.Errorf("the room answers %s", resp.Status)
}

// describe is what the room reads of a fact; empty for what it does not.
func describe(e events.Event) string {
	switch c := e.Content.(type) {
	case events.ServicePublished:
		return fmt.Sprintf("🚀 %s serves all users of %s", c.Lemnis.Rollout.Service, c.Environment.ID)
	case events.ServiceRolledback:
		return fmt.Sprintf("↩️ %s was taken back in %s: %s", c.Lemnis.Rollout.Service, c.Environment.ID, c.Lemnis.Reason)
	case events.ApprovalRequested:
		return fmt.Sprintf("✋ %s waits for %d approval(s) to enter %s: lemnis approve %[3]s/%[1]s", c.Rollout.Service, c.Needed, c.Rollout.Environment)
	case events.IncidentDetected:
		return fmt.Sprintf("🔥 %s in %s: %s", e.SubjectID, c.Environment.ID, c.Description)
	case events.IncidentResolved:
		return fmt.Sprintf("✅ %s is over", e.SubjectID)
	}
	return ""
}
