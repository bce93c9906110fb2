package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
)

const patience = 2 * time.Minute

// lemnis is an installation in a process of its own, and its command line.
type lemnis struct {
	t       *testing.T
	program string
	data    string
	HTTP    string
	NATS    string
}

func startLemnis(t *testing.T) *lemnis {
	t.Helper()
	dir := t.TempDir()
	l := &lemnis{t: t, program: filepath.Join(dir, "lemnis")}
	if out, err := exec.Command("go", "build", "-o", l.program, "../../cmd/lemnis").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	l.data = filepath.Join(dir, "data")
	up := exec.Command(l.program, "up", "--data", l.data, "--http", "127.0.0.1:0", "--nats-listen", "127.0.0.1:0")
	up.Stderr = os.Stderr
	stdout, err := up.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := up.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = up.Process.Signal(os.Interrupt)
		_ = up.Wait()
	})
	for lines := bufio.NewScanner(stdout); lines.Text() != "ready"; {
		if !lines.Scan() {
			t.Fatal("lemnis up ended")
		}
	}
	addresses, err := os.ReadFile(filepath.Join(l.data, "addresses.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(addresses, l); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *lemnis) do(args ...string) {
	l.t.Helper()
	c := exec.Command(l.program, args...)
	c.Env = append(os.Environ(), "LEMNIS_SERVER="+l.HTTP, "LEMNIS_PROJECT=shop")
	if out, err := c.CombinedOutput(); err != nil {
		l.t.Fatalf("lemnis %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// facts follows all facts of the project.
func (l *lemnis) facts() <-chan events.Event {
	l.t.Helper()
	client, err := events.Connect(l.NATS)
	if err != nil {
		l.t.Fatal(err)
	}
	all := make(chan events.Event, 1000)
	if _, err := client.Subscribe(l.t.Context(), events.Selector{Project: "shop"}, func(_ context.Context, e events.Event) error {
		all <- e
		return nil
	}, events.From(1)); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = client.Close() })
	return all
}

// wait returns the first fact with a content of type C.
func wait[C any](t *testing.T, facts <-chan events.Event) (events.Event, C) {
	t.Helper()
	after := time.After(patience)
	for {
		select {
		case e := <-facts:
			if c, ok := e.Content.(C); ok {
				return e, c
			}
			if c, ok := e.Content.(events.ClaimRefused); ok {
				t.Fatalf("%s was refused: %s", c.ClaimType, c.Reason)
			}
		case <-after:
			t.Fatalf("no fact of the type %s", events.TypeOf(*new(C)))
		}
	}
}

// repository has a master copy, and a branch for each change, which changes the file of this name; it returns their heads.
func repository(t *testing.T, changes map[string]string) (url string, heads map[string]string) {
	t.Helper()
	url = t.TempDir()
	git := func(args ...string) string {
		out, err := exec.Command("git", append([]string{"-C", url, "-c", "user.name=ann", "-c", "user.email=ann@example.org"}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(url, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	git("init", "--quiet", "--initial-branch", "main")
	git("config", "receive.denyCurrentBranch", "ignore")
	write("go.mod", "module api\n\ngo 1.26.0\n")
	write("main.go", "package main\n\nfunc main() {}\n")
	write("better.go", "package main\n\nfunc better() int { return 41 }\n")
	write("worse.go", "package main\n\nfunc worse() int { return 40 }\n")
	write("main_test.go", "package main\n\nimport \"testing\"\n\nfunc TestOrder(t *testing.T) {\n\tif better() <= worse() {\n\t\tt.Fatal(better(), worse())\n\t}\n}\n")
	git("add", ".")
	git("commit", "--quiet", "-m", "Start")
	heads = map[string]string{}
	for branch, answer := range changes {
		git("checkout", "--quiet", "-b", branch, "main")
		write(branch+".go", "package main\n\nfunc "+branch+"() int { return "+answer+" }\n")
		git("commit", "--quiet", "-am", branch)
		heads[branch] = git("rev-parse", "HEAD")
	}
	git("checkout", "--quiet", "main")
	return url, heads
}

// The outside tool integrates a change, and Lemnis deploys what came of it; another change breaks the tests, and is not
// merged.
func TestOutsideBuilder(t *testing.T) {
	l := startLemnis(t)
	url, heads := repository(t, map[string]string{"better": "42", "worse": "43"})
	config := filepath.Join(t.TempDir(), "project.yaml")
	keys, secrets := t.TempDir(), filepath.Join(l.data, "secrets", "shop")
	l.do("keys", "signing", "--out", keys)
	half, err := os.ReadFile(filepath.Join(keys, "signing.pub"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(secrets, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(secrets, "ci.pub"), half, 0o600); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("project: shop\nowners: {integrate: local}\nsigning: {trusted: [\"secret:ci.pub\"]}\nrepositories: [{name: api, url: %s}]\nreview: {approvals: 0}\nenvironments: [{name: dev, target: process, gate: {tests: passed, signature: verified}}]\n", url)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	l.do("apply", "-f", config)

	b := &builder{project: "shop", repository: url, registry: strings.TrimPrefix(l.HTTP, "http://"), nats: l.NATS}
	if err := b.read(filepath.Join(keys, "signing.key")); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()

	facts := l.facts()
	propose := func(id, branch string) {
		l.do("events", "publish", "change.created", "--id", id, "--lemnis.repository", "api", "--lemnis.branch", branch, "--lemnis.head", heads[branch], "--lemnis.author", "ann", "--lemnis.title", branch)
	}
	propose("1", "better")
	merged, m := wait[events.ChangeMerged](t, facts)
	if merged.Key != "1" || m.Lemnis.Head != heads["better"] || m.Lemnis.Evidence == nil || m.Lemnis.Evidence.Tests != 1 {
		t.Errorf("%+v", m.Lemnis)
	}
	head, err := exec.Command("git", "-C", url, "rev-parse", "main").Output()
	if err != nil || strings.TrimSpace(string(head)) != m.Lemnis.Commit {
		t.Errorf("main is %s, not %s (%v)", head, m.Lemnis.Commit, err)
	}
	published, p := wait[events.ArtifactPublished](t, facts)
	if published.Chain != merged.Chain || p.Lemnis.Commit != m.Lemnis.Commit {
		t.Errorf("%+v", p.Lemnis)
	}
	resp, err := http.Get(l.HTTP + "/v2/shop/api/blobs/" + p.Lemnis.Digest)
	if err != nil || resp.StatusCode != http.StatusOK || resp.ContentLength != p.Lemnis.Size {
		t.Errorf("the executable: %v, %v", resp, err)
	}
	resp.Body.Close()
	// Everything behind goes on as always: the gate of the first environment finds the evidence.
	_, g := wait[events.GateEvaluated](t, facts)
	for slices.ContainsFunc(g.Checks, func(c events.Check) bool { return c.Pending }) { // the deployer looks at the signature itself
		_, g = wait[events.GateEvaluated](t, facts)
	}
	if !g.Passed || g.Rollout.Artifact.Digest != p.Lemnis.Digest {
		t.Errorf("%+v", g)
	}

	propose("2", "worse")
	ejected, q := wait[events.QueueEjected](t, facts)
	if ejected.Key != "2" || !strings.Contains(q.Reason, "TestOrder") || q.Merge.Commit != "" {
		t.Errorf("%s: %s (%s)", ejected.Key, q.Reason, q.Merge.Commit)
	}
	if now, _ := exec.Command("git", "-C", url, "rev-parse", "main").Output(); !bytes.Equal(now, head) {
		t.Errorf("main moved to %s", now)
	}
}
