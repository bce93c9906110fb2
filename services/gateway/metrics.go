package gateway

import (
	"net/http"
	"strconv"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lemnis/lemnis/internal/service"
)

// metrics counts what a gateway did since it was made.
type metrics struct {
	claims, duplicates, submitted, buried atomic.Uint64

	refusals *prometheus.CounterVec // by HTTP status
	webhooks *prometheus.CounterVec // by sender, and by what became of them
	quotas   *prometheus.CounterVec // what was refused since a quota is used up, by project and by what of
	handler  http.Handler           // of /metrics
}

func (m *metrics) webhook(kind, outcome string) { m.webhooks.WithLabelValues(kind, outcome).Inc() }

func (m *metrics) refused(status int) { m.refusals.WithLabelValues(strconv.Itoa(status)).Inc() }

// measure makes the metrics of the process: the gateway's, and what else runs in it.
func (g *Gateway) measure(others []prometheus.Collector) {
	m := &g.metrics
	m.refusals = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "lemnis_gateway_refusals_total", Help: "Requests and events that were refused."}, []string{"status"})
	m.webhooks = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "lemnis_gateway_webhooks_total", Help: "Deliveries of webhooks by sender and by what became of them."}, []string{"kind", "outcome"})
	m.quotas = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "lemnis_gateway_quota_refusals_total", Help: "Events and uploads that were refused since a project's quota is used up."}, []string{"project", "quota"})
	registry := service.NewRegistry(g.host, others...)
	counter := func(name, help string, value func() uint64) {
		registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(value()) }))
	}
	gauge := func(name, help string, value func() uint64) {
		registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(value()) }))
	}
	counter("lemnis_gateway_claims_total", "Claims put on the stream.", m.claims.Load)
	counter("lemnis_gateway_duplicates_total", "Claims that were there already.", m.duplicates.Load)
	counter("lemnis_gateway_submitted_total", "Messages of inboxes that became claims.", m.submitted.Load)
	counter("lemnis_gateway_dead_letters_total", "Messages of inboxes that became dead letters.", m.buried.Load)
	gauge("lemnis_gateway_listeners", "Listeners to live events.", func() uint64 {
		listening, _ := g.live.counts()
		return uint64(listening)
	})
	counter("lemnis_gateway_listeners_dropped_total", "Listeners that were too slow.", func() uint64 {
		_, dropped := g.live.counts()
		return dropped
	})
	gauge("lemnis_gateway_ready", "1 where the read models have reached the end that the stream had at the start.", func() uint64 {
		if g.Ready() == "" {
			return 1
		}
		return 0
	})
	gauge("lemnis_gateway_index_sequence", "Sequence that the index stands at.", g.index.at.Load)
	gauge("lemnis_gateway_overview_sequence", "Sequence that the overview stands at.", func() uint64 {
		g.overview.mu.RLock()
		defer g.overview.mu.RUnlock()
		return g.overview.sequence
	})
	registry.MustRegister(m.refusals, m.webhooks, m.quotas)
	m.handler = service.ShowMetrics(registry)
}

// showMetrics answers as Prometheus reads it.
func (g *Gateway) showMetrics(w http.ResponseWriter, r *http.Request) {
	g.metrics.handler.ServeHTTP(w, r)
}
