package deployer

import (
	"testing"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
)

func TestMinutesBeforeACanary(t *testing.T) {
	began := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	at := func(seconds int) time.Time { return began.Add(time.Duration(seconds) * time.Second) }
	h, _ := history{}.look("r1", events.Counts{Requests: 500, Errors: 5}, at(0)) // what was before does not count
	n := 0
	for i := 1; i <= 6*70; i++ {
		var closed bool
		if h, closed = h.look("r1", events.Counts{Requests: 500 + int64(i)*10, Errors: 5 + int64(i/6)}, at(10*i)); closed {
			n++
		}
	}
	if n != 70 || len(h.Minutes) != mostMinutes || h.Minutes[0].Requests != 60 || h.Minutes[59].Requests != 60 || h.Minutes[59].Errors != 1 {
		t.Errorf("%d minutes closed, the last are %+v", n, h.Minutes)
	}
	h, _ = h.look("r1", events.Counts{Requests: 10_000}, at(4210))
	if late, closed := h.look("r1", events.Counts{Requests: 90_000}, at(5000)); closed || late.Open.Requests != 0 {
		t.Errorf("what nobody looked at counts as a minute: %+v", late)
	}
	if anew, closed := h.look("r1", events.Counts{Requests: 3}, at(4220)); closed || anew.Open.Requests != 0 || len(anew.Minutes) != mostMinutes {
		t.Errorf("another front's counts: %+v", anew)
	}
	if other, _ := h.look("r2", events.Counts{Requests: 3}, at(4220)); len(other.Minutes) > 0 {
		t.Errorf("another version's minutes: %+v", other)
	}
}

// What users met of the version before is counted, and stands in the canary's first
// tick: a verdict is replayed by it.
func TestACanaryKnowsTheHourBefore(t *testing.T) {
	b := newBus(t, time.Minute)
	o := Options{Data: t.TempDir(), Grace: time.Second, Look: time.Hour}
	d, stop := b.deploy(o)
	defer func() { stop() }()
	shelf := newShelf(t)
	b.configure(testProject("prod"))
	v1, v2 := shelf.put(t, "v1", "good"), shelf.put(t, "v2", "good")
	b.publish(v1)
	address := url(b.await("v1", published("prod", v1.Digest)))
	s, err := d.use(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	record := func(now time.Time) {
		counts := newTurns(time.Minute, time.Minute)
		s.record(t.Context(), counts, now)
		counts.all.Wait()
	}
	record(now)
	for minute := range 3 {
		for range 5 + minute {
			get(t, address)
		}
		now = now.Add(61 * time.Second)
		record(now)
	}
	b.publish(v2)
	crowd := traffic(address, 50)
	defer crowd.stop()
	first := b.await("a tick", is[events.CanaryObserved]).Content.(events.CanaryObserved)
	if len(first.Minutes) != 3 || first.Minutes[0].Requests != 5 || first.Minutes[2].Requests != 7 || first.Minutes[0].Errors != 0 {
		t.Errorf("%+v", first.Minutes)
	}
}
