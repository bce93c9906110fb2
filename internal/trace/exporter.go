package trace

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.uber.org/zap"
)

// exporter counts what reaches the receiver, and says now and then that nothing does.
type exporter struct {
	sdk.SpanExporter

	log          *zap.Logger
	sent, failed atomic.Uint64
	told         time.Time // exports follow one another
}

const tellEvery = time.Minute

// ExportSpans sends spans to the receiver. What it does not take is lost: the stream has it all.
func (e *exporter) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	if err == nil {
		e.sent.Add(uint64(len(spans)))
		return nil
	}
	e.failed.Add(uint64(len(spans)))
	if time.Since(e.told) > tellEvery {
		e.told = time.Now()
		e.log.Warn("the receiver of traces does not take spans; they are lost, and nothing waits for it", zap.Error(err))
	}
	return nil
}

var spansDesc = prometheus.NewDesc("lemnis_trace_spans_total",
	"Spans that were made, that the receiver took (sent), that it did not (failed); the rest waits or was too much.", []string{"outcome"}, nil)

// Describe implements [prometheus.Collector].
func (t *Tracer) Describe(to chan<- *prometheus.Desc) { to <- spansDesc }

// Collect implements [prometheus.Collector]: zeros where nothing is traced.
func (t *Tracer) Collect(to chan<- prometheus.Metric) {
	var made, sent, failed uint64
	if t != nil {
		made, sent, failed = t.made.Load(), t.exporter.sent.Load(), t.exporter.failed.Load()
	}
	for outcome, n := range map[string]uint64{"made": made, "sent": sent, "failed": failed} {
		to <- prometheus.MustNewConstMetric(spansDesc, prometheus.CounterValue, float64(n), outcome)
	}
}
