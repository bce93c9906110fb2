package builder_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/internal/service/rulestest"
	"github.com/lemnis/lemnis/pkg/events"

	"github.com/lemnis/lemnis/internal/executor"
	"github.com/lemnis/lemnis/services/builder"
)

// crew is a builder at work on a stream in memory: its rules decide, and its effects do what the facts ask for, several at once.
type crew struct {
	t           *testing.T
	definitions []service.Definition
	stream      *rulestest.Stream

	mu      sync.Mutex
	heard   []events.Event // results that are not on the stream yet
	busy    int
	changed *sync.Cond
	scanned int
}

func newCrew(t *testing.T, o builder.Options, p events.Project) *crew {
	c := &crew{t: t, definitions: builder.New(o)}
	c.changed = sync.NewCond(&c.mu)
	c.stream = rulestest.New(p, c.definitions...)
	return c
}

// settle runs until nothing is left to decide or do.
func (c *crew) settle() {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		for _, e := range c.heard {
			c.stream.Add(e)
		}
		c.heard = nil
		c.stream.Run(c.t)
		for ; c.scanned < len(c.stream.Events); c.scanned++ {
			c.hand(c.stream.Events[c.scanned])
		}
		if c.busy == 0 && len(c.heard) == 0 {
			return
		}
		for c.busy > 0 && len(c.heard) == 0 {
			c.changed.Wait()
		}
	}
}

// hand gives a fact to the read models, and to the effects that it asks for.
func (c *crew) hand(e events.Event) {
	if e.Kind != events.Stated {
		return
	}
	for _, d := range c.definitions {
		for _, p := range d.Projections {
			if slices.Contains(p.On, e.Type) {
				p.Apply(e)
			}
		}
		for _, effect := range d.Effects {
			if effect.Name == "package" || !slices.Contains(effect.On, e.Type) {
				continue
			}
			c.busy++
			go func() {
				err := effect.Do(c.t.Context(), service.NewJob(e, c.stream.Project, 1, func(_ context.Context, r service.Report) error {
					c.say(events.Event{Kind: events.Result, Phase: d.Phase, Key: or(r.Key, e.Key), Chain: e.Chain, Attempt: 1, Content: r.Content})
					return nil
				}))
				if err != nil {
					c.t.Errorf("%s: %v", effect.Name, err)
				}
				c.mu.Lock()
				defer c.mu.Unlock()
				c.busy--
				c.changed.Broadcast()
			}()
		}
	}
}

