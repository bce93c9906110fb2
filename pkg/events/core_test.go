package events_test

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lemnis/lemnis/pkg/events"
)

var keys = []string{
	"", "T-17", "42", "shop/api#7", "a.b", "a b", "*", ">", "%", "%25", "prod/api", "pkg:oci/api@sha256:0b31", "ключ", "日本", "\x00\xff\n", "~,!=+", strings.Repeat("x.", 200),
}

func TestEscapeKey(t *testing.T) {
	seen := map[string]string{}
	for _, key := range keys {
		token := events.EscapeKey(key)
		if token == "" || strings.ContainsAny(token, ".*> \t\r\n") {
			t.Errorf("%q became %q, which is not one token", key, token)
		}
		if before, ok := seen[token]; ok {
			t.Errorf("%q and %q share the token %q", before, key, token)
		}
		seen[token] = key
		if back, err := events.UnescapeKey(token); err != nil || back != key {
			t.Errorf("%q came back as %q, %v", key, back, err)
		}
	}
	for _, token := range []string{"%2", "a%", "%zz", "%2e", "%%"} {
		if key, err := events.UnescapeKey(token); err == nil {
			t.Errorf("%q was read as %q", token, key)
		}
	}
}

// The server that stores the events is the judge of what partition a key has.
func TestPartitionIsTheServers(t *testing.T) {
	srv := startServer(t)
	js := srv.services
	numbers := map[int]bool{}
	all := append([]string{}, keys...)
	for i := range 300 {
		all = append(all, fmt.Sprintf("item-%d", i))
	}
	stream, err := js.Stream(t.Context(), "LIFECYCLE")
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range all {
		e := smallFact()
		e.Key = key
		ack, err := js.Publish(t.Context(), e.Subject(events.Stated), nil)
		if err != nil {
			t.Fatalf("%q: %v", key, err)
		}
		stored, err := stream.GetMsg(t.Context(), ack.Sequence)
		if err != nil {
			t.Fatal(err)
		}
		want := "lifecycle.shop.plan.ticket.created." + strconv.Itoa(events.Partition(key))
		if stored.Subject != want {
			t.Errorf("%q is stored as %s, not %s", key, stored.Subject, want)
		}
		numbers[events.Partition(key)] = true
	}
	if len(numbers) < events.Partitions*9/10 {
		t.Errorf("300 keys meet only %d partitions", len(numbers))
	}
	// The fence counts exactly the partition's facts.
	key := "item-7"
	fence := events.FenceFilter("shop", events.Plan, events.Partition(key))
	if last, err := stream.GetLastMsgForSubject(t.Context(), fence); err != nil || !strings.HasSuffix(last.Subject, "."+strconv.Itoa(events.Partition(key))) {
		t.Errorf("the fence %s meets %v, %v", fence, last, err)
	}
	consumer, err := stream.CreateConsumer(t.Context(), jetstream.ConsumerConfig{FilterSubject: events.Filter(events.Stated, "", events.Plan, smallFact().Type)})
	if err != nil {
		t.Fatal(err)
	}
	if n := consumer.CachedInfo().NumPending; n != uint64(len(all)) {
		t.Errorf("the filter meets %d of %d", n, len(all))
	}
}

