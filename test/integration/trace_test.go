package integration_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/lemnis/lemnis/cmd/lemnis/lap"
	"github.com/lemnis/lemnis/internal/trace/tracetest"
	"github.com/lemnis/lemnis/pkg/events"
)

// tracing is the environment of a program that tells a receiver of spans.
func tracing(r *tracetest.Receiver) []string {
	return []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + r.URL, "OTEL_BSP_SCHEDULE_DELAY=200", "OTEL_BSP_MAX_QUEUE_SIZE=65536"}
}

// oneTraceAChain holds the spans that came against the events of a lap: each event has the one span that its traceparent
// names, each span's parent is there, and is the span of the event's cause; a chain's spans are one tree.
func oneTraceAChain(t *testing.T, r *tracetest.Receiver, l lap.Result) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		spans, came := r.Spans()
		wrong := compareSpans(spans, l.Events)
		if len(wrong) == 0 {
			tellTrace(t, spans, l)
			return
		}
		select {
		case <-came:
		case <-deadline:
			for _, what := range wrong[:min(len(wrong), 10)] {
				t.Error(what)
			}
			t.Fatalf("%d faults in %d spans of %d events", len(wrong), len(spans), len(l.Events))
		}
	}
}

func compareSpans(spans []tracetest.Span, of []events.Event) (wrong []string) {
	byID := map[string]tracetest.Span{}
	for _, s := range spans {
		id := s.Trace + "/" + s.ID
		if _, twice := byID[id]; twice {
			wrong = append(wrong, "twice: "+s.Name+" "+id)
		}
		byID[id] = s
	}
	for _, s := range spans {
		if s.Parent == "" {
			continue
		}
		if _, there := byID[s.Trace+"/"+s.Parent]; !there {
			wrong = append(wrong, fmt.Sprintf("%s (%s) has no parent", s.Name, s.Service))
		}
	}
	for _, e := range of {
		trace, id := events.TraceID(e.Project, e.Chain), events.SpanID(e.ID)
		if e.TraceParent != events.TraceContext(e.Project, e.Chain, e.ID) {
			wrong = append(wrong, fmt.Sprintf("%s %s has the traceparent %s", e.Type.Short(), e.ID, e.TraceParent))
		}
		s, there := byID[hex.EncodeToString(trace[:])+"/"+hex.EncodeToString(id[:])]
		if !there {
			wrong = append(wrong, fmt.Sprintf("%s %s of %s has no span", e.Kind, e.Type.Short(), e.Chain))
			continue
		}
		parent := ""
		if cause := events.SpanID(e.Cause); e.Cause != "" {
			parent = hex.EncodeToString(cause[:])
		}
		if s.Parent != parent && (s.Parent != "" || len(s.Links) != 1 || hex.EncodeToString(s.Links[0].SpanId) != parent) {
			wrong = append(wrong, fmt.Sprintf("%s %s hangs under %s, not under its cause %s", e.Kind, e.Type.Short(), s.Parent, e.Cause))
		}
	}
	return wrong
}

// tellTrace looks at the trace of the chain that the lap's first sentence began.
func tellTrace(t *testing.T, spans []tracetest.Span, l lap.Result) {
	t.Helper()
	id := events.TraceID(l.Events[0].Project, l.Chain)
	var services, phases []string
	n, attempts := 0, 0
	for _, s := range spans {
		if s.Trace != hex.EncodeToString(id[:]) {
			continue
		}
		n++
		services, phases = append(services, s.Service), append(phases, s.Attribute("lemnis.phase"))
		if s.Attribute("lemnis.effect") != "" {
			attempts++
		}
	}
	slices.Sort(services)
	slices.Sort(phases)
	services, phases = slices.Compact(services), slices.DeleteFunc(slices.Compact(phases), func(p string) bool { return p == "" })
	t.Logf("%d spans came; %d are the trace of the lap's chain, %d of them attempts at effects, by %v in the phases %v", len(spans), n, attempts, services, phases)
	if attempts == 0 || len(services) < 5 || len(phases) < 5 {
		t.Error("the lap's trace is not of the lap")
	}
}

// logsNameTraces reads what services logged about events: each line names the trace that the receiver has of the event's chain.
func logsNameTraces(t *testing.T, r *tracetest.Receiver, of []*program) {
	t.Helper()
	known := map[string]bool{}
	spans, _ := r.Spans()
	for _, s := range spans {
		known[s.Trace] = true
	}
	lines := map[string]int{}
	for _, p := range of {
		text, err := os.ReadFile(p.log.Name())
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(text) {
			var said struct{ Project, Chain, Trace string }
			if json.Unmarshal(line, &said) != nil || said.Chain == "" {
				continue
			}
			lines[p.name]++
			if id := events.TraceID(said.Project, said.Chain); said.Trace != hex.EncodeToString(id[:]) || !known[said.Trace] {
				t.Errorf("%s names another trace than that of its chain: %s", p.name, line)
			}
		}
	}
	t.Logf("lines of the logs that name the trace of their chain: %v", lines)
	if lines["lemnis-builder"] == 0 || lines["lemnis-deployer"] == 0 {
		t.Errorf("builder and deployer say nothing of what they do: %v", lines)
	}
}
