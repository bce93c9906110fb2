package service

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// family is one name under /metrics.
type family struct {
	name, help string
	kind       prometheus.ValueType
	value      func(s *Service) (value float64, known bool)
	effect     func(m *effectMetrics) []labelled // of one effect, instead of value
	variable   []string                          // labels beside phase and effect
}

func (f family) desc(of prometheus.Labels) *prometheus.Desc {
	return prometheus.NewDesc(f.name, f.help, f.variable, of)
}

// labelled is a value with the label that tells it from others of the family and effect; empty when there is one.
type labelled struct {
	outcome string
	value   float64
}

const (
	counter = prometheus.CounterValue
	gauge   = prometheus.GaugeValue
)

func always(f func(*Service) float64) func(*Service) (float64, bool) {
	return func(s *Service) (float64, bool) { return f(s), true }
}

// whileOwner gives a value while the process decides for the phase, and none otherwise: the owner gives it.
func whileOwner(f func(*Service, *term) float64) func(*Service) (float64, bool) {
	return func(s *Service) (float64, bool) {
		t := s.metrics.term.Load()
		if t == nil || !s.Owns() {
			return 0, false
		}
		return f(s, t), true
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func noted(read func(*effectMetrics) int64) func(*effectMetrics) []labelled {
	return func(m *effectMetrics) []labelled {
		if !m.known.Load() {
			return nil
		}
		return []labelled{{value: float64(read(m))}}
	}
}

var families = []family{
	{name: "lemnis_facts_total", help: "Facts stated by this process.", kind: counter, value: always(func(s *Service) float64 { return float64(s.metrics.decided.Load()) })},
	{name: "lemnis_fence_conflicts_total", help: "Publications that met another fact.", kind: counter, value: always(func(s *Service) float64 { return float64(s.metrics.conflicts.Load()) })},
	{name: "lemnis_dead_letters_total", help: "Events that could not be handled.", kind: counter, value: always(func(s *Service) float64 { return float64(s.metrics.deadLetters.Load()) })},
	{name: "lemnis_publish_errors_total", help: "Facts, results, timers and dead letters that the bus did not take at once, conflicts aside.", kind: counter, value: always(func(s *Service) float64 { return float64(s.metrics.publishErrors.Load()) })},
	{name: "lemnis_troubles", help: "Aggregates and partitions that nothing can be decided on.", kind: gauge, value: always(func(s *Service) float64 { return float64(len(s.Troubles())) })},
	{name: "lemnis_owner", help: "1 where this process decides for the phase.", kind: gauge, value: always(func(s *Service) float64 { return truth(s.Owns()) })},
	{name: "lemnis_ready", help: "1 where this process has caught up, or stands by.", kind: gauge, value: always(func(s *Service) float64 {
		select {
		case <-s.Ready():
			return 1
		default:
			return 0
		}
	})},
	{name: "lemnis_read_sequence", help: "Sequence that the owner has read up to.", kind: gauge, value: whileOwner(func(_ *Service, t *term) float64 { return float64(t.read.Load()) })},
	{name: "lemnis_floor_sequence", help: "Sequence up to which the owner has handled everything.", kind: gauge, value: whileOwner(func(_ *Service, t *term) float64 { return float64(t.handled()) })},
	{name: "lemnis_lag_events", help: "Events for the phase that its owner has not handled; absent while the bus does not answer.", kind: gauge, value: func(s *Service) (float64, bool) {
		t := s.metrics.term.Load()
		if t == nil || !s.Owns() {
			return 0, false
		}
		return s.metrics.behind.get(func(ctx context.Context) (float64, error) {
			n, err := pendingFor(ctx, t.host.JS, causeFilters(t.def.Phase, t.takes), t.firstOpen())
			return float64(n), err
		})
	}},
	{name: "lemnis_fold_saved_sequence", help: "Sequence up to which the owner's folds are saved.", kind: gauge, value: whileOwner(func(s *Service, _ *term) float64 { return float64(s.metrics.saved.Load()) })},
	{name: "lemnis_fold_age_seconds", help: "Time since the owner's folds were last saved whole.", kind: gauge, value: whileOwner(func(s *Service, _ *term) float64 {
		return max(time.Since(time.Unix(0, s.metrics.savedAt.Load())).Seconds(), 0)
	})},
	{name: "lemnis_effect_attempts_total", help: "Attempts at effects by what became of them: done, failed (tried again), rejected (dead letter), interrupted.", kind: counter, variable: []string{"outcome"}, effect: func(m *effectMetrics) []labelled {
		return []labelled{
			{effectDone, float64(m.done.Load())}, {effectFailed, float64(m.failed.Load())},
			{effectRejected, float64(m.rejected.Load())}, {effectInterrupted, float64(m.interrupted.Load())},
		}
	}},
	{name: "lemnis_effect_redeliveries_total", help: "Facts that came to an effect of this process not for the first time.", kind: counter, effect: func(m *effectMetrics) []labelled {
		return []labelled{{value: float64(m.redelivered.Load())}}
	}},
	{name: "lemnis_effect_pending", help: "Facts that no worker has begun with, as last asked (every 10 s).", kind: gauge, effect: noted(func(m *effectMetrics) int64 { return m.pending.Load() })},
	{name: "lemnis_effect_unacknowledged", help: "Facts that workers are at or that wait for another attempt, as last asked (every 10 s).", kind: gauge, effect: noted(func(m *effectMetrics) int64 { return m.unacknowledged.Load() })},
	{name: "lemnis_effect_redelivered", help: "Facts among those that workers are at or that wait which are not at their first attempt, as last asked (every 10 s).", kind: gauge, effect: noted(func(m *effectMetrics) int64 { return m.redelivring.Load() })},
}

// Describe implements [prometheus.Collector].
func (s *Service) Describe(to chan<- *prometheus.Desc) {
	s.metrics.decide.Describe(to)
	s.metrics.publish.Describe(to)
	for _, d := range s.metrics.descs {
		to <- d
	}
	for _, e := range s.metrics.effects {
		e.took.Describe(to)
		for _, d := range e.descs {
			to <- d
		}
	}
}

// Collect implements [prometheus.Collector]: the metrics of this phase in this process.
func (s *Service) Collect(to chan<- prometheus.Metric) {
	m := &s.metrics
	m.decide.Collect(to)
	m.publish.Collect(to)
	for _, e := range m.effects {
		e.took.Collect(to)
	}
	for _, f := range families {
		if f.effect == nil {
			if v, known := f.value(s); known {
				to <- prometheus.MustNewConstMetric(m.descs[f.name], f.kind, v)
			}
			continue
		}
		for _, e := range m.effects {
			for _, l := range f.effect(e) {
				var labels []string
				if l.outcome != "" {
					labels = []string{l.outcome}
				}
				to <- prometheus.MustNewConstMetric(e.descs[f.name], f.kind, l.value, labels...)
			}
		}
	}
}
