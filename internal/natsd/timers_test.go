package natsd_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lemnis/lemnis/internal/natsd"
)

func timer(name, body string, at time.Time) *nats.Msg {
	return &nats.Msg{
		Subject: "timers.set." + name,
		Header: nats.Header{
			"Nats-Schedule":        {"@at " + at.UTC().Format(time.RFC3339)},
			"Nats-Schedule-Target": {"timers.fired." + name},
		},
		Data: []byte(body),
	}
}

func firings(t *testing.T, js jetstream.JetStream, filter string) jetstream.Consumer {
	t.Helper()
	c, err := js.CreateOrUpdateConsumer(t.Context(), natsd.Timers, jetstream.ConsumerConfig{
		Durable: "timers-plan", FilterSubject: filter, AckPolicy: jetstream.AckExplicitPolicy,
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// collect acks firings until there were as many as wanted or time is up.
func collect(t *testing.T, c jetstream.Consumer, got map[string]int, want int, limit time.Duration) {
	t.Helper()
	for deadline := time.Now().Add(limit); len(got) < want && time.Now().Before(deadline); {
		batch, err := c.Fetch(want, jetstream.FetchMaxWait(time.Second))
		if err != nil {
			t.Fatal(err)
		}
		for m := range batch.Messages() {
			got[string(m.Data())]++
			if err := m.DoubleAck(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func messages(t *testing.T, js jetstream.JetStream) uint64 {
	t.Helper()
	st, err := js.Stream(t.Context(), natsd.Timers)
	if err != nil {
		t.Fatal(err)
	}
	return st.CachedInfo().State.Msgs
}

func TestTimersFireOnceOverARestart(t *testing.T) {
	const timers = 1000
	dir := t.TempDir()
	s := start(t, natsd.Options{Dir: dir})
	_, js := connect(t, s.Connect)
	ensure(t, js, 1)
	// Some fire before the restart, some while the server is down, some after.
	now := time.Now()
	for i := range timers {
		if _, err := js.PublishMsgAsync(timer(fmt.Sprintf("plan.t%d", i), fmt.Sprint(i), now.Add(time.Duration(i%5)*time.Second))); err != nil {
			t.Fatal(err)
		}
	}
	<-js.PublishAsyncComplete()
	got := map[string]int{}
	collect(t, firings(t, js, "timers.fired.plan.>"), got, 1, 5*time.Second)
	s.Stop()

	s = start(t, natsd.Options{Dir: dir})
	_, js = connect(t, s.Connect)
	ensure(t, js, 1)
	c := firings(t, js, "timers.fired.plan.>")
	collect(t, c, got, timers, 15*time.Second)
	if len(got) != timers {
		t.Errorf("%d of %d timers fired", len(got), timers)
	}
	// One that comes twice would be here by now, as all are due.
	if m, err := c.Next(jetstream.FetchMaxWait(1200 * time.Millisecond)); err == nil {
		t.Errorf("%s fired again", m.Subject())
	} else if !errors.Is(err, nats.ErrTimeout) {
		t.Error(err)
	}
	for name, n := range got {
		if n != 1 {
			t.Errorf("timer %s fired %d times", name, n)
		}
	}
	if n := messages(t, js); n != 0 {
		t.Errorf("%d messages are left", n)
	}
}

func TestTimerSetAgainAndCancelled(t *testing.T) {
	s := start(t, natsd.Options{})
	_, js := connect(t, s.Connect)
	ensure(t, js, 1)
	now := time.Now()
	for _, m := range []*nats.Msg{
		timer("plan.again", "first", now.Add(time.Second)),
		timer("plan.again", "second", now.Add(2*time.Second)),
		timer("plan.never", "cancelled", now.Add(time.Second)),
		timer("plan.past", "past", now.Add(-time.Hour)),
	} {
		if _, err := js.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	st, err := js.Stream(t.Context(), natsd.Timers)
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Purge(t.Context(), jetstream.WithPurgeSubject("timers.set.plan.never")); err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	c := firings(t, js, "timers.fired.plan.>")
	collect(t, c, got, 2, 10*time.Second)
	if len(got) != 2 || got["second"] != 1 || got["past"] != 1 {
		t.Errorf("fired %v", got)
	}
	if n := messages(t, js); n != 0 {
		t.Errorf("%d messages are left", n)
	}
	outside := timer("plan.x", "", now)
	outside.Header.Set("Nats-Schedule-Target", "lifecycle.shop.plan.ticket.created.t1")
	if _, err := js.PublishMsg(t.Context(), outside); err == nil {
		t.Error("a timer may fire into another stream")
	}
}
