package integration_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lemnis/lemnis/cmd/lemnis/api"
	"github.com/lemnis/lemnis/cmd/lemnis/up"
	"github.com/lemnis/lemnis/cmd/lemnis/up/uptest"
	"github.com/lemnis/lemnis/internal/executor"
	"github.com/lemnis/lemnis/internal/executor/executortest"
	"github.com/lemnis/lemnis/pkg/events"
)

// hostile is a change that means harm.
type hostile struct {
	name    string
	limits  string // of its one step, as `limits: {…}`; other fields of the step may follow
	script  string
	text    string                                         // the whole definition, in place of a step
	tree    func(t *testing.T, b bare, good string) string // makes the branch's tree from the good one, in place of both
	reason  string                                         // a part of that for which it leaves; empty: it does no harm, and is merged
	outside bool                                           // needs a container engine
}

const (
	secretWord = "hunter2-of-the-builder"
	daemonWord = "daemon-of-a-hostile-repository"
)

// hostiles are given where the builder keeps what is its own, an address of this machine at which nobody may be reached, and an
// image that there is.
func hostiles(data, private, image string) []hostile {
	return []hostile{
		{name: "huge-file", script: "truncate -s 9G big; echo went on", reason: "File size limit exceeded"},
		{name: "many-files", tree: func(t *testing.T, b bare, good string) string { return b.bomb(t, good) }, reason: "tree is too large"},
		{name: "link-out", tree: func(t *testing.T, b bare, good string) string {
			return b.with(t, good, "120000 blob "+b.git(t, "/etc/passwd", "hash-object", "-w", "--stdin")+"\tout")
		}, reason: `unsafe tree: link "out" to "/etc/passwd"`},
		{name: "submodule", tree: func(t *testing.T, b bare, good string) string {
			modules := b.git(t, fmt.Sprintf("[submodule \"sub\"]\n\tpath = sub\n\turl = http://%s/x.git\n", private), "hash-object", "-w", "--stdin")
			return b.with(t, good, "100644 blob "+modules+"\t.gitmodules", "160000 commit "+strings.Repeat("1", 40)+"\tsub")
		}},
		{name: "fork-bomb", limits: "{processes: 40}", script: "bomb() { bomb | bomb & }; bomb; while :; do sleep 600 & done", reason: "attack: "},
		{name: "prints", limits: "{output: 1MiB}", script: "yes", reason: "printed more than 1048576 bytes"},
		{name: "writes-outside", script: "echo x >/usr/bin/hostile", reason: "exit status 2"},
		{name: "reads-secrets", script: fmt.Sprintf("cat %[1]s/secrets/house/key || true; find / -name keys.json -exec cat {} + 2>/dev/null || true; env; cat /proc/*/environ 2>/dev/null || true; echo; echo looked; exit 7", data), reason: "exit status 7: looked"},
		{name: "reads-others", script: fmt.Sprintf("find %[1]s / -path '*/mirrors/*' 2>/dev/null | grep . && exit 0; exit 8", data), reason: "exit status 8"},
		{name: "reaches-out", script: fmt.Sprintf("bash -c 'exec 3<>/dev/tcp/%s'", strings.Replace(private, ":", "/", 1)), reason: "exit status 1"},
		{name: "ignores-sigterm", limits: "{}, timeout: 1s", script: "trap '' TERM; while :; do sleep 600; done", reason: "not done after 1s"},
		{name: "daemon", script: fmt.Sprintf("(setsid sh -c 'trap \"\" TERM HUP; while :; do sleep 600; done; : %s' &) & wait; echo left one; exit 5", daemonWord), reason: "exit status 5: left one"},
		{name: "ends-its-init", script: "kill -9 1 $PPID -1; exit 9", reason: "attack: "},
		{name: "broken", text: "steps:\n  - name: a\n    runs: x\n", reason: `.lemnis.yaml:2:5: steps[0].run: is missing`},
		{name: "no-yaml", text: "\tsteps: {{{{\n", reason: ".lemnis.yaml:1:"},
		{name: "deep-yaml", text: "steps: " + strings.Repeat("[", 10000), reason: ".lemnis.yaml:"},
		{name: "no-image", text: "steps: [{name: attack, image: 'localhost:1/none:1', run: ':'}]", reason: "attack: image localhost:1/none:1 is not here, and can not be pulled", outside: true},
		{name: "image", text: fmt.Sprintf("steps: [{name: attack, image: %q, limits: {processes: 40}, run: 'while :; do sleep 600 & done', services: [{name: db, image: %[1]q}]}]", image), reason: "attack: ", outside: true},
		{name: "beside", text: fmt.Sprintf("steps: [{name: attack, image: %q, run: 'ls; exit 6', services: [{name: db, image: %[1]q}]}]", image), reason: "exit status 6", outside: true},
	}
}

