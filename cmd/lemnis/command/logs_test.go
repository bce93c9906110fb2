package command_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
)

// The command asks for what its flags say, shows it byte by byte, and says what of the log is missing.
func TestLogs(t *testing.T) {
	run := func(key string) string {
		e := events.New("shop", key, events.PipelineRunStarted{PipelineName: "merge"})
		e.Kind, e.Source, e.Time, e.Phase, e.Chain = events.Stated, "/lemnis", time.Now(), events.Integrate, e.ID
		text, err := events.EncodeStructured(e)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	const log = "\x1b[31mFAIL\x1b[0m \xff\n"
	breaks := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.EscapedPath() + "?" + r.URL.RawQuery {
		case "/api/v1/logs/shop/c1%231?", "/api/v1/logs/shop/feat%2Fx%231?follow=true&grep=a+b&kind=build&step=test":
			_, _ = w.Write([]byte(log))
		case "/api/v1/logs/shop/c1%231?step=tset":
		case "/api/v1/logs/shop/cut%231?":
			w.Header().Set("Lemnis-Log-Dropped", "7")
			_, _ = w.Write([]byte(log))
		case "/api/v1/logs/shop/half%231?":
			_, _ = w.Write([]byte(log))
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		case "/api/v1/logs/shop/broken%231?follow=true&step=test":
			w.Header().Set("Lemnis-Log-Attempt", "7")
			_, _ = w.Write([]byte("one\ntw"))
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		case "/api/v1/logs/shop/broken%231?attempt=7&follow=true&skip=6&step=test":
			if breaks++; breaks == 1 {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			_, _ = w.Write([]byte("o\nthree\n"))
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		case "/api/v1/logs/shop/broken%231?attempt=7&follow=true&skip=14&step=test":
			_, _ = w.Write([]byte("four\n"))
		case "/api/v1/logs/shop/taken%231?follow=true":
			_, _ = w.Write([]byte("one\n"))
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		default:
			if r.URL.Path == "/events" && r.URL.Query().Get("from") != "" {
				fmt.Fprintf(w, `{"events":[%s,%s]}`, run("c1#1"), run("c2#1"))
				return
			}
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write([]byte(`{"title":"Not Found","status":404,"detail":"there is no log of run"}`))
		}
	}))
	t.Cleanup(server.Close)
	for _, test := range []struct {
		args           []string
		code           int
		out, complaint string
	}{
		{[]string{"c1#1"}, 0, log, ""},
		{[]string{"feat/x#1", "--step", "test", "--grep", "a b", "--follow", "--kind", "build"}, 0, log, ""},
		{[]string{"cut#1"}, 0, log, "cut off: 7 bytes of it are not kept"},
		{[]string{"half#1"}, 1, log, "the log breaks off here"},
		{[]string{"broken#1", "--follow", "--step", "test"}, 0, "one\ntwo\nthree\nfour\n", ""},
		{[]string{"taken#1", "--follow"}, 1, "one\n", "there is no log of run"},
		{[]string{"gone#1"}, 1, "", "there is no log of run (404); the latest runs are c2#1, c1#1\n"},
		{[]string{"c1#1", "--step", "tset"}, 0, "", `has no step "tset"`},
		{[]string{"c1#1", "--kind", "else"}, 2, "", "pipeline and build"},
		{[]string{}, 2, "", "RUN is missing"},
	} {
		code, out, complaint := lemnis(t.Context(), append([]string{"logs", "--server", server.URL, "--project", "shop"}, test.args...)...)
		if code != test.code || out != test.out || !strings.Contains(complaint, test.complaint) || test.complaint == "" && complaint != "" {
			t.Errorf("%q: %d %q %q, want %d %q %q", test.args, code, out, complaint, test.code, test.out, test.complaint)
		}
	}
	if code, _, complaint := lemnis(t.Context(), "logs", "c1#1", "--server", server.URL, "--project", ""); code != 2 || !strings.Contains(complaint, "which project?") {
		t.Errorf("without a project: %d %q", code, complaint)
	}
	// Runs are offered, where a gateway says which there are.
	if _, out, _ := lemnis(t.Context(), "__complete", "logs", "--kind", ""); !strings.Contains(out, "pipeline\nbuild\n") {
		t.Errorf("completion of --kind: %q", out)
	}
}
