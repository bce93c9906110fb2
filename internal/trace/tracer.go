package trace

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	otel "go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
)

// Tracer hands spans to a receiver behind the work that they tell of. Its methods may be called from several goroutines, and
// on nil, which tells nobody anything.
type Tracer struct {
	provider *sdk.TracerProvider
	tracer   otel.Tracer
	exporter *exporter
	made     atomic.Uint64
}

const (
	endpoint       = "OTEL_EXPORTER_OTLP_ENDPOINT"
	tracesEndpoint = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
	protocol       = "OTEL_EXPORTER_OTLP_PROTOCOL"
	tracesProtocol = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"
	samplerName    = "OTEL_TRACES_SAMPLER"
	samplerArg     = "OTEL_TRACES_SAMPLER_ARG"
)

// Open makes a tracer by the environment, nil where that names no receiver. It connects to nobody yet; the error says which
// variable can not be understood. The service's name and version are what OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES do
// not say otherwise.
func Open(ctx context.Context, name, version string, log *zap.Logger) (*Tracer, error) {
	to := cmp.Or(os.Getenv(tracesEndpoint), os.Getenv(endpoint))
	if to == "" || strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") || os.Getenv("OTEL_TRACES_EXPORTER") == "none" {
		return nil, nil //nolint:nilnil // nil is the tracer that does nothing
	}
	u, err := url.Parse(to)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%s: %q is no http:// or https:// address", endpoint, to)
	}
	if p := cmp.Or(os.Getenv(tracesProtocol), os.Getenv(protocol), "http/protobuf"); p != "http/protobuf" {
		return nil, fmt.Errorf("%s %q is not spoken; http/protobuf is (port 4318 of most receivers)", protocol, p)
	}
	sampler, err := readSampler(os.Getenv(samplerName), os.Getenv(samplerArg))
	if err != nil {
		return nil, err
	}
	about, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithHost(), resource.WithAttributes(
		attribute.String("service.name", name), attribute.String("service.version", version), attribute.Int("process.pid", os.Getpid()),
	), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	client, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", endpoint, err)
	}
	t := &Tracer{exporter: &exporter{SpanExporter: client, log: log}}
	t.provider = sdk.NewTracerProvider(sdk.WithResource(about), sdk.WithSampler(sampler), sdk.WithIDGenerator(given{}), sdk.WithBatcher(t.exporter))
	t.tracer = t.provider.Tracer("github.com/lemnis/lemnis/internal/trace")
	log.Info("traces are sent", zap.String("to", u.Redacted()))
	return t, nil
}

// readSampler reads the specification's names. A parent is sampled exactly when its trace is, and the trace is known by its
// id: so there is nothing to ask a parent.
func readSampler(name, arg string) (sdk.Sampler, error) {
	switch strings.TrimPrefix(name, "parentbased_") {
	case "", "always_on":
		return sdk.AlwaysSample(), nil
	case "always_off":
		return sdk.NeverSample(), nil
	case "traceidratio":
		ratio, err := strconv.ParseFloat(cmp.Or(arg, "1"), 64)
		if err != nil || !(ratio >= 0 && ratio <= 1) {
			return nil, fmt.Errorf("%s %q is no share from 0 to 1", samplerArg, arg)
		}
		return sdk.TraceIDRatioBased(ratio), nil
	}
	return nil, fmt.Errorf("%s %q is none of always_on, always_off, traceidratio and their parentbased_ forms", samplerName, name)
}

// closing bounds how long a process that ends waits for the receiver.
const closing = 2 * time.Second

// Close sends what waits, for a moment at most.
func (t *Tracer) Close(ctx context.Context) {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closing)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		t.exporter.log.Warn("the last spans did not reach the receiver of traces", zap.Error(err))
	}
}
