package builder_test

import (
	"strings"
	"testing"

	"github.com/lemnis/lemnis/internal/natsd/natsdtest"
	"github.com/lemnis/lemnis/internal/runlog"
	"github.com/lemnis/lemnis/services/builder"
)

// What the steps of a run print is kept for whoever asks, by step; the evidence says where it is, and what it is.
func TestLogIsKept(t *testing.T) {
	_, _, js := natsdtest.Start(t)
	logs, o := runlog.New(js), goOrigin(t)
	s := newShift(t, builder.Options{Logs: logs}, project(o))
	evidence := s.pipeline(t, find(o.commit(t, "find", map[string]string{"more.go": "package main\n"}))).Lemnis.Merge.Evidence
	run := runlog.Run{Project: "shop", Kind: runlog.Pipeline, Key: "7#1"}
	last, err := logs.Find(t.Context(), run)
	if err != nil {
		t.Fatal(err)
	}
	if last.Kept == nil || evidence.Log != run.Path() || evidence.Digest != last.Kept.Digest {
		t.Errorf("evidence %s %s, kept %+v", evidence.Log, evidence.Digest, last.Kept)
	}
	of := map[string]string{}
	if err := logs.Read(t.Context(), last, false, func(step string, text []byte) error { of[step] += string(text); return nil }); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(of["compile"], "go build") || !strings.Contains(of["test"], "PASS") {
		t.Errorf("the log is %q", of)
	}
}
