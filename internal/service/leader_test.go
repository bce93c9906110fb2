package service

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// A copy that is behind ends a read no earlier than the stream's leader does.
func TestReadToTheLeadersEnd(t *testing.T) {
	copies := []uint64{3, 3, 5, 9, 9} // where the copy that is asked ends, each time
	reads, asked := 0, 0
	read := func() (uint64, bool, error) { reads++; return copies[reads-1], true, nil }
	end := func(context.Context) (uint64, error) { asked++; return 7, nil }
	if err := ReadToEnd(t.Context(), read, end); err != nil || reads != 4 || asked != 2 {
		t.Errorf("%v after %d reads, %d questions", err, reads, asked)
	}
	stopped := func() (uint64, bool, error) { return 1, false, nil }
	if err := ReadToEnd(t.Context(), stopped, end); err != nil || asked != 2 {
		t.Errorf("who has enough asks nobody: %v, %d questions", err, asked)
	}
	broken := errors.New("away")
	if err := ReadToEnd(t.Context(), func() (uint64, bool, error) { return 0, true, broken }, end); !errors.Is(err, broken) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	stuck := func() (uint64, bool, error) {
		if asked > 5 {
			cancel()
		}
		return 3, true, nil
	}
	if err := ReadToEnd(ctx, stuck, end); !errors.Is(err, context.Canceled) {
		t.Errorf("a copy that stays behind: %v", err)
	}
}

// behind is a copy of a stream that has nothing yet.
type behind struct{ jetstream.Stream }

func (behind) GetMsg(context.Context, uint64, ...jetstream.GetMsgOpt) (*jetstream.RawStreamMsg, error) {
	return nil, jetstream.ErrMsgNotFound
}

// A replica that is behind does not make a message gone.
func TestGoneOnlyByTheLeader(t *testing.T) {
	b := newBus(t)
	mustClaim(t, b, "new", ticket("x"), "k")
	stream, err := b.host.JS.Stream(t.Context(), "LIFECYCLE")
	if err != nil {
		t.Fatal(err)
	}
	want, err := stream.GetMsg(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	host := b.host
	host.Replicas = 3
	for name := range want.Header {
		if strings.HasPrefix(name, "Nats-") { // how the answer of a copy says where it stands
			delete(want.Header, name)
		}
	}
	if got, err := MessageAt(t.Context(), host, behind{stream}, 1); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v: %+v, not %+v", err, got, want)
	}
	if _, err := MessageAt(t.Context(), host, behind{stream}, 2); !errors.Is(err, jetstream.ErrMsgNotFound) {
		t.Errorf("one that has never been: %v", err)
	}
}

// A stream that does not answer is missing, until it takes something again.
func TestASilentStreamIsMissing(t *testing.T) {
	b := newBus(t)
	for _, err := range []error{context.DeadlineExceeded, nats.ErrNoResponders} {
		if b.host.Noted(err) != err { //nolint:errorlint // the very one
			t.Error("the error is another")
		}
		if missing := b.host.Missing(t.Context()); len(missing) != 1 || !strings.Contains(missing[0], "takes nothing") {
			t.Errorf("%v: %q", err, missing)
		}
		_ = b.host.Noted(nil)
		if missing := b.host.Missing(t.Context()); len(missing) != 0 {
			t.Errorf("it took something: %q", missing)
		}
	}
	_ = b.host.Noted(context.Canceled)
	if missing := b.host.Missing(t.Context()); len(missing) != 0 {
		t.Errorf("somebody went away: %q", missing)
	}
}

// The last one that filters let through, of any number of filters.
func TestLastOf(t *testing.T) {
	b := newBus(t)
	js := b.host.JS
	var sequences []uint64
	for _, subject := range []string{"claims.shop.plan.ticket.created.a", "claims.food.plan.ticket.created.a", "results.shop.plan.ticket.created.a"} {
		ack, err := js.Publish(t.Context(), subject, nil)
		if err != nil {
			t.Fatal(err)
		}
		sequences = append(sequences, ack.Sequence)
	}
	for _, c := range []struct {
		filters []string
		want    uint64
	}{
		{nil, sequences[2]}, {[]string{"claims.>"}, sequences[1]}, {[]string{"claims.shop.>", "claims.food.>"}, sequences[1]}, {[]string{"lifecycle.none.>"}, 0},
	} {
		if last, err := LastOf(t.Context(), b.host, "LIFECYCLE", c.filters...); err != nil || last != c.want {
			t.Errorf("%v: %d, not %d: %v", c.filters, last, c.want, err)
		}
	}
	if _, err := LastOf(t.Context(), b.host, "NONE"); err == nil {
		t.Error("a stream that is not there has an end")
	}
}
