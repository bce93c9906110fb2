package trace_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/lemnis/lemnis/internal/trace"
	"github.com/lemnis/lemnis/internal/trace/tracetest"
	"github.com/lemnis/lemnis/pkg/events"
)

func open(t *testing.T, endpoint string) *trace.Tracer {
	t.Helper()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
	tracer, err := trace.Open(t.Context(), "lemnis-planner", "test", zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	return tracer
}

func event(id, chain string, sequence uint64) events.Event {
	return events.Event{ID: id, Chain: chain, Project: "shop", Phase: events.Plan, Type: events.TypeOf(events.TicketCreated{}), Sequence: sequence}
}

func TestSpans(t *testing.T) {
	receiver := tracetest.New(t)
	tracer := open(t, receiver.URL)
	began := time.Now().Add(-time.Second)
	claim, fact, other, result := event("c", "chain", 1), event("f", "chain", 2), event("g", "another", 3), event("r", "chain", 4)
	result.Cause = fact.ID
	tracer.Claim(claim, 1, began, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	tracer.Fact(&claim, fact, began)
	tracer.Fact(&fact, other, began)
	tracer.Attempt(fact, "build", 2, began, "failed", errors.New("no compiler"))
	tracer.Result(result, 4, began)
	tracer.Delivery("shop", "chain", fact.ID, "sub-1", began, "")
	tracer.Close(t.Context())

	got, _ := receiver.Spans()
	if len(got) != 6 {
		t.Fatalf("%d spans came, want 6", len(got))
	}
	id := func(e string) string { s := events.SpanID(e); return hex.EncodeToString(s[:]) }
	trace, another := events.TraceID("shop", "chain"), events.TraceID("shop", "another")
	for i, want := range []struct{ name, trace, id, parent, link string }{
		{"claim ticket.created", hex.EncodeToString(trace[:]), id("c"), "", "b7ad6b7169203331"},
		{"fact ticket.created", hex.EncodeToString(trace[:]), id("f"), id("c"), ""},
		{"fact ticket.created", hex.EncodeToString(another[:]), id("g"), "", id("f")},
		{"effect build", hex.EncodeToString(trace[:]), "", id("f"), ""},
		{"result ticket.created", hex.EncodeToString(trace[:]), id("r"), id("f"), ""},
		{"deliver", hex.EncodeToString(trace[:]), "", id("f"), ""},
	} {
		s := got[i]
		link := ""
		if len(s.Links) > 0 {
			link = hex.EncodeToString(s.Links[0].SpanId)
		}
		if s.Name != want.name || s.Trace != want.trace || s.Parent != want.parent || link != want.link || want.id != "" && s.ID != want.id {
			t.Errorf("%d: %s %s/%s of %s linked to %q, want %+v", i, s.Name, s.Trace, s.ID, s.Parent, link, want)
		}
		if took := time.Duration(s.EndTimeUnixNano - s.StartTimeUnixNano); took < time.Second || took > time.Minute {
			t.Errorf("%s took %v", s.Name, took)
		}
		if s.Service != "lemnis-planner" || s.Attribute("lemnis.chain") == "" {
			t.Errorf("%s is of %q, chain %q", s.Name, s.Service, s.Attribute("lemnis.chain"))
		}
	}
	if s := got[3]; s.Status.GetMessage() != "no compiler" || s.Attribute("lemnis.outcome") != "failed" {
		t.Errorf("the attempt: %v %q", s.Status, s.Attribute("lemnis.outcome"))
	}
	if made, sent, failed := counts(t, tracer); made != 6 || sent != 6 || failed != 0 {
		t.Errorf("made %v, sent %v, failed %v", made, sent, failed)
	}
}

func TestStandardVariables(t *testing.T) {
	for _, c := range []struct {
		env map[string]string
		on  bool
		err string
	}{
		{env: nil},
		{env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": ""}},
		{env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}, on: true},
		{env: map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:9/v1/traces"}, on: true},
		{env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "true"}},
		{env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_TRACES_EXPORTER": "none"}},
		{env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "127.0.0.1:4317"}, err: "no http"},
		{env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, err: "http/protobuf"},
		{env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_TRACES_SAMPLER": "mostly"}, err: "OTEL_TRACES_SAMPLER"},
		{env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "2"}, err: "0 to 1"},
	} {
		t.Run(fmt.Sprint(c.env), func(t *testing.T) {
			for name, value := range c.env {
				t.Setenv(name, value)
			}
			tracer, err := trace.Open(t.Context(), "lemnis", "test", zap.NewNop())
			if (tracer != nil) != c.on || (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("%v, %v", tracer != nil, err)
			}
			tracer.Close(t.Context())
		})
	}
}

// A trace is told of whole or not at all, whichever process tells of it.
func TestSampledByTheChain(t *testing.T) {
	receiver := tracetest.New(t)
	t.Setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
	t.Setenv("OTEL_TRACES_SAMPLER_ARG", "0.5")
	t.Setenv("OTEL_SERVICE_NAME", "mine")
	one, two := open(t, receiver.URL), open(t, receiver.URL)
	for n := range 100 {
		claim, fact := event(fmt.Sprint("c", n), fmt.Sprint("chain", n), 1), event(fmt.Sprint("f", n), fmt.Sprint("chain", n), 2)
		one.Claim(claim, 1, time.Now(), "")
		two.Fact(&claim, fact, time.Now())
	}
	one.Close(t.Context())
	two.Close(t.Context())
	got, _ := receiver.Spans()
	of := map[string]int{}
	for _, s := range got {
		of[s.Trace]++
		if s.Service != "mine" {
			t.Fatalf("a span of %q", s.Service)
		}
	}
	for chain, n := range of {
		if n != 2 {
			t.Errorf("%d spans of trace %s, want both", n, chain)
		}
	}
	if len(of) < 20 || len(of) > 80 {
		t.Errorf("%d of 100 chains are sampled, want about half", len(of))
	}
}

// A receiver that is away, or takes connections and says nothing, is waited for by nobody.
func TestReceiverAwayOrSilent(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) }))
	defer refusing.Close()
	for name, address := range map[string]string{"silent": "http://" + silent.Addr().String(), "away": "http://127.0.0.1:9", "refusing": refusing.URL} {
		t.Run(name, func(t *testing.T) {
			tracer := open(t, address)
			const spans = 20_000 // ten times what fits into the queue
			claim := event("c", "chain", 1)
			began := time.Now()
			for range spans {
				tracer.Fact(&claim, claim, began)
			}
			if took := time.Since(began); took > 5*time.Second { // the exporter alone waits for 10 s
				t.Errorf("%d spans took %v", spans, took)
			}
			began = time.Now()
			tracer.Close(t.Context())
			if took := time.Since(began); took > 4*time.Second {
				t.Errorf("the end took %v", took)
			}
			if made, sent, _ := counts(t, tracer); made != spans || sent != 0 {
				t.Errorf("made %v, sent %v", made, sent)
			}
		})
	}
}

func TestOffCostsNothing(t *testing.T) {
	var tracer *trace.Tracer
	claim := event("c", "chain", 1)
	if n := testing.AllocsPerRun(100, func() {
		tracer.Fact(&claim, claim, time.Time{})
		tracer.Claim(claim, 1, time.Time{}, "")
		tracer.Result(claim, 1, time.Time{})
		tracer.Attempt(claim, "x", 1, time.Time{}, "done", nil)
		tracer.Delivery("shop", "chain", "f", "s", time.Time{}, "")
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if made, sent, failed := counts(t, tracer); made+sent+failed != 0 {
		t.Errorf("made %v, sent %v, failed %v", made, sent, failed)
	}
}

func counts(t *testing.T, tracer *trace.Tracer) (made, sent, failed float64) {
	t.Helper()
	r := prometheus.NewRegistry()
	r.MustRegister(tracer)
	all, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	of := map[string]float64{}
	for _, m := range all[0].Metric {
		of[m.Label[0].GetValue()] = m.Counter.GetValue()
		b.WriteString(m.String())
	}
	if len(of) != 3 {
		t.Fatalf("metrics %s", &b)
	}
	return of["made"], of["sent"], of["failed"]
}