// These ids are on streams already: they may never change.
func TestFactIDIsStable(t *testing.T) {
	const typ = "dev.cdevents.ticket.created.0.2.0"
	for _, c := range []struct {
		stream                  string
		cause                   uint64
		aggregate, project, key string
		want                    string
	}{
		{"", 0, "", "", "", "ba399123-e835-5ded-a358-d73f3b300914"},
		{"5f2b", 41, "item", "shop", "T-17", "c9054997-3c87-5eff-95f0-9038e3469e1b"},
		{"5f2b", 41, "item", "shop", "T-18", "04d3b977-1102-5434-88db-58880b6a2ea0"},
		{"5f2b", 42, "item", "shop", "T-17", "bc801512-c28f-5b08-853a-55796c9e0e84"},
		{"5f2b", 18446744073709551615, "item", "shop", strings.Repeat("ключ", 100), "8a5be2f4-b483-5dfc-9256-2dd0f2d93d3d"},
	} {
		if got := events.FactID(c.stream, c.cause, c.aggregate, c.project, c.key, typ); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
	if got := events.FactID("5f2b", 41, "item", "shop", "T-17", "dev.cdevents.ticket.closed.0.2.0"); got == "c9054997-3c87-5eff-95f0-9038e3469e1b" {
		t.Error("two types share an id")
	}
	// Where one part ends and the next begins matters.
	if events.FactID("a", 1, "b", "cd", "e", typ) == events.FactID("a", 1, "bc", "d", "e", typ) {
		t.Error("parts run into one another")
	}
}

func TestClaimMessageIDIsInjective(t *testing.T) {
	parts := []string{"", "a", "b", "ab", "1:a", "a1:b", ":", "0:", "1:", "2:ab", "c/", "a1:b1:c", "é"}
	seen := map[string][3]string{}
	for _, principal := range parts {
		for _, source := range parts {
			for _, id := range parts {
				got, is := events.ClaimMessageID(principal, source, id), [3]string{principal, source, id}
				if before, ok := seen[got]; ok {
					t.Fatalf("%q and %q share the message id %q", before, is, got)
				}
				if !strings.HasPrefix(got, "c/") {
					t.Errorf("%q is no claim's", got)
				}
				seen[got] = is
			}
		}
	}
}

func TestDurations(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "300ms": 300 * time.Millisecond, "1h30m": 90 * time.Minute, "14d": 14 * 24 * time.Hour, "2w": 14 * 24 * time.Hour, "9999w": 9999 * 7 * 24 * time.Hour,
	} {
		got, err := events.ParseDuration(text)
		if err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
		written, err := json.Marshal(events.Duration(got))
		if err != nil {
			t.Fatal(err)
		}
		var back events.Duration
		if err := json.Unmarshal(written, &back); err != nil || time.Duration(back) != want {
			t.Errorf("%s came back as %v, %v", written, back, err)
		}
	}
	for _, text := range []string{"", "d", "w", "1.5d", "1h3d", "-2d", "+2d", "-1h", "10000d", "2 w", "a day", "1e3d", "0x1d"} {
		if got, err := events.ParseDuration(text); err == nil {
			t.Errorf("%q was read as %v", text, got)
		}
	}
	var d events.Duration
	if err := json.Unmarshal([]byte("90"), &d); err == nil || !strings.Contains(err.Error(), "a duration is text like") {
		t.Errorf("a number: %v", err)
	}
}

func TestPercents(t *testing.T) {
	for text, want := range map[string]events.Percent{
		"0%": 0, "99.9%": 0.999, "100%": 1, "0.5%": 0.005, "33.33333333333333%": 0.3333333333333333, "12.34567890123%": 0.1234567890123,
	} {
		var got events.Percent
		if err := json.Unmarshal([]byte(strconv.Quote(text)), &got); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
		written, err := json.Marshal(got)
		if err != nil || string(written) != strconv.Quote(text) {
			t.Errorf("%s was written %s, %v", text, written, err)
		}
	}
	for _, text := range []string{`""`, `"%"`, `"99.9"`, `"101%"`, `"-1%"`, `"NaN%"`, `"Inf%"`, `"99.9%x"`, `"1e1%"`, `0.999`} {
		var got events.Percent
		if err := json.Unmarshal([]byte(text), &got); err == nil {
			t.Errorf("%s was read as %v", text, got)
		}
	}
}

func TestValidProject(t *testing.T) {
	for _, name := range []string{"shop", "a", "0-1", strings.Repeat("x", 40)} {
		if err := events.ValidProject(name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"", "Shop", "a.b", "a b", "ä", "*", strings.Repeat("x", 41)} {
		if events.ValidProject(name) == nil {
			t.Errorf("%q passed", name)
		}
	}
}

func TestParseType(t *testing.T) {
	for _, entry := range events.Catalogue() {
		for _, name := range []string{string(entry.Type), entry.Type.Short()} {
			if got, err := events.ParseType(name); err != nil || got != entry.Type {
				t.Errorf("%s: %s, %v", name, got, err)
			}
		}
		if events.TypeOf(entry.Zero()) != entry.Type {
			t.Errorf("%s: its content is of type %s", entry.Type, events.TypeOf(entry.Zero()))
		}
	}
}
