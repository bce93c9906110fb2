package events

import (
	"regexp"
	"strings"
	"testing"
)

// What is on streams and in tracing systems stays comparable: the ids never change.
func TestTraceContext(t *testing.T) {
	for _, c := range []struct{ project, chain, event, want string }{
		{"shop", "wish-1", "wish-1", "00-a138c3eb4cf551e2f816c5c64f2c999b-245507d29844712c-01"},
		{"shop", strings.Repeat("ü", 128), strings.Repeat("é", 300), ""},
	} {
		got := TraceContext(c.project, c.chain, c.event)
		if !regexp.MustCompile(`^00-[0-9a-f]{32}-[0-9a-f]{16}-01$`).MatchString(got) {
			t.Errorf("traceparent %s", got)
		}
		if c.want != "" && got != c.want {
			t.Errorf("traceparent of %s %s %s: %s, want %s", c.project, c.chain, c.event, got, c.want)
		}
	}
	if TraceID("shop", "a") == TraceID("shop", "b") || TraceID("a", "x") == TraceID("b", "x") || TraceID("a-b", "c") == TraceID("a", "b-c") {
		t.Error("two chains have one trace")
	}
	if n := testing.AllocsPerRun(100, func() { _ = TraceContext("shop", "chain", "event") }); n > 1 {
		t.Errorf("%v allocations for a traceparent, want 1", n)
	}
}
