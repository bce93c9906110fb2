package gateway_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
)

// While the index is further behind than the stream remembers ids, no claim is taken: another gateway may have put the same
// one there, which nobody here would know. On a stream that stands still it is not behind.
func TestNoClaimByAnIndexThatLags(t *testing.T) {
	w := newWorld(t)
	const bound = 3 * time.Second
	w.gw.BoundLag(bound)
	w.claim(ticket("t1", "x"))
	for began := time.Now(); time.Since(began) < 3*bound/2; <-time.After(bound / 10) {
		if resp, answer := w.send(http.MethodGet, "/readyz", ""); resp.StatusCode != http.StatusOK {
			t.Fatalf("the stream stands still: %d %s", resp.StatusCode, answer)
		}
	}
	w.claim(ticket("t2", "x"))

	release := w.gw.HoldTail()
	held := true
	defer func() {
		if held {
			release()
		}
	}()
	for _, id := range []string{"b1", "b2"} { // the second is not met by the index
		w.state(fact("shop", id, events.Plan, events.TicketCreated{Ticket: events.Ticket{Summary: "x", Creator: "ann", URI: "/x"}}))
	}
	late := ticket("t3", "x")
	w.until("claims are refused", func() bool {
		resp, answer := w.send(http.MethodPost, "/events", structured(t, late), "Content-Type", "application/cloudevents+json")
		if resp.StatusCode != http.StatusServiceUnavailable {
			late = named("t3-" + time.Now().Format("150405.000000"))
			return false
		}
		if resp.Header.Get("Retry-After") == "" {
			t.Errorf("no Retry-After: %s", answer)
		}
		return true
	})
	if resp, answer := w.send(http.MethodGet, "/readyz", ""); resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(answer, "index") {
		t.Errorf("%d %s", resp.StatusCode, answer)
	}
	release()
	held = false
	w.until("claims are taken again", func() bool {
		resp, _ := w.send(http.MethodPost, "/events", structured(t, late), "Content-Type", "application/cloudevents+json")
		return resp.StatusCode == http.StatusAccepted
	})
	w.until("it is ready", func() bool { resp, _ := w.send(http.MethodGet, "/readyz", ""); return resp.StatusCode == http.StatusOK })
}
