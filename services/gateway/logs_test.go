package gateway_test

import (
	"bufio"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/lemnis/lemnis/internal/runlog"
)

func TestLogs(t *testing.T) {
	w := newWorld(t)
	logs := runlog.New(w.host.JS)
	path := func(run runlog.Run) string { return strings.TrimSuffix(run.Path(), "?kind="+string(run.Kind)) }
	tested, built := runlog.Run{Project: "shop", Kind: runlog.Pipeline, Key: "feat/x#1"}, runlog.Run{Project: "shop", Kind: runlog.Build, Key: "feat/x#1"}
	writer := logs.Write(t.Context(), tested, 3)
	_ = writer.Print("", []byte("NOT ISOLATED: no\n"))
	_ = writer.Print("compile", []byte("\x1b[1mgo build\x1b[0m\nno trouble\n"))
	_ = writer.Print("test", []byte("FAIL one\nok two\n"))
	kept := writer.Close(true)
	writer = logs.Write(t.Context(), built, 1)
	_ = writer.Print("package", []byte("packed"))
	writer.Close(true)
	for _, test := range []struct {
		path, want string
		status     int
	}{
		{path(tested), "NOT ISOLATED: no\n\x1b[1mgo build\x1b[0m\nno trouble\nFAIL one\nok two\n", 200},
		{tested.Path(), "NOT ISOLATED: no\n\x1b[1mgo build\x1b[0m\nno trouble\nFAIL one\nok two\n", 200},
		{built.Path(), "packed", 200},
		{path(tested) + "?step=test", "FAIL one\nok two\n", 200},
		{path(tested) + "?grep=o+", "compile: \x1b[1mgo build\x1b[0m\ncompile: no trouble\n", 200},
		{path(tested) + "?step=test&grep=" + url.QueryEscape("o"), "FAIL one\nok two\n", 200},
		{path(tested) + "?step=none", "", 200},
		{path(tested) + "?follow=true", "NOT ISOLATED: no\n\x1b[1mgo build\x1b[0m\nno trouble\nFAIL one\nok two\n", 200},
		{path(tested) + "?grep=o&skip=30&attempt=3", "go build\x1b[0m\ncompile: no trouble\ntest: FAIL one\ntest: ok two\n", 200},
		{path(tested) + "?skip=1000", "", 200},
		{path(tested) + "?skip=-1", `skip=\"-1\": want a number`, 400},
		{path(tested) + "?attempt=last", `attempt=\"last\": want a number`, 400},
		{path(tested) + "?follow=perhaps", `follow=\"perhaps\": want true or false`, 400},
		{path(tested) + "?kind=else", "there are", 400},
		{"/api/v1/logs/shop/c9%231", `there is no log of run \"c9#1\" of project \"shop\": it has not come to its steps, or its log is older than what is kept`, 404},
		{"/api/v1/logs/other/feat/x%231", "there is no log", 404},
	} {
		answer, got := w.send("GET", test.path, "")
		if answer.StatusCode != test.status || test.status == 200 && got != test.want || !strings.Contains(got, test.want) {
			t.Errorf("%s: %s %q, want %d %q", test.path, answer.Status, got, test.status, test.want)
		}
	}
	if answer, _ := w.send("HEAD", path(tested), ""); answer.Header.Get(runlog.DigestHeader) != kept.Digest || answer.Header.Get(runlog.AttemptHeader) != "3" {
		t.Errorf("headers %v, want the digest %s", answer.Header, kept.Digest)
	}
}

// Who follows a log has each line before the next is printed, its end when the run ends, and no end when the gateway stops.
func TestLogsAreFollowed(t *testing.T) {
	w := newWorld(t)
	run := runlog.Run{Project: "shop", Kind: runlog.Pipeline, Key: "c1#1"}
	writer := runlog.New(w.host.JS).Write(t.Context(), run, 1)
	_ = writer.Print("test", []byte("first\n"))
	follow := func() *bufio.Reader {
		for {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.url+run.Path()+"&follow=1", http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			answer, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = answer.Body.Close() })
			if answer.StatusCode == http.StatusOK {
				return bufio.NewReader(answer.Body)
			}
			// What was printed is not on the bus yet.
		}
	}
	expect := func(from *bufio.Reader, want string) {
		t.Helper()
		if line, err := from.ReadString('\n'); line != want || err != nil {
			t.Fatalf("read %q, %v, want %q", line, err, want)
		}
	}
	one, two := follow(), follow()
	expect(one, "first\n")
	expect(two, "first\n")
	_ = writer.Print("test", []byte("second\n"))
	expect(one, "second\n")
	writer.Close(true)
	if rest, err := io.ReadAll(one); err != nil || len(rest) > 0 {
		t.Errorf("at the end %q, %v", rest, err)
	}
	run.Key = "c2#1"
	writer = runlog.New(w.host.JS).Write(t.Context(), run, 1)
	_ = writer.Print("test", []byte("first\n"))
	three := follow()
	expect(three, "first\n")
	w.stop()
	if _, err := io.ReadAll(three); err == nil {
		t.Error("the gateway stopped, and the log seems to have ended")
	}
	writer.Close(false)
}

// Those who follow logs, which may be open for hours, do not keep others from reading one.
func TestManyFollowLogs(t *testing.T) {
	w := newWorld(t)
	run := runlog.Run{Project: "shop", Kind: runlog.Pipeline, Key: "c1#1"}
	lost := runlog.New(w.host.JS).Write(t.Context(), run, 1)
	_ = lost.Print("test", []byte("first\n"))
	lost.Close(false)
	for range 40 {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.url+run.Path()+"&follow=1", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil || answer.StatusCode != http.StatusOK {
			t.Fatal(answer, err)
		}
		t.Cleanup(func() { _ = answer.Body.Close() })
	}
	if answer, got := w.send("GET", run.Path(), ""); answer.StatusCode != http.StatusOK || got != "first\n" {
		t.Errorf("%s %q", answer.Status, got)
	}
}
