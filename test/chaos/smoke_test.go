package chaos

import (
	"context"
	"testing"
	"time"
)

func TestSmoke(t *testing.T) {
	programs, err := Build(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Second)
	defer cancel()
	began := time.Now()
	s, err := Up(ctx, Options{Programs: programs, Dir: t.TempDir(), Nodes: 1, Copies: 1, Lease: time.Second, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Down(); err != nil {
			t.Error(err)
		}
	}()
	t.Logf("up after %s", time.Since(began))
	began = time.Now()
	laps := Plan(1, "lap", 10)
	load := NewLoad(s)
	if err := load.Run(ctx, laps, 10); err != nil {
		t.Error(err)
	}
	t.Logf("%d laps, %d changes in %s", load.Closed(), changes(laps), time.Since(began))
	if err := Quiet(ctx, s.JS, time.Second); err != nil {
		t.Error(err)
	}
	all, err := ReadStream(ctx, s.JS)
	if err != nil {
		t.Fatal(err)
	}
	letters, err := ReadLetters(ctx, s.JS)
	if err != nil {
		t.Fatal(err)
	}
	v := Check(Ledger{Laps: laps, Acked: load.Acknowledged(), Stream: all, Letters: letters})
	for _, f := range v.Findings {
		t.Error(f)
	}
	v.Findings = nil
	t.Logf("%+v %v", v, load.refusals)
	for _, p := range s.All() {
		t.Logf("%s: %s", p.Name, p.tail(1500))
	}
}
