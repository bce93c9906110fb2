package subscription

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// change is a fact like those of the specification's examples, with Lemnis's attributes.
func change() *item {
	return newItem(7, time.Date(2026, 5, 4, 10, 20, 31, 0, time.UTC), "lifecycle.shop.integrate.change.merged.12", nats.Header{
		"ce-specversion": {"1.0"}, "ce-id": {"f1"}, "ce-source": {"/lemnis/builder"}, "ce-type": {"dev.cdevents.change.merged.0.3.0"},
		"ce-time": {"2026-05-04T10:20:30Z"}, "ce-subject": {"https://example.org/shop/pull%2042"}, "ce-project": {"shop"},
		"ce-phase": {"integrate"}, "ce-key": {"42"}, "ce-attempt": {"2"}, "content-type": {"application/json"},
	}, []byte(`{"subject":{"id":"42","content":{"labels":["fast","safe"],"size":12}}}`))
}

func TestFilters(t *testing.T) {
	tests := []struct {
		filters string
		want    bool
	}{
		{`[]`, true},
		{`[{"exact":{"type":"dev.cdevents.change.merged.0.3.0"}}]`, true},
		{`[{"exact":{"type":"dev.cdevents.change.merged.0.3.0","phase":"integrate"}}]`, true},
		{`[{"exact":{"type":"dev.cdevents.change.merged.0.3.0","phase":"plan"}}]`, false},
		{`[{"exact":{"type":"DEV.cdevents.change.merged.0.3.0"}}]`, false}, // case counts
		{`[{"exact":{"subject":"https://example.org/shop/pull 42"}}]`, true},
		{`[{"exact":{"nosuchattribute":"x"}}]`, false},
		{`[{"exact":{"sequence":"7","kind":"fact"}}]`, true},
		{`[{"prefix":{"type":"dev.cdevents.change.","source":"/lemnis/"}}]`, true},
		{`[{"prefix":{"type":"dev.cdevents.change.","source":"/jenkins/"}}]`, false},
		{`[{"suffix":{"type":".merged.0.3.0"}}]`, true},
		{`[{"suffix":{"type":".created.0.3.0"}}]`, false},
		{`[{"all":[{"exact":{"phase":"integrate"}},{"prefix":{"key":"4"}}]}]`, true},
		{`[{"all":[{"exact":{"phase":"integrate"}},{"prefix":{"key":"5"}}]}]`, false},
		{`[{"any":[{"exact":{"phase":"plan"}},{"prefix":{"key":"4"}}]}]`, true},
		{`[{"any":[{"exact":{"phase":"plan"}},{"prefix":{"key":"5"}}]}]`, false},
		{`[{"not":{"exact":{"phase":"plan"}}}]`, true},
		{`[{"not":{"any":[{"exact":{"phase":"plan"}},{"exact":{"key":"42"}}]}}]`, false},
		{`[{"exact":{"phase":"integrate"}},{"exact":{"key":"43"}}]`, false}, // all have to match
		{`[{"cel":"type.startsWith('dev.cdevents.change') && project == 'shop'"}]`, true},
		{`[{"cel":"sequence > 7"}]`, false},
		{`[{"cel":"attempt == 2 && principal == ''"}]`, true},
		{`[{"cel":"time > timestamp('2026-01-01T00:00:00Z')"}]`, true},
		{`[{"cel":"recordedtime - time == duration('1s')"}]`, true},
		{`[{"cel":"data.subject.content.labels.exists(l, l == 'safe')"}]`, true},
		{`[{"cel":"data.subject.content.size > 10"}]`, true},
		{`[{"cel":"has(data.subject.content.risk) && data.subject.content.risk > 1"}]`, false},
		{`[{"any":[{"cel":"data.nothing.here == 1"},{"exact":{"key":"42"}}]}]`, true}, // one that fails does not spoil the other
	}
	for _, test := range tests {
		t.Run(test.filters, func(t *testing.T) {
			var filters []json.RawMessage
			if err := json.Unmarshal([]byte(test.filters), &filters); err != nil {
				t.Fatal(err)
			}
			p, err := compileAll(filters)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := p(change()); err != nil || got != test.want {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}

// A filter that can not be evaluated lets nothing through, also negated, and says why.
func TestFilterFails(t *testing.T) {
	for _, filter := range []string{
		`{"cel":"data.nothing.here == 1"}`, `{"not":{"cel":"data.nothing.here == 1"}}`, `{"cel":"data.subject.id"}`,
	} {
		p, err := compileAll([]json.RawMessage{json.RawMessage(filter)})
		if err != nil {
			t.Fatal(err)
		}
		if ok, err := p(change()); ok || err == nil || !strings.Contains(err.Error(), "filters[0]") {
			t.Errorf("%s: %v, %v", filter, ok, err)
		}
	}
}

// What an expression costs is bounded when it is made and when it is evaluated.
func TestFilterCost(t *testing.T) {
	p, err := compileAll([]json.RawMessage{json.RawMessage(`{"cel":"data.list.all(x, x == 1.0)"}`)})
	if err != nil {
		t.Fatal(err)
	}
	for length, want := range map[int]bool{100: true, 100_000: false} {
		i := newItem(1, time.Time{}, "lifecycle.shop.plan.a.b.1", nil, []byte(`{"list":[`+strings.Repeat("1,", length)+`1]}`))
		if ok, err := p(i); ok != want || (err == nil) != want {
			t.Errorf("a list of %d: %v, %v", length, ok, err)
		}
	}
	deep := `data.l.all(a, data.l.all(b, data.l.all(c, data.l.all(d, a == b || c == d))))`
	if _, err := compileAll([]json.RawMessage{json.RawMessage(`{"cel":"` + deep + `"}`)}); err == nil || !strings.Contains(err.Error(), "costs too much") {
		t.Errorf("four loops within one another: %v", err)
	}
}

func TestFilterErrors(t *testing.T) {
	nested := strings.Repeat(`{"not":`, 9) + `{"exact":{"id":"1"}}` + strings.Repeat("}", 9)
	tests := []struct{ filter, field, reason string }{
		{`{"sql":"type = 'x'"}`, "filters[0].sql", "no dialect"},
		{`{"exact":{"type":""}}`, "filters[0].exact.type", "empty"},
		{`{"exact":{"Type":"x"}}`, "filters[0].exact.Type", "no name"},
		{`{"exact":{}}`, "filters[0].exact", "object of attributes"},
		{`{"exact":{"type":1}}`, "filters[0].exact", "object of attributes"},
		{`{"all":[]}`, "filters[0].all", "at least one"},
		{`{"any":[{"exact":{"id":"1"}},{"prefix":{"id":""}}]}`, "filters[0].any[1].prefix.id", "empty"},
		{`{"not":[]}`, "filters[0].not", "object"},
		{`{"exact":{"id":"1"},"prefix":{"id":"1"}}`, "filters[0]", "one dialect"},
		{`{"cel":"typ == 'x'"}`, "filters[0].cel", "line 1, column 1: undeclared reference to 'typ'"},
		{`{"cel":"type == 'x' &&\n  sequence >"}`, "filters[0].cel", "line 2, column 13"},
		{`{"cel":"sequence + 1"}`, "filters[0].cel", "not a bool"},
		{`{"cel":""}`, "filters[0].cel", "empty"},
		{`{"cel":7}`, "filters[0].cel", "string"},
		{nested, "filters[0]" + strings.Repeat(".not", 8), "deeper"},
	}
	for _, test := range tests {
		_, err := compileAll([]json.RawMessage{json.RawMessage(test.filter)})
		var field *FieldError
		if !errors.As(err, &field) || field.Field != test.field || !strings.Contains(field.Reason, test.reason) {
			t.Errorf("%s: %v, want %s: …%s", test.filter, err, test.field, test.reason)
		}
	}
}

func FuzzFilter(f *testing.F) {
	for _, seed := range []string{`{"exact":{"id":"1"}}`, `{"not":{"cel":"data.a == 1"}}`, `{"any":[{"suffix":{"type":"x"}}]}`} {
		f.Add(seed)
	}
	i := change()
	f.Fuzz(func(t *testing.T, text string) {
		p, err := compileAll([]json.RawMessage{json.RawMessage(text)})
		if err != nil {
			var field *FieldError
			if !errors.As(err, &field) || field.Field == "" {
				t.Fatalf("an error that names no field: %v", err)
			}
			return
		}
		_, _ = p(i)
	})
}
