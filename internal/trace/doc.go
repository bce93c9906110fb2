// Package trace tells an OpenTelemetry receiver, over OTLP, what the processes do: one trace is one chain, one span is one
// event's making, and its parent is the making of its cause.
//
//	tracer, err := trace.Open(ctx, "lemnis-planner", version, log) // nil without a receiver: every method then does nothing
//	defer tracer.Close(ctx)
//	tracer.Fact(cause, fact, began)
//
// Nothing is handed from process to process: the ids are pure functions of the chain's and the event's
// ([events.TraceID], [events.SpanID]), which the event's extension traceparent says too. What belongs to no event, such as an
// attempt at an effect, is a leaf under the fact that it is for.
//
// Where the spans go, and which, is said by the variables of the OpenTelemetry specification: OTEL_EXPORTER_OTLP_ENDPOINT (or
// OTEL_EXPORTER_OTLP_TRACES_ENDPOINT) turns it on; OTEL_EXPORTER_OTLP_HEADERS, OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES,
// OTEL_TRACES_SAMPLER, OTEL_BSP_* and the others count as they do everywhere. The protocol is http/protobuf.
//
// Nobody waits for the receiver: spans wait in a bounded queue, and what does not fit is lost. So are those that a killed
// process has not sent yet. The stream is the truth; a trace is a picture of it.
package trace
