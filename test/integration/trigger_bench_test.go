package integration_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/lemnis/lemnis/cmd/lemnis/api"
	"github.com/lemnis/lemnis/cmd/lemnis/up"
	"github.com/lemnis/lemnis/cmd/lemnis/up/uptest"
	"github.com/lemnis/lemnis/pkg/events"
)

const triggers = 100

// BenchmarkTrigger measures, with everything in one process and nothing else to do, the time from when the event of a pushed
// change is sent to the gateway over HTTP to when the first step of its pipeline runs, by the clock that the step reads:
// with date, a program that its shell has to begin first, so that what is measured is one process later than the step's own start.
func BenchmarkTrigger(b *testing.B) {
	for range b.N {
		all := trigger(b)
		slices.Sort(all)
		median, last := all[len(all)/2], all[len(all)*99/100]
		missed := 0
		say := func(d, most time.Duration) string {
			if d <= most {
				return ""
			}
			missed++
			return "  NOT REACHED"
		}
		fmt.Printf("\npush event to first step running, %d times: median %.0f ms (asked for: ≤ 30 ms%s), p99 %.0f ms (≤ 100 ms%s)\n", len(all),
			median.Seconds()*1000, say(median, 30*time.Millisecond), last.Seconds()*1000, say(last, 100*time.Millisecond))
		if missed > 0 {
			b.Errorf("%d goals are missed", missed)
		}
		b.ReportMetric(float64(missed), "missed")
	}
}

func trigger(b *testing.B) []time.Duration {
	b.Helper()
	data, origin := b.TempDir(), filepath.Join(b.TempDir(), "api.git")
	git := func(stdin string, args ...string) string {
		cmd := exec.Command("git", args...)
		cmd.Stdin, cmd.Env = strings.NewReader(stdin), append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_DIR="+origin)
		out, err := cmd.CombinedOutput()
		if err != nil {
			b.Fatalf("git %v: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	commit := func(branch, from, name, text string) string {
		git(fmt.Sprintf("commit refs/heads/%s\ncommitter Ann <ann@example.org> 1700000000 +0000\ndata 4\nWork\n%sM 100644 inline %s\ndata %d\n%s\n", branch, from, name, len(text), text),
			"fast-import", "--quiet", "--force")
		return git("", "rev-parse", "refs/heads/"+branch)
	}
	git("", "init", "--quiet", "--bare", "--initial-branch=main", origin)
	// It fails, so that nothing else follows.
	commit("main", "", ".lemnis.yaml", "steps: [{name: first, run: 'date +%s%N; exit 1'}]\n")

	stack, stop := uptest.Run(b, up.Options{Data: data, Log: zap.NewNop()})
	defer stop()
	ctx, end := context.WithCancel(b.Context())
	defer end()
	client := api.New(stack.Addresses().HTTP)
	defer client.Close()
	if _, err := client.Apply(ctx, events.Project{Name: "trigger", Repositories: []events.RepositoryRef{{Name: "api", URL: origin, Branch: "main"}}}, time.Minute); err != nil {
		b.Fatal(err)
	}
	finished := make(chan events.PipelineRunFinished, 1)
	go func() {
		_ = client.Follow(ctx, api.Query{Project: "trigger", Type: "pipelinerun.finished"}, func(e events.Event) error {
			if c, is := e.Content.(events.PipelineRunFinished); is && e.Kind == events.Stated {
				finished <- c
			}
			return nil
		})
	}()
	var all []time.Duration
	for i := range triggers + 5 {
		key := fmt.Sprintf("c%d", i)
		head := commit(key, "from refs/heads/main^0\n", "more", key)
		content := events.ChangeCreated{Lemnis: events.ChangeDetail{Repository: "api", Title: key, Branch: key, Base: "main", Head: head, Author: "ann"}}
		e := events.Event{ID: key, Source: "/bench", Type: events.TypeOf(content), Project: "trigger", Phase: events.Develop, Key: key, SubjectID: key, Chain: key, Time: time.Now(), Content: content}
		began := time.Now()
		if _, err := client.Publish(ctx, e); err != nil {
			b.Fatal(err)
		}
		select {
		case c := <-finished:
			took := firstLine(b, stack.Addresses().HTTP, c).Sub(began)
			if i >= 5 { // the first ones open the mirror and ask what the kernel grants
				all = append(all, took)
			}
		case <-time.After(30 * time.Second):
			b.Fatalf("no run of %s ended", key)
		}
		<-time.After(50 * time.Millisecond) // what follows from the end is over: the worker is idle
	}
	return all
}

// firstLine is the time that the step of a run printed.
func firstLine(b *testing.B, server string, c events.PipelineRunFinished) time.Time {
	b.Helper()
	if c.Lemnis.Merge.Evidence == nil {
		b.Fatalf("%s: %s", c.Outcome, c.Errors)
	}
	answer, err := http.Get(server + c.Lemnis.Merge.Evidence.Log) //nolint:noctx // of this test's own gateway
	if err != nil {
		b.Fatal(err)
	}
	text, err := io.ReadAll(answer.Body)
	_ = answer.Body.Close()
	if err != nil || answer.StatusCode != http.StatusOK {
		b.Fatalf("%s: %v\n%s", answer.Status, err, text)
	}
	for line := range strings.Lines(string(text)) {
		if n, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64); err == nil {
			return time.Unix(0, n)
		}
	}
	b.Fatalf("no time in %s", text)
	return time.Time{}
}
