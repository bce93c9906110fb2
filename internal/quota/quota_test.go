package quota

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
)

func TestParse(t *testing.T) {
	q, err := Parse([]byte("default: {events-per-minute: 600, registry: 10GiB}\nprojects:\n  shop: {events-per-day: 5000000, registry: 1.5 MB}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := q.Of("shop"), (Quota{EventsPerMinute: 600, EventsPerDay: 5000000, Registry: 1_500_000}); got != want {
		t.Errorf("shop: %+v, want %+v", got, want)
	}
	if got, want := q.Of("other"), (Quota{EventsPerMinute: 600, Registry: 10 << 30}); got != want {
		t.Errorf("other: %+v, want %+v", got, want)
	}
	if got := q.Of("other").Registry.String(); got != "10.0 GiB" {
		t.Errorf("it reads %s", got)
	}
	for text, want := range map[string]string{
		"default: {events: 5}":                        "[1:",
		"default: {registry: 10 apples}":              "no size",
		"default: {registry: -1}":                     "no size",
		"default: {events-per-day: -1}":               "above 0",
		"projects: {Shop!: {events-per-day: 1}}":      "Shop!",
		"projects:\n  shop: {events-per-day: many}\n": "[2:",
	} {
		if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q in it", text, err, want)
		}
	}
	if q, err := Parse(nil); err != nil || q.Of("shop") != (Quota{}) {
		t.Errorf("nothing: %+v %v", q, err)
	}
}

func TestFileIsReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	f, err := Open(path, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_000_000, 0)
	f.now, f.looked = func() time.Time { return now }, now
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		now = now.Add(lookEvery)
	}
	if f.Of("shop").EventsPerDay != 0 {
		t.Error("there is a quota without a file")
	}
	write("default: {events-per-day: 5}")
	if n := f.Of("shop").EventsPerDay; n != 5 {
		t.Errorf("%d, want 5", n)
	}
	write("default: {events-per-day: five}")
	if n := f.Of("shop").EventsPerDay; n != 5 {
		t.Errorf("%d after a mistake, want 5", n)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	now = now.Add(lookEvery)
	if n := f.Of("shop").EventsPerDay; n != 0 {
		t.Errorf("%d without the file", n)
	}
	write("projects: {x: {registry: lots}}")
	if _, err := Open(path, zap.NewNop()); err == nil {
		t.Error("a start with a mistake")
	}
}