func (c *crew) say(e events.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heard = append(c.heard, e)
	c.changed.Broadcast()
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// propose claims a change and its approval.
func (c *crew) propose(id, head string) {
	c.stream.Add(events.Event{Kind: events.Claim, Key: id, Principal: "ann", Chain: "chain of " + id, Content: events.ChangeCreated{Lemnis: events.ChangeDetail{
		Repository: "api", Title: "Change " + id, Branch: id, Head: head, Author: "ann", Item: "T-" + id}}})
	c.stream.Add(events.Event{Kind: events.Claim, Key: id, Principal: "bo", Chain: "chain of " + id, Content: approved("bo", head)})
}

// shopFiles is a Go module of four packages, of which one imports another.
var shopFiles = map[string]string{
	"go.mod":             "module example.org/shop\n\ngo 1.24\n",
	".lemnis.yaml":       "steps:\n  - name: test\n    run: go test -json ./... > tests.json\n    reports: {tests: [tests.json]}\n",
	"price/price.go":     "package price\n\n// Each is the price of a thing.\nfunc Each() int { return 2 }\n",
	"cart/cart.go":       "package cart\n\nimport \"example.org/shop/price\"\n\n// Sum is the price of n things.\nfunc Sum(n int) int { return n * price.Each() }\n",
	"mail/mail.go":       "package mail\n\n// Greeting begins a mail.\nconst Greeting = \"Hello\"\n",
	"clock/clock.go":     "package clock\n\n// Hours of a day.\nconst Hours = 24\n",
	"price/some_test.go": "package price\n\nimport \"testing\"\n\nfunc TestPositive(t *testing.T) {\n\tif Each() < 1 {\n\t\tt.Fatal(Each())\n\t}\n}\n",
}

// Changes that come at once, among them a pair that breaks the master copy together and passes alone, two that change the same
// line, one that is red, and one with a test that fails the first time: the master copy is green at every commit that it stood at, and
// only those leave that have to.
func TestQueueOfARepository(t *testing.T) {
	t.Parallel()
	o := emptyOrigin(t)
	o.commit(t, "main", shopFiles)
	once := filepath.Join(t.TempDir(), "once")
	heads := map[string]string{
		"double": o.commit(t, "double", map[string]string{"price/price.go": strings.Replace(shopFiles["price/price.go"], "2", "4", 1)}),
		"sums": o.commit(t, "sums", map[string]string{"cart/cart_test.go": "package cart\n\nimport \"testing\"\n\nfunc TestSum(t *testing.T) {\n" +
			"\tif Sum(3) != 6 {\n\t\tt.Fatal(Sum(3))\n\t}\n}\n"}),
		"hi":  o.commit(t, "hi", map[string]string{"mail/mail.go": strings.Replace(shopFiles["mail/mail.go"], "Hello", "Hi", 1)}),
		"hey": o.commit(t, "hey", map[string]string{"mail/mail.go": strings.Replace(shopFiles["mail/mail.go"], "Hello", "Hey", 1)}),
		"red": o.commit(t, "red", map[string]string{"clock/clock_test.go": "package clock\n\nimport \"testing\"\n\nfunc TestHours(t *testing.T) {\n\tt.Fatal(Hours)\n}\n"}),
		"flaky": o.commit(t, "flaky", map[string]string{"web/web.go": "package web\n", "web/web_test.go": fmt.Sprintf("package web\n\nimport (\n\t\"os\"\n\t\"testing\"\n)\n\n"+
			"func TestOnce(t *testing.T) {\n\tif _, err := os.Stat(%q); err != nil {\n\t\tos.WriteFile(%q, nil, 0o600)\n\t\tt.Fatal(\"not ready\")\n\t}\n}\n", once, once)}),
	}
	p := project(o)
	p.Queue = &events.QueuePolicy{Slots: 4}
	c := newCrew(t, builder.Options{Data: t.TempDir(), Isolation: executor.None, Parallel: 4}, p)
	ids := []string{"double", "sums", "hi", "hey", "red", "flaky"}
	for _, id := range ids {
		c.propose(id, heads[id])
	}
	c.settle()
	c.stream.CheckAnswers(t)

	in, out := map[string]events.MergeDetail{}, map[string]events.QueueEjected{}
	tested, stood := map[string]bool{}, []string{}
	for _, e := range c.stream.Events {
		if e.Kind != events.Stated {
			continue
		}
		switch f := e.Content.(type) {
		case events.QueueTested:
			tested[f.Merge.Commit] = true
		case events.ChangeMerged:
			in[e.Key] = f.Lemnis
			if !tested[f.Lemnis.Commit] {
				t.Errorf("%s was merged as %s, which was not tested", e.Key, f.Lemnis.Commit)
			}
			if stood = append(stood, f.Lemnis.Commit); e.Chain != "chain of "+e.Key {
				t.Errorf("that %s was merged is part of %q", e.Key, e.Chain)
			}
		case events.QueueEjected:
			out[e.Key] = f
		case events.PipelineRunQueued:
			t.Logf("%s: %v upon %v", e.Key, names(f.Lemnis.Changes), names(f.Lemnis.Assumed))
		case events.QueueSurveyed:
			t.Logf("%s writes %v, reads %v %s", e.Key, f.Writes, f.Reads, f.Reason)
		}
	}
	for id, f := range out {
		t.Logf("%s left: %s %v", id, f.Reason, f.Conflicts)
	}
	if _, ok := out["red"]; !ok || len(in) != 3 || len(out) != 3 || in["flaky"].Commit == "" {
		t.Fatalf("merged %v, left %v", in, out)
	}
	either := func(a, b string) events.QueueEjected {
		_, first := in[a]
		_, second := in[b]
		if first == second {
			t.Fatalf("of %s and %s: merged %v and %v", a, b, first, second)
		}
		if first {
			return out[b]
		}
		return out[a]
	}
	if f := either("double", "sums"); !has(f.Reason, "TestSum") {
		t.Errorf("of the pair that breaks main one left for %q", f.Reason)
	}
	if f := either("hi", "hey"); !slices.Equal(f.Conflicts, []string{"mail/mail.go"}) {
		t.Errorf("of the two that conflict one left for %q with %v", f.Reason, f.Conflicts)
	}
	if e := in["flaky"].Evidence; e == nil || e.Failed > 0 || !slices.ContainsFunc(flakyOf(c), func(name string) bool { return has(name, "TestOnce") }) {
		t.Errorf("flaky tests %v, evidence %+v", flakyOf(c), e)
	}
	if at := o.head(t, "main"); at != stood[len(stood)-1] {
		t.Errorf("main is at %s, and facts say %v", at, stood)
	}
	for _, commit := range slices.Compact(stood) {
		green(t, o, commit)
	}
}

func names(all []events.MergeDetail) (ids []string) {
	for _, m := range all {
		ids = append(ids, m.Change)
	}
	return ids
}

// flakyOf lists the tests that any run found to be flaky.
func flakyOf(c *crew) (all []string) {
	for _, f := range rulestest.Facts[events.PipelineRunFinished](c.stream) {
		if e := f.Lemnis.Merge.Evidence; e != nil {
			all = append(all, e.Flaky...)
		}
		for _, c := range f.Lemnis.Tests { // a run that failed for another test has no evidence of what passed in the end
			if c.Outcome == events.TestFlaky {
				all = append(all, c.Name)
			}
		}
	}
	return all
}

// green runs the tests of a commit by hand.
func green(t *testing.T, o origin, commit string) {
	t.Helper()
	dir := t.TempDir()
	o.git(t, "", "--work-tree="+dir, "checkout", "--quiet", "--force", commit, "--", ".")
	cmd := exec.CommandContext(t.Context(), "go", "test", "./...")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s is red: %v\n%s", commit, err, text)
	}
}