// with adds entries to a tree.
func (b bare) with(t *testing.T, tree string, entries ...string) string {
	return b.git(t, b.git(t, "", "ls-tree", tree)+"\n"+strings.Join(entries, "\n")+"\n", "mktree", "--missing")
}

// bomb adds folders in folders in folders, of the same few objects: 10^12 files.
func (b bare) bomb(t *testing.T, tree string) string {
	at := b.git(t, "100644 blob "+b.git(t, "x", "hash-object", "-w", "--stdin")+"\tf\n", "mktree")
	for range 12 {
		var list strings.Builder
		for n := range 10 {
			fmt.Fprintf(&list, "040000 tree %s\td%d\n", at, n)
		}
		at = b.git(t, list.String(), "mktree")
	}
	return b.with(t, tree, "040000 tree "+at+"\tbomb")
}

// branch commits a tree on a branch that begins at main.
func (b bare) branch(t *testing.T, name, tree string) string {
	t.Helper()
	head := b.git(t, "", "commit-tree", "-m", "Work", "-p", "refs/heads/main", tree)
	b.git(t, "", "update-ref", "refs/heads/"+name, head)
	return head
}

// Changes of a repository that means harm, each followed by a good one, go through the builder on the real bus: each ends in a fact that
// says what it did, and the good one that comes after it is merged as if there had been none.
func TestHostileRepository(t *testing.T) {
	if isolated, why, err := executor.NewProcess(executor.Auto).Isolated(t.Context()); err != nil || !isolated {
		t.Skipf("SKIPPED: steps can not be kept apart here (%s, %v): hostile changes were NOT tried", why, err)
	}
	var image string
	t.Run("engine", func(sub *testing.T) { executortest.Engine(sub); image = "there" })
	if image != "" {
		image = executortest.Image(t, `CMD ["/bin/sleep", "600"]`)
	}
	t.Setenv("LEMNIS_TOP_SECRET", secretWord)
	data := t.TempDir()
	if err := os.MkdirAll(filepath.Join(data, "secrets", "house"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(data, "secrets", "house", "key"), []byte(secretWord), 0o600); err != nil {
		t.Fatal(err)
	}
	repository := bare{filepath.Join(t.TempDir(), "api.git")}
	repository.git(t, "", "init", "--quiet", "--bare", "--initial-branch=main", repository.dir)
	repository.commit(t, "main", ".lemnis.yaml", "steps: [{name: good, run: 'ls; test -z \"$(ls /tmp; ls ~)\"; test ! -e /usr/bin/hostile'}]\n")
	good := repository.git(t, "", "rev-parse", "main^{tree}")
	private, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		if c, err := private.Accept(); err == nil {
			t.Errorf("%s was reached", c.LocalAddr())
			_ = c.Close()
		}
	}()
	defer func() { _ = private.Close() }()

	ctx := t.Context()
	stack, stop := uptest.Run(t, up.Options{Data: data})
	defer stop()
	client := api.New(stack.URL())
	defer client.Close()
	p := events.DefaultProject("house")
	p.Repositories = []events.RepositoryRef{{Name: "api", URL: repository.dir}}
	if _, err := client.Apply(ctx, p, 30*time.Second); err != nil {
		t.Fatal(err)
	}
	propose := func(id, head string) {
		for n, content := range []any{
			events.ChangeCreated{Lemnis: events.ChangeDetail{Repository: "api", Title: id, Branch: id, Head: head, Author: "ann"}},
			events.ChangeReviewed{Lemnis: events.Review{Reviewer: "bo", Verdict: events.Approved, Head: head}},
		} {
			if _, err := client.Claim(ctx, events.Event{ID: fmt.Sprint(n, id), Source: "/test", Type: events.TypeOf(content), Time: time.Now(),
				Project: p.Name, SubjectID: id, Content: content}, 30*time.Second); err != nil {
				t.Fatal(err)
			}
		}
	}

	want := map[string]string{} // change to the reason for which it leaves
	send := func(name, tree, reason string) {
		want[name], want[name+"-next"] = reason, ""
		propose(name, repository.branch(t, name, tree))
		propose(name+"-next", repository.branch(t, name+"-next", repository.with(t, good, "100644 blob "+repository.git(t, name, "hash-object", "-w", "--stdin")+"\tafter-"+name)))
	}
	for _, h := range hostiles(data, private.Addr().String(), image) {
		switch {
		case h.outside && image == "":
			continue
		case h.tree != nil:
			send(h.name, h.tree(t, repository, good), h.reason)
			continue
		case h.text == "":
			if h.limits == "" {
				h.limits = "{}"
			}
			h.text = fmt.Sprintf("steps: [{name: attack, limits: %s, run: %q}]\n", h.limits, h.script)
		}
		send(h.name, repository.git(t, "100644 blob "+repository.git(t, h.text, "hash-object", "-w", "--stdin")+"\t.lemnis.yaml\n", "mktree"), h.reason)
	}
	// While these are built, somebody else is at their branches.
	for name, meddle := range map[string]func(){
		"forced":  func() { repository.git(t, "", "update-ref", "refs/heads/forced", "refs/heads/main") },
		"deleted": func() { repository.git(t, "", "update-ref", "-d", "refs/heads/deleted") },
	} {
		at := begun(t, meddle)
		text := fmt.Sprintf("steps: [{name: slow, network: true, run: %q}]\n", fmt.Sprintf("bash -c 'exec 3<>/dev/tcp/%s; cat <&3'", strings.Replace(at, ":", "/", 1)))
		send(name, repository.git(t, "100644 blob "+repository.git(t, text, "hash-object", "-w", "--stdin")+"\t.lemnis.yaml\n", "mktree"),
			map[string]string{"forced": `branch "forced" was rewritten`, "deleted": `branch "deleted" is gone`}[name])
	}

	got, facts := outcomes(ctx, t, client, p.Name, len(want))
	for id, reason := range want {
		switch is, there := got[id]; {
		case !there:
			t.Errorf("%s: nothing was stated of it", id)
		case (is == "") != (reason == "") || !strings.Contains(is, reason):
			t.Errorf("%s: left for %q, want %q", id, is, reason)
		default:
			t.Logf("%s: %.160q", id, is)
		}
	}
	if bytes.Contains(facts, []byte(secretWord)) {
		t.Error("a fact tells a secret of the builder")
	}
	logs(ctx, t, client, p.Name, want)
	if left := processes(daemonWord); len(left) > 0 {
		t.Errorf("a daemon is left: %v", left)
	}
	if _, err := os.Stat("/usr/bin/hostile"); err == nil {
		t.Error("a program of the system was written")
	}
}

