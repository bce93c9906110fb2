package service

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/pkg/events"
)

// metrics measures one service. Everything is resolved when it is made, so that an event costs a few atomic additions
// and no look-up. docs/observe.md says how to read it.
type metrics struct {
	decided, conflicts, deadLetters, publishErrors atomic.Uint64

	decide, publish prometheus.Histogram
	effects         map[string]*effectMetrics

	savedAt, saved atomic.Int64 // Unix nanoseconds at which the folds were last known to be saved, and up to where
	term           atomic.Pointer[term]
	behind         sample

	descs map[string]*prometheus.Desc
}

// effectMetrics measures one effect. The nil one measures nothing.
type effectMetrics struct {
	of                                   *metrics
	done, failed, rejected, interrupted  atomic.Uint64
	redelivered                          atomic.Uint64
	took                                 prometheus.Histogram
	known                                atomic.Bool // the rest is as of the consumer's last look-up
	pending, unacknowledged, redelivring atomic.Int64
	descs                                map[string]*prometheus.Desc
}

// momentary are the bounds of what goes on between two messages, lasting those of work in the world, in seconds.
var (
	momentary = []float64{.00001, .00003, .0001, .0003, .001, .003, .01, .03, .1, .3, 1, 3, 10}
	lasting   = []float64{.003, .01, .03, .1, .3, 1, 3, 10, 30, 100, 300, 1000, 3000}
)

func (m *metrics) init(phase events.Phase, effects []Effect) {
	label := prometheus.Labels{"phase": string(phase)}
	histogram := func(name, help string, buckets []float64, labels prometheus.Labels) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets, ConstLabels: labels})
	}
	m.decide = histogram("lemnis_decide_seconds", "Time to decide on one event for one aggregate.", momentary, label)
	m.publish = histogram("lemnis_publish_seconds", "Time from sending a fact to the stream's answer.", momentary, label)
	descs := func(ofEffect bool, labels prometheus.Labels) map[string]*prometheus.Desc {
		all := map[string]*prometheus.Desc{}
		for _, f := range families {
			if (f.effect != nil) == ofEffect {
				all[f.name] = f.desc(labels)
			}
		}
		return all
	}
	m.descs = descs(false, label)
	m.effects = map[string]*effectMetrics{}
	for _, e := range effects {
		labels := prometheus.Labels{"phase": string(phase), "effect": e.Name}
		m.effects[e.Name] = &effectMetrics{
			of: m, descs: descs(true, labels), took: histogram("lemnis_effect_seconds", "Time of one attempt at an effect.", lasting, labels),
		}
	}
}

// note takes over what the bus says of the effect's consumer.
func (m *effectMetrics) note(info *jetstream.ConsumerInfo) {
	if m == nil {
		return
	}
	m.pending.Store(int64(min(info.NumPending, 1<<62)))
	m.unacknowledged.Store(int64(info.NumAckPending))
	m.redelivring.Store(int64(info.NumRedelivered))
	m.known.Store(true)
}

// begun counts a delivery.
func (m *effectMetrics) begun(delivered uint64) {
	if m != nil && delivered > 1 {
		m.redelivered.Add(1)
	}
}

// What became of an attempt at an effect.
const (
	effectDone        = "done"
	effectFailed      = "failed" // it is tried again
	effectRejected    = "rejected"
	effectInterrupted = "interrupted"
)

// ended counts an attempt by what became of it.
func (m *effectMetrics) ended(began time.Time, outcome string) {
	if m == nil {
		return
	}
	m.took.Observe(time.Since(began).Seconds())
	switch outcome {
	case effectDone:
		m.done.Add(1)
	case effectRejected:
		m.rejected.Add(1)
	case effectInterrupted:
		m.interrupted.Add(1)
	default:
		m.failed.Add(1)
	}
}

// buried counts a dead letter of the effect.
func (m *effectMetrics) buried() {
	if m != nil {
		m.of.deadLetters.Add(1)
	}
}

// notPublished counts what the bus did not take. The nil one counts nothing.
func (m *metrics) notPublished() {
	if m != nil {
		m.publishErrors.Add(1)
	}
}

