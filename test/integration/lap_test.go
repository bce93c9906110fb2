package integration_test

import (
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/lemnis/lemnis/cmd/lemnis/api"
	"github.com/lemnis/lemnis/cmd/lemnis/demo"
	"github.com/lemnis/lemnis/cmd/lemnis/lap"
	"github.com/lemnis/lemnis/cmd/lemnis/up"
	"github.com/lemnis/lemnis/cmd/lemnis/up/uptest"
	"github.com/lemnis/lemnis/internal/outward"
	"github.com/lemnis/lemnis/pkg/events"
)

// shop is the demo's subject.
func shop(t *testing.T) lap.Subject {
	t.Helper()
	s, err := demo.Shop(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// turn runs a lap to its end and returns what it left on the stream.
func turn(t *testing.T, url string, s lap.Subject) lap.Result {
	t.Helper()
	client := api.New(url)
	defer client.Close()
	began := time.Now()
	result, err := lap.New(client, s, lap.Options{Patience: 3, Tell: func(step int, text string) {
		t.Logf("%5.1fs %2d %s", time.Since(began).Seconds(), step, text)
	}}).Run(t.Context())
	if err != nil {
		t.Fatalf("the lap did not close: %v", err)
	}
	t.Logf("%d events; users sent %d requests, %d failed", len(result.Events), result.Requests, result.Failed)
	return result
}

func TestLapInOneProcess(t *testing.T) {
	data := t.TempDir()
	stack, stop := uptest.Run(t, up.Options{Data: data, PrivateSinks: outward.Allowed{netip.MustParsePrefix("127.0.0.0/8")}})
	defer func() {
		stop()
		if file := os.Getenv(recordVariable); file != "" && !t.Failed() {
			record(t, data, file)
		}
	}()
	told := watch(t, stack.URL())
	result := turn(t, stack.URL(), shop(t))
	eachFactOnce(t, result.Events)
	eachSigned(t, result.Events)
	official(t, result.Events)
	rebuildAll(t, stack.URL())
	lines := told(result.Events[len(result.Events)-1])
	known, custom := officialLines(t, lines)
	t.Logf("lemnis events tail told of %d events beside it: %d of CDEvents, %d custom; the official SDK and its schemas judged all", len(lines), known, custom)
	if known+custom < len(result.Events) {
		t.Errorf("%d lines for the %d events of the lap", known+custom, len(result.Events))
	}
	if rounds := count(result.Events, func(e events.Event) bool {
		_, ok := e.Content.(events.QueueEntered)
		return ok && e.Kind == events.Stated
	}); rounds != 2 {
		t.Errorf("%d rounds in the queue for two changes", rounds)
	}
}
