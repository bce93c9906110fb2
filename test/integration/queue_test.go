package integration_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lemnis/lemnis/cmd/lemnis/api"
	"github.com/lemnis/lemnis/cmd/lemnis/up"
	"github.com/lemnis/lemnis/cmd/lemnis/up/uptest"
	"github.com/lemnis/lemnis/pkg/events"
)

// bare is a bare repository whose pipeline fails where a file says so, or where two numbers are there that do not go together.
type bare struct{ dir string }

func (b bare) git(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", append([]string{"-c", "user.name=Ann", "-c", "user.email=ann@example.org", "--git-dir=" + b.dir}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1")
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// commit adds a file on a branch that begins at main, and returns its head.
func (b bare) commit(t *testing.T, branch, file, content string) string {
	t.Helper()
	from := ""
	if branch != "main" {
		from = "from refs/heads/main^0\n"
	}
	b.git(t, fmt.Sprintf("commit refs/heads/%s\ncommitter Ann <ann@example.org> 1700000000 +0000\ndata 4\nWork\n%sM 100644 inline %s\ndata %d\n%s\n",
		branch, from, file, len(content), content), "fast-import", "--quiet", "--force")
	return b.git(t, "", "rev-parse", "refs/heads/"+branch)
}

// Twelve changes come at once to a queue of three slots, on the real bus: ten are good by themselves, two of those break the master
// copy together, two are red. Nine land, each fact is stated once, and every commit of the master copy was tested as exactly that.
func TestQueueInOneProcess(t *testing.T) {
	repository := bare{filepath.Join(t.TempDir(), "api.git")}
	repository.git(t, "", "init", "--quiet", "--bare", "--initial-branch=main", repository.dir)
	repository.commit(t, "main", ".lemnis.yaml", "steps:\n  - name: test\n    run: |\n      if ls */red 2>/dev/null; then exit 1; fi\n      test $(ls */odd* 2>/dev/null | wc -l) -lt 2\n")
	ctx := t.Context()
	stack, stop := uptest.Run(t, up.Options{Pipelines: 3})
	defer stop()
	client := api.New(stack.URL())
	defer client.Close()
	p := events.DefaultProject("line")
	p.Repositories = []events.RepositoryRef{{Name: "api", URL: repository.dir}}
	p.Queue = &events.QueuePolicy{Slots: 3}
	changes := 12
	for n := range changes {
		p.Queue.Lanes = append(p.Queue.Lanes, fmt.Sprintf("d%d", n%5))
	}
	if _, err := client.Apply(ctx, p, 30*time.Second); err != nil {
		t.Fatal(err)
	}
	claim := func(id, key string, content any) {
		if _, err := client.Claim(ctx, events.Event{ID: id, Source: "/test", Type: events.TypeOf(content), Time: time.Now(), Project: p.Name,
			SubjectID: key, Content: content}, 30*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	bad := map[string]bool{"c4": true, "c9": true}
	for n := range changes {
		id := fmt.Sprintf("c%d", n)
		file := fmt.Sprintf("d%d/%s", n%5, id)
		switch {
		case bad[id]:
			file = fmt.Sprintf("d%d/red", n%5)
		case n == 2 || n == 8: // in two lanes
			file = fmt.Sprintf("d%d/odd%d", n%5, n)
		}
		head := repository.commit(t, id, file, id)
		claim("propose "+id, id, events.ChangeCreated{Lemnis: events.ChangeDetail{Repository: "api", Title: id, Branch: id, Head: head, Author: "ann"}})
		claim("review "+id, id, events.ChangeReviewed{Lemnis: events.Review{Reviewer: "bo", Verdict: events.Approved, Head: head}})
	}
	var all []events.Event
	in, out, tested, tips := map[string]int{}, map[string]string{}, map[string]bool{}, []string{}
	done := errors.New("done")
	limited, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	err := client.Follow(limited, api.Query{Project: p.Name}, func(e events.Event) error {
		all = append(all, e)
		if e.Kind != events.Stated {
			return nil
		}
		switch c := e.Content.(type) {
		case events.QueueTested:
			tested[c.Merge.Commit] = true
		case events.QueueEjected:
			out[e.Key] = c.Reason
		case events.PipelineRunQueued:
			t.Logf("%s tests %v upon %v", e.Key, ids(c.Lemnis.Changes), ids(c.Lemnis.Assumed))
		case events.ChangeMerged:
			in[e.Key]++
			if tips = append(tips, c.Lemnis.Commit); !tested[c.Lemnis.Commit] {
				t.Errorf("%s was merged as %s, which was not tested", e.Key, c.Lemnis.Commit)
			}
		}
		if len(in)+len(out) == changes {
			return done
		}
		return nil
	})
	if !errors.Is(err, done) {
		t.Fatalf("%v: merged %v, left %v", err, in, out)
	}
	t.Logf("left: %v", out)
	if len(in) != 9 || out["c4"] == "" || out["c9"] == "" || (out["c2"] == "") == (out["c8"] == "") {
		t.Errorf("merged %v, left %v", in, out)
	}
	stated := map[string]bool{}
	for _, e := range all {
		cause := fmt.Sprintf("%s %s/%s of %d", e.Phase, e.Aggregate, e.Key, e.CauseSequence)
		if e.Kind == events.Stated && e.Aggregate != "" {
			if stated[cause] {
				t.Errorf("%s stated two facts", cause)
			}
			stated[cause] = true
		}
	}
	tips = slices.Compact(tips)
	if at := repository.git(t, "", "rev-parse", "main"); at != tips[len(tips)-1] {
		t.Errorf("main is at %s, and facts say %v", at, tips)
	}
}

func ids(all []events.MergeDetail) (names []string) {
	for _, m := range all {
		names = append(names, m.Change)
	}
	return names
}