// notStated counts a fact that did not get its place: something else stood there (the bus says so, or that it knows the
// message), or the bus took nothing.
func (m *metrics) notStated(err error) {
	const wrongLastSequenceConstant = 10164 // a write under the same fence is in flight
	var refused *jetstream.APIError
	if err == nil || errors.As(err, &refused) &&
		(refused.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || refused.ErrorCode == wrongLastSequenceConstant) {
		m.conflicts.Add(1)
		return
	}
	m.publishErrors.Add(1)
}

// foldsSaved notes that the saved folds are complete up to a sequence.
func (m *metrics) foldsSaved(sequence uint64, at time.Time) {
	m.saved.Store(int64(min(sequence, 1<<62)))
	m.savedAt.Store(at.UnixNano())
}

// sample keeps the answer to a question to the bus for a while, so that it does not matter how often it is asked.
type sample struct {
	mu    sync.Mutex
	at    time.Time
	value float64
	ok    bool
}

const (
	sampleAge     = 5 * time.Second
	sampleTimeout = 2 * time.Second
)

func (s *sample) get(ask func(context.Context) (float64, error)) (float64, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at.IsZero() || time.Since(s.at) > sampleAge {
		ctx, cancel := context.WithTimeout(context.Background(), sampleTimeout)
		defer cancel()
		var err error
		s.value, err = ask(ctx)
		s.at, s.ok = time.Now(), err == nil
	}
	return s.value, s.ok
}

// NewRegistry is the metrics of a process: those of Go, of the process, of the bus as it sees it, and of what it runs. It
// is the process's own; nothing is registered globally.
func NewRegistry(h Host, of ...prometheus.Collector) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), &busMetrics{host: h}, h.Trace)
	r.MustRegister(of...)
	return r
}

// Collectors are the metrics of services, for [NewRegistry].
func Collectors(services []*Service) []prometheus.Collector {
	all := make([]prometheus.Collector, len(services))
	for i, s := range services {
		all[i] = s
	}
	return all
}

// ShowMetrics answers with what is gathered, as Prometheus reads it.
func ShowMetrics(from prometheus.Gatherer) http.Handler {
	return promhttp.HandlerFor(from, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 4})
}

// busMetrics is the bus as a process sees it.
type busMetrics struct {
	host             Host
	end, deadLetters sample
}

var (
	busConnected  = prometheus.NewDesc("lemnis_bus_connected", "1 where the process is connected to the bus.", nil, nil)
	busReconnects = prometheus.NewDesc("lemnis_bus_reconnects_total", "How often the connection to the bus was made again.", nil, nil)
	streamEnd     = prometheus.NewDesc("lemnis_stream_last_sequence", "Sequence at which LIFECYCLE ends; absent while the bus does not answer.", nil, nil)
	letters       = prometheus.NewDesc("lemnis_dead_letters", "Dead letters that are kept; absent while the bus does not answer.", nil, nil)
)

// Describe implements [prometheus.Collector].
func (b *busMetrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{busConnected, busReconnects, streamEnd, letters} {
		to <- d
	}
}

// Collect implements [prometheus.Collector].
func (b *busMetrics) Collect(to chan<- prometheus.Metric) {
	connected := 0.0
	if b.host.Conn.IsConnected() {
		connected = 1
	}
	to <- prometheus.MustNewConstMetric(busConnected, prometheus.GaugeValue, connected)
	to <- prometheus.MustNewConstMetric(busReconnects, prometheus.CounterValue, float64(b.host.Conn.Stats().Reconnects))
	if connected == 0 {
		return
	}
	end, ok := b.end.get(func(ctx context.Context) (float64, error) {
		n, err := lastSequence(ctx, b.host.JS)
		return float64(n), err
	})
	if ok {
		to <- prometheus.MustNewConstMetric(streamEnd, prometheus.GaugeValue, end)
	}
	kept, ok := b.deadLetters.get(func(ctx context.Context) (float64, error) {
		s, err := b.host.JS.Stream(ctx, natsd.DeadLetter)
		if err != nil {
			return 0, err
		}
		return float64(s.CachedInfo().State.Msgs), nil
	})
	if ok {
		to <- prometheus.MustNewConstMetric(letters, prometheus.GaugeValue, kept)
	}
}
