//go:build linux

package process

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func flapping(t *testing.T, c Config) (*Process, chan Notice) {
	t.Helper()
	notices := make(chan Notice, 100)
	c.StateDir, c.Grace, c.MinPause = t.TempDir(), 300*time.Millisecond, time.Millisecond
	c.Notify = func(n Notice) { notices <- n }
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(t.Context()) })
	p := start(t, s)
	expect(t, notices, Started)
	return p, notices
}

func die(t *testing.T, p *Process) {
	t.Helper()
	if response, err := http.Get(p.URL() + "/die"); err == nil {
		_ = response.Body.Close()
		t.Error("it did not die")
	}
}

// A process that ends again and again is not started again and again.
func TestAProcessThatFlaps(t *testing.T) {
	p, notices := flapping(t, Config{MaxPause: time.Hour, Flaps: 3, FlapPause: time.Hour})
	for range 2 {
		die(t, p)
		expect(t, notices, Exited)
		expect(t, notices, Restarted)
		if p.Flapping() != "" {
			t.Fatal(p.Flapping())
		}
	}
	die(t, p)
	expect(t, notices, Flaps)
	if n := expect(t, notices, Exited); n.Again != time.Hour {
		t.Errorf("again after %s", n.Again)
	}
	if got := p.Flapping(); !strings.HasPrefix(got, "it ended 3 times without running for 1h0m0s, the last time: exit status 7") {
		t.Error(got)
	}
}

// One that stays up again flaps no more.
func TestAProcessFlapsNoMore(t *testing.T) {
	p, notices := flapping(t, Config{MaxPause: 50 * time.Millisecond, Flaps: 1, FlapPause: 300 * time.Millisecond})
	die(t, p)
	expect(t, notices, Flaps)
	expect(t, notices, Exited)
	if p.Flapping() == "" {
		t.Error("it does not flap")
	}
	expect(t, notices, Restarted)
	eventually(t, "calm", func() bool { return p.Flapping() == "" })
}
