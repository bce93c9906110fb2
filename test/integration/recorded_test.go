package integration_test

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	"golang.org/x/sync/errgroup"

	"github.com/lemnis/lemnis/internal/fold"
	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/internal/privacy"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/builder"
	"github.com/lemnis/lemnis/services/deployer"
	"github.com/lemnis/lemnis/services/feedback"
	"github.com/lemnis/lemnis/services/monitor"
	"github.com/lemnis/lemnis/services/planner"
)

// recordVariable names a file that the lap in one process records its stream to. A release keeps the stream of its lap
// under testdata/recorded, and never changes one that is there: LEMNIS_RECORD=$PWD/testdata/recorded/0.2.jsonl.gz go test -run TestLapInOneProcess
const recordVariable = "LEMNIS_RECORD"

// recorded is a message of a stream, without the headers that steer the bus.
type recorded struct {
	Subject string          `json:"subject"` // as it was published
	Stored  time.Time       `json:"stored"`
	Header  nats.Header     `json:"header"`
	Data    json.RawMessage `json:"data"`
}

// record writes the stream in the data folder of an installation that has ended.
func record(t *testing.T, data, file string) {
	t.Helper()
	host := busIn(t, filepath.Join(data, "nats"))
	last, err := service.LastSequence(t.Context(), host)
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	zipped := gzip.NewWriter(out)
	lines := json.NewEncoder(zipped)
	err = service.Tail(t.Context(), host, nil, 1, func(m service.Message) error {
		e, err := m.Event()
		if err != nil {
			return err
		}
		r := recorded{Subject: e.Subject(m.Kind), Stored: m.Stored, Header: m.Headers(), Data: m.Data()}
		maps.DeleteFunc(r.Header, func(name string, _ []string) bool { return strings.HasPrefix(name, "Nats-") })
		if err := lines.Encode(r); err != nil || m.Sequence < last {
			return err
		}
		return service.ErrStop
	})
	if err := errors.Join(err, zipped.Close(), out.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestRecordedStreams lets today's code meet the streams of every version before: each event can be read, every phase
// folds its part and reaches the end, and nobody has anything to add or to put aside.
func TestRecordedStreams(t *testing.T) {
	files, err := filepath.Glob("testdata/recorded/*.jsonl.gz")
	if err != nil || len(files) == 0 {
		t.Fatalf("no recorded stream: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".jsonl.gz"), func(t *testing.T) {
			host := busIn(t, t.TempDir())
			last := replay(t, host, file)
			vault, err := privacy.NewVault(t.Context(), host.JS, 1)
			if err != nil {
				t.Fatal(err)
			}
			data := t.TempDir()
			definitions := append(builder.New(builder.Options{Data: data}), planner.New(), deployer.New(deployer.Options{Data: data}),
				monitor.New(monitor.Options{}), feedback.New(feedback.Options{Keys: vault}))
			ctx, stop := context.WithCancel(t.Context())
			group, ctx := errgroup.WithContext(ctx)
			for _, d := range definitions {
				// What the lap did in the world is done; only what was decided is asked for again.
				d.Effects, d.Duties, d.Timers, d.Projections = nil, nil, nil, nil
				s := service.New(host, d)
				group.Go(func() error { return s.Run(ctx) })
			}
			awaitFloors(t, host, len(definitions), last)
			stop()
			if err := group.Wait(); err != nil {
				t.Fatal(err)
			}
			end, err := service.LastSequence(t.Context(), host)
			if err != nil {
				t.Fatal(err)
			}
			if elected := uint64(len(definitions)); end != last+elected {
				t.Errorf("the stream ends at %d; recorded are %d, and %d owners", end, last, elected)
				told(t, host, last+elected+1, end)
			}
			letters, err := host.JS.Stream(t.Context(), natsd.DeadLetter)
			if err != nil {
				t.Fatal(err)
			}
			if n := letters.CachedInfo().State.Msgs; n != 0 {
				t.Errorf("%d dead letters", n)
			}
		})
	}
}

// busIn is a bus on a folder, with a store of its own.
func busIn(t *testing.T, dir string) service.Host {
	t.Helper()
	server, err := natsd.Start(natsd.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	nc, err := server.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	folds, err := fold.Embedded("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = folds.Close() })
	host, err := service.NewHost(t.Context(), nc, folds, 1, zaptest.NewLogger(t, zaptest.Level(zap.ErrorLevel)))
	if err != nil {
		t.Fatal(err)
	}
	host.Timing = service.Timing{Lease: time.Second} // the floor is noted three times in it
	return host
}

// replay publishes a recorded stream, and checks that each event says the same when it is encoded again.
func replay(t *testing.T, host service.Host, file string) (last uint64) {
	t.Helper()
	in, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	unzipped, err := gzip.NewReader(bufio.NewReader(in))
	if err != nil {
		t.Fatal(err)
	}
	types := map[string]bool{}
	for lines := json.NewDecoder(unzipped); ; last++ {
		var r recorded
		if err := lines.Decode(&r); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		e, err := events.Decode(r.Header, r.Data)
		if err != nil {
			t.Fatalf("event %d can not be read: %v", last+1, err)
		}
		types[e.Type.Short()] = true
		again, err := events.Encode(e)
		if err != nil {
			t.Fatalf("event %d can not be written: %v", last+1, err)
		}
		if read, err := events.Decode(again.Header, again.Data); err != nil || read.ID != e.ID || read.Chain != e.Chain || !same(t, read.Content, e.Content) {
			t.Fatalf("event %d changes by being written: %+v became %+v (%v)", last+1, e, read, err)
		}
		ack, err := host.JS.PublishMsg(t.Context(), &nats.Msg{Subject: r.Subject, Header: r.Header, Data: r.Data})
		if err != nil || ack.Sequence != last+1 {
			t.Fatalf("event %d is at %v: %v", last+1, ack, err)
		}
	}
	if last < 200 || len(types) < 40 {
		t.Fatalf("a recorded lap of %d events of %d types is no lap", last, len(types))
	}
	t.Logf("%d events of %d types", last, len(types))
	return last
}

func same(t *testing.T, a, b any) bool {
	t.Helper()
	one, err1 := json.Marshal(a)
	other, err2 := json.Marshal(b)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return slices.Equal(one, other)
}

// awaitFloors waits until the owner of each phase has noted that all up to a sequence is handled.
func awaitFloors(t *testing.T, host service.Host, phases int, sequence uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	leases, err := host.JS.KeyValue(ctx, "LEASES")
	if err != nil {
		t.Fatal(err)
	}
	watch, err := leases.WatchAll(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = watch.Stop() }()
	there := map[string]bool{}
	for len(there) < phases {
		select {
		case <-ctx.Done():
			t.Fatalf("only %v of %d phases reached the end", slices.Collect(maps.Keys(there)), phases)
		case entry := <-watch.Updates():
			if entry == nil || len(entry.Value()) == 0 {
				continue
			}
			var held struct{ Floor uint64 }
			if err := json.Unmarshal(entry.Value(), &held); err != nil {
				t.Fatal(err)
			}
			if held.Floor >= sequence {
				there[entry.Key()] = true
			}
		}
	}
}

// told logs what was added.
func told(t *testing.T, host service.Host, from, to uint64) {
	t.Helper()
	err := service.Tail(t.Context(), host, nil, from, func(m service.Message) error {
		e, err := m.Event()
		t.Logf("%d %s %s/%s of %d: %+v %v", m.Sequence, m.Subject(), e.Aggregate, e.Key, e.CauseSequence, e.Content, err)
		if m.Sequence >= to {
			return service.ErrStop
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