func TestParsePipelines(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{"": 1, "1": 1, "8": 8, "0": 0, "-1": 0, "many": 0, "65": 0} {
		if got, err := builder.ParsePipelines(text); got != want || (err != nil) != (want == 0) {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
}

func TestATestInQuarantine(t *testing.T) {
	t.Parallel()
	o := goOrigin(t)
	m := find(o.commit(t, "find", map[string]string{"find.go": "package main\n\nfunc find(string) int { return 7 }\n"}))
	p := project(o)
	p.Quarantine = []events.Quarantined{{Test: "example.org/api.TestFind", Owner: "bo", Until: "2020-01-01"}}
	if got := newShift(t, builder.Options{}, p).pipeline(t, m); got.Outcome != events.Failure {
		t.Fatalf("after its quarantine: %+v", got)
	}
	p.Quarantine[0].Until = "9999-12-31"
	got := newShift(t, builder.Options{}, p).pipeline(t, m)
	if e := got.Lemnis.Merge.Evidence; got.Outcome != events.Success || e.Failed != 0 || e.Skipped != 1 || !slices.Equal(e.Quarantined, []string{"example.org/api.TestFind"}) {
		t.Fatalf("in quarantine: %s %s, %+v", got.Outcome, got.Errors, e)
	}
}

// A fault of the machinery is worth some attempts, of a train too; so is work whose workers all died in the middle of it. Then it is a fact.
func TestFaultsEndInAFact(t *testing.T) {
	t.Parallel()
	away := goOrigin(t)
	head := away.commit(t, "find", map[string]string{"find.go": "package main\n\nfunc find(string) int { return 1 }\n"})
	there := project(away)
	gone := project(origin{filepath.Join(t.TempDir(), "nowhere.git")})
	m := find(head)
	train := events.PipelineRunQueued{PipelineName: "merge", Lemnis: events.RunDetail{Merge: events.MergeDetail{Repository: "api"}, Changes: []events.MergeDetail{m, m}}}
	alone := events.PipelineRunQueued{PipelineName: "merge", Lemnis: events.RunDetail{Merge: m}}
	for name, c := range map[string]struct {
		project events.Project
		queued  events.PipelineRunQueued
		tries   uint64
		reason  string // empty: it is tried again
	}{
		"a train":                    {gone, train, 19, ""},
		"a train, given up":          {gone, train, 20, "given up after 20 attempts: repository \"api\""},
		"a change":                   {gone, alone, 20, "given up after 20 attempts: repository \"api\""},
		"a train that kills workers": {there, train, 21, "no builder that began it lived to tell"},
		"a change that kills them":   {there, alone, 21, "no builder that began it lived to tell"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShift(t, builder.Options{}, c.project)
			got, err := s.work(t, "pipeline", "api@1", c.tries, c.queued)
			end, ended := got.(events.PipelineRunFinished)
			if ended != (c.reason != "") || ended != (err == nil) {
				t.Fatalf("reported %+v, %v", got, err)
			}
			if ended && (end.Outcome != events.Errored || !has(end.Errors, c.reason)) {
				t.Fatalf("ended %s: %s", end.Outcome, end.Errors)
			}
		})
	}
}
