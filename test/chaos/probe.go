package chaos

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lemnis/lemnis/pkg/events"
)

// probeProject is the project of the probe's claims.
const probeProject = "probe"

// Probe puts a claim on the stream every now and then, past the gateway, and measures how long nothing could be
// published. Each of its claims is answered by the planner, with a refusal.
type Probe struct {
	js    jetstream.JetStream
	every time.Duration

	mu      sync.Mutex
	acked   []Acknowledged
	longest time.Duration  // between two acknowledgements
	since   time.Time      // the last one
	refused map[string]int // why it was not taken, by text
}

// NewProbe prepares a probe.
func NewProbe(js jetstream.JetStream, every time.Duration) *Probe {
	return &Probe{js: js, every: every, refused: map[string]int{}}
}

// Run publishes until ctx ends. What was begun is finished, so that it is known whether it stands.
func (p *Probe) Run(ctx context.Context) {
	p.mu.Lock()
	p.since = time.Now()
	p.mu.Unlock()
	for n := 0; ctx.Err() == nil; n++ {
		p.put(context.WithoutCancel(ctx), ctx, n)
		wait(ctx, p.every)
	}
}

func (p *Probe) put(ctx, patient context.Context, n int) {
	c := events.TicketClosed{Ticket: events.Ticket{Summary: "probe", Creator: "probe", URI: "urn:chaos:probe"}, Resolution: "withdrawn"}
	e := events.Event{ID: fmt.Sprintf("probe-%d-%d", time.Now().UnixNano(), n), Source: "/chaos/probe", Type: events.TypeOf(c), Time: time.Now(),
		Project: probeProject, Phase: events.Plan, Principal: "local", Key: fmt.Sprintf("probe-%d", n%64), SubjectID: fmt.Sprintf("probe-%d", n%64), Content: c}
	e.Chain = e.ID
	m, err := events.Encode(e)
	if err != nil {
		panic(err) // a mistake of the proof's
	}
	m.Subject = e.Subject(events.Claim)
	m.Header[nats.MsgIdHdr] = []string{events.ClaimMessageID("local", e.Source, e.ID)}
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); {
		once, cancel := context.WithTimeout(ctx, time.Second)
		ack, err := p.js.PublishMsg(once, m, jetstream.WithRetryAttempts(0))
		cancel()
		if err == nil {
			p.note(e.ID, ack.Sequence)
			return
		}
		p.mu.Lock()
		p.refused[firstLine(err.Error())]++
		p.mu.Unlock()
		if patient.Err() != nil {
			return // never acknowledged: it may stand or not
		}
		wait(patient, 20*time.Millisecond)
	}
}

func (p *Probe) note(id string, sequence uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.longest = max(p.longest, now.Sub(p.since)-p.every)
	p.since = now
	p.acked = append(p.acked, Acknowledged{probeProject, id, sequence})
}

// Acknowledged are the probe's claims that were.
func (p *Probe) Acknowledged() []Acknowledged {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Acknowledged(nil), p.acked...)
}

// Pause is the longest time for which nothing could be published.
func (p *Probe) Pause() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.longest
}

// Refused tells why claims of the probe were not taken at first.
func (p *Probe) Refused() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make(map[string]int, len(p.refused))
	for k, v := range p.refused {
		all[k] = v
	}
	return all
}
