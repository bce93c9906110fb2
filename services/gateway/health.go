package gateway

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"
)

// metrics counts what a gateway did since it was made.
type metrics struct {
	claims, duplicates, submitted, buried atomic.Uint64

	mu       sync.Mutex
	refusals map[int]uint64 // by HTTP status
	webhooks map[delivered]uint64
}

// delivered is what became of deliveries from one kind of sender.
type delivered struct{ kind, outcome string }

func (m *metrics) webhook(kind, outcome string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.webhooks == nil {
		m.webhooks = map[delivered]uint64{}
	}
	m.webhooks[delivered{kind, outcome}]++
}

// writeWebhooks writes the counts in a fixed order.
func (m *metrics) writeWebhooks(b *strings.Builder) {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := slices.SortedFunc(maps.Keys(m.webhooks), func(x, y delivered) int {
		return cmp.Or(strings.Compare(x.kind, y.kind), strings.Compare(x.outcome, y.outcome))
	})
	b.WriteString("# HELP lemnis_gateway_webhooks_total Deliveries of webhooks by sender and by what became of them.\n# TYPE lemnis_gateway_webhooks_total counter\n")
	for _, one := range all {
		fmt.Fprintf(b, "lemnis_gateway_webhooks_total{kind=%q,outcome=%q} %d\n", one.kind, one.outcome, m.webhooks[one])
	}
}

func (m *metrics) refused(status int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.refusals == nil {
		m.refusals = map[int]uint64{}
	}
	m.refusals[status]++
}

func (g *Gateway) logRequest(r *http.Request, err error) {
	if r.Context().Err() == nil { // else the client went away
		g.log.Error("request failed", zap.String("method", r.Method), zap.String("path", r.URL.Path), zap.Error(err))
	}
}

// healthz answers that the process lives.
func (g *Gateway) healthz(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) }

// Ready reports what is still missing before everything that was on the stream at the start can be asked for; empty
// when nothing is.
func (g *Gateway) Ready() string {
	for _, part := range []struct {
		name string
		done <-chan struct{}
	}{{"live events", g.live.begun}, {"overview", g.overview.ready}, {"index", g.index.ready}} {
		select {
		case <-part.done:
		default:
			return part.name
		}
	}
	return ""
}

// readyz answers whether the read models have reached the end that the stream had at the start.
func (g *Gateway) readyz(w http.ResponseWriter, r *http.Request) {
	if missing := g.Ready(); missing != "" {
		g.fail(w, r, refuse(http.StatusServiceUnavailable, "not ready: %s", missing))
		return
	}
	_, _ = w.Write([]byte("ready\n"))
}

// showMetrics answers in the Prometheus text format.
func (g *Gateway) showMetrics(w http.ResponseWriter, _ *http.Request) {
	var b strings.Builder
	one := func(name, kind, help string, value uint64) {
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n%s %d\n", name, help, name, kind, name, value)
	}
	one("lemnis_gateway_claims_total", "counter", "Claims put on the stream.", g.metrics.claims.Load())
	one("lemnis_gateway_duplicates_total", "counter", "Claims that were there already.", g.metrics.duplicates.Load())
	one("lemnis_gateway_submitted_total", "counter", "Messages of inboxes that became claims.", g.metrics.submitted.Load())
	one("lemnis_gateway_dead_letters_total", "counter", "Messages of inboxes that became dead letters.", g.metrics.buried.Load())
	listening, dropped := g.live.counts()
	one("lemnis_gateway_listeners", "gauge", "Listeners to live events.", uint64(listening))
	one("lemnis_gateway_listeners_dropped_total", "counter", "Listeners that were too slow.", dropped)
	one("lemnis_gateway_index_sequence", "gauge", "Sequence that the index stands at.", g.index.at.Load())
	g.overview.mu.RLock()
	at := g.overview.sequence
	g.overview.mu.RUnlock()
	one("lemnis_gateway_overview_sequence", "gauge", "Sequence that the overview stands at.", at)
	g.metrics.mu.Lock()
	statuses := make([]int, 0, len(g.metrics.refusals))
	for status := range g.metrics.refusals {
		statuses = append(statuses, status)
	}
	slices.Sort(statuses)
	b.WriteString("# HELP lemnis_gateway_refusals_total Requests and events that were refused.\n# TYPE lemnis_gateway_refusals_total counter\n")
	for _, status := range statuses {
		fmt.Fprintf(&b, "lemnis_gateway_refusals_total{status=\"%d\"} %d\n", status, g.metrics.refusals[status])
	}
	g.metrics.mu.Unlock()
	g.metrics.writeWebhooks(&b)
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write([]byte(b.String()))
}
