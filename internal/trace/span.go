package trace

import (
	"context"
	"crypto/rand"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	otel "go.opentelemetry.io/otel/trace"

	"github.com/lemnis/lemnis/pkg/events"
)

// Claim tells of a claim that the gateway put on the stream. Outside is the traceparent with which it came, empty when there
// was none: a link leads to it, since the chain has a trace of its own.
func (t *Tracer) Claim(e events.Event, sequence uint64, began time.Time, outside string) {
	if t == nil {
		return
	}
	s := ofEvent("claim ", e, sequence, otel.SpanKindServer, began)
	s.link = parse(outside)
	t.tell(s)
}

// Fact tells of a fact that a decision on a cause made.
func (t *Tracer) Fact(cause *events.Event, fact events.Event, began time.Time) {
	if t == nil {
		return
	}
	s := ofEvent("fact ", fact, fact.Sequence, otel.SpanKindInternal, began)
	s.attributes = append(s.attributes, attribute.String("lemnis.aggregate", fact.Aggregate),
		attribute.Int64("lemnis.cause.sequence", int64(fact.CauseSequence)))
	if cause.Chain == fact.Chain {
		s.parent = events.SpanID(cause.ID)
	} else { // a chain begins with it
		s.link = place{events.TraceID(cause.Project, cause.Chain), events.SpanID(cause.ID)}.remote()
	}
	t.tell(s)
}

// Result tells of a result that an effect, a timer or a duty put on the stream.
func (t *Tracer) Result(e events.Event, sequence uint64, began time.Time) {
	if t == nil {
		return
	}
	s := ofEvent("result ", e, sequence, otel.SpanKindInternal, began)
	if e.Cause != "" {
		s.parent = events.SpanID(e.Cause)
	}
	t.tell(s)
}

// Attempt tells of one attempt at the work that a fact asks for, with what became of it: done, failed, rejected, interrupted.
func (t *Tracer) Attempt(fact events.Event, effect string, attempt uint64, began time.Time, outcome string, err error) {
	if t == nil {
		return
	}
	s := underFact("effect "+effect, fact.Project, fact.Chain, fact.ID, otel.SpanKindConsumer, began)
	s.attributes = append(s.attributes, attribute.String("lemnis.phase", string(fact.Phase)), attribute.String("lemnis.effect", effect),
		attribute.Int64("lemnis.attempt", int64(attempt)), attribute.String("lemnis.outcome", outcome))
	if err != nil {
		s.failed = err.Error()
	}
	t.tell(s)
}

// Delivery tells of one try to deliver a fact to a subscription; failed says why it did not arrive.
func (t *Tracer) Delivery(project, chain, fact, subscription string, began time.Time, failed string) {
	if t == nil {
		return
	}
	s := underFact("deliver", project, chain, fact, otel.SpanKindClient, began)
	s.attributes = append(s.attributes, attribute.String("lemnis.subscription", subscription))
	s.failed = failed
	t.tell(s)
}

// span is one before it is handed over.
type span struct {
	name       string
	kind       otel.SpanKind
	trace      otel.TraceID
	id, parent otel.SpanID
	link       otel.SpanContext
	began      time.Time
	failed     string // why; empty when it did not
	attributes []attribute.KeyValue
}

// ofEvent is the span of an event's making.
func ofEvent(kind string, e events.Event, sequence uint64, role otel.SpanKind, began time.Time) span {
	return span{
		name: kind + e.Type.Short(), kind: role, trace: events.TraceID(e.Project, e.Chain), id: events.SpanID(e.ID), began: began,
		attributes: append(make([]attribute.KeyValue, 0, 12),
			attribute.String("lemnis.project", e.Project), attribute.String("lemnis.chain", e.Chain), attribute.String("lemnis.phase", string(e.Phase)),
			attribute.String("lemnis.key", e.Key), attribute.Int64("lemnis.sequence", int64(sequence)),
			attribute.String("cloudevents.event_id", e.ID), attribute.String("cloudevents.event_source", e.Source),
			attribute.String("cloudevents.event_type", string(e.Type))),
	}
}

// underFact is the span of something that is no event, a leaf.
func underFact(name, project, chain, fact string, role otel.SpanKind, began time.Time) span {
	s := span{name: name, kind: role, trace: events.TraceID(project, chain), parent: events.SpanID(fact), began: began,
		attributes: append(make([]attribute.KeyValue, 0, 8), attribute.String("lemnis.project", project), attribute.String("lemnis.chain", chain))}
	_, _ = rand.Read(s.id[:]) // never fails
	return s
}

// tell hands a span that ends now to the queue, or drops it when that is full.
func (t *Tracer) tell(s span) {
	ctx := context.WithValue(context.Background(), givenKey{}, &s)
	if s.parent.IsValid() {
		ctx = otel.ContextWithRemoteSpanContext(ctx, place{s.trace, s.parent}.remote())
	}
	options := []otel.SpanStartOption{otel.WithTimestamp(s.began), otel.WithSpanKind(s.kind), otel.WithAttributes(s.attributes...)}
	if s.link.IsValid() {
		options = append(options, otel.WithLinks(otel.Link{SpanContext: s.link}))
	}
	_, begun := t.tracer.Start(ctx, s.name, options...)
	if s.failed != "" {
		begun.SetStatus(codes.Error, s.failed)
	}
	if begun.IsRecording() {
		t.made.Add(1)
	}
	begun.End()
}

// place names a span of another process.
type place struct {
	trace otel.TraceID
	span  otel.SpanID
}

func (c place) remote() otel.SpanContext {
	return otel.NewSpanContext(otel.SpanContextConfig{TraceID: c.trace, SpanID: c.span, TraceFlags: otel.FlagsSampled, Remote: true})
}

// parse reads a traceparent; the context is not valid when it is none.
func parse(traceparent string) otel.SpanContext {
	if traceparent == "" {
		return otel.SpanContext{}
	}
	ctx := propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{"traceparent": traceparent})
	return otel.SpanContextFromContext(ctx)
}

// given is the source of ids: those that the span has already.
type given struct{}

type givenKey struct{}

// NewIDs gives the ids of a span without a parent.
func (given) NewIDs(ctx context.Context) (otel.TraceID, otel.SpanID) {
	s := ctx.Value(givenKey{}).(*span) //nolint:forcetypeassert // tell is the only one who begins spans
	return s.trace, s.id
}

// NewSpanID gives the id of a span with a parent.
func (given) NewSpanID(ctx context.Context, _ otel.TraceID) otel.SpanID {
	return ctx.Value(givenKey{}).(*span).id //nolint:forcetypeassert // tell is the only one who begins spans
}