// begun calls back when somebody comes, and lets that one go on then.
func begun(t *testing.T, do func()) (at string) {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if c, err := listener.Accept(); err == nil {
			do()
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = listener.Close(); <-done })
	return listener.Addr().String()
}

// outcomes waits until so many changes have left or were merged, and returns why, and all facts as they are on the wire.
func outcomes(ctx context.Context, t *testing.T, client *api.Client, project string, n int) (reasons map[string]string, facts []byte) {
	t.Helper()
	reasons = map[string]string{}
	done := errors.New("done")
	limited, cancel := context.WithTimeout(ctx, 4*time.Minute)
	defer cancel()
	err := client.FollowRaw(limited, api.Query{Project: project}, func(e events.Event, structured []byte) error {
		facts = append(facts, structured...)
		switch c := e.Content.(type) {
		case events.PipelineRunFinished:
			if m := c.Lemnis.Merge; m.Change == "beside" && (m.Evidence == nil || len(m.Evidence.Images) != 1) {
				t.Errorf("%s ran in no image that is known: %+v", e.Key, m.Evidence)
			}
		case events.QueueEjected:
			reasons[e.Key] = c.Reason
		case events.ChangeMerged:
			if c.Lemnis.Evidence == nil {
				t.Errorf("%s was merged without evidence", e.Key)
			}
			reasons[e.Key] = ""
		}
		if len(reasons) == n {
			return done
		}
		return nil
	})
	if !errors.Is(err, done) {
		t.Errorf("%v: %d of %d have ended", err, len(reasons), n)
	}
	return reasons, facts
}

// logs reads what the runs have printed: no secret of the builder is in it.
func logs(ctx context.Context, t *testing.T, client *api.Client, project string, runs map[string]string) {
	t.Helper()
	for id := range runs {
		log, _, err := client.Log(ctx, project, id+"#1", api.LogQuery{})
		if err != nil {
			continue // it was refused before anything ran
		}
		text, err := io.ReadAll(log)
		_ = log.Close()
		if err != nil || bytes.Contains(text, []byte(secretWord)) {
			t.Errorf("%s: %v, its log: %.2000s", id, err, text)
		}
	}
}

// processes lists those with a word in their command line.
func processes(word string) (pids []string) {
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, at := range lines {
		if line, err := os.ReadFile(at); err == nil && bytes.Contains(line, []byte(word)) {
			pids = append(pids, filepath.Base(filepath.Dir(at)))
		}
	}
	return pids
}
