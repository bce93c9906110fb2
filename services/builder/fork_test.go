package builder_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lemnis/lemnis/pkg/events"

	"github.com/lemnis/lemnis/internal/executor"
	"github.com/lemnis/lemnis/services/builder"
)

const easy = "steps: [{name: test, run: 'true'}]\n"

// forkOrigin is a repository whose host offers changes of forks. Far: the builder has to fetch from it, and does not read it where it lies.
func forkOrigin(t testing.TB, far bool) origin {
	t.Helper()
	name := "api.git"
	if far {
		name = "api#.git"
	}
	o := origin{filepath.Join(t.TempDir(), name)}
	o.git(t, "", "init", "--quiet", "--bare", "--initial-branch=main", o.dir)
	o.commit(t, "main", map[string]string{".lemnis.yaml": easy})
	return o
}

// offer puts a commit under a ref, and on no branch.
func (o origin) offer(t testing.TB, ref string, files map[string]string) string {
	t.Helper()
	head := o.commit(t, "offered", files)
	o.git(t, "", "update-ref", ref, head)
	o.git(t, "", "update-ref", "-d", "refs/heads/offered")
	return head
}

func forked(ref, head string) events.MergeDetail {
	m := find(head)
	m.Branch, m.Ref = "mallory:find", ref
	return m
}

var far = map[string]bool{"nearby": false, "fetched": true}

func TestChangeOfAForkIsTestedAndMerged(t *testing.T) {
	t.Parallel()
	for name, far := range far {
		for _, ref := range []string{"refs/pull/7/head", "refs/merge-requests/7/head"} {
			t.Run(name+" "+ref, func(t *testing.T) {
				t.Parallel()
				o := forkOrigin(t, far)
				m := forked(ref, o.offer(t, ref, map[string]string{"more": "text\n"}))
				p := project(o)
				s := newShift(t, builder.Options{Isolation: executor.None}, p)
				got := s.pipeline(t, m)
				if got.Outcome != events.Success {
					t.Fatalf("%s: %s", got.Outcome, got.Errors)
				}
				// By another builder, which has none of it yet; the fork has gone on meanwhile.
				o.git(t, "", "update-ref", "refs/heads/offered", m.Head)
				o.offer(t, ref, map[string]string{"yet": "more\n"})
				end, err := newShift(t, builder.Options{Isolation: executor.None}, p).work(t, "merge", "7", 1, events.QueueTested{Merge: got.Lemnis.Merge})
				if _, is := end.(events.ChangeMerged); err != nil || !is || o.head(t, "main") != got.Lemnis.Merge.Commit {
					t.Fatalf("%+v, %v", end, err)
				}
			})
		}
	}
}

func TestForkThatIsGoneOrRewritten(t *testing.T) {
	t.Parallel()
	const ref = "refs/pull/7/head"
	for name, far := range far {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := forkOrigin(t, far)
			m := forked(ref, o.offer(t, ref, map[string]string{"more": "text\n"}))
			s := newShift(t, builder.Options{Isolation: executor.None}, project(o))
			tested := events.QueueTested{Merge: s.pipeline(t, m).Lemnis.Merge}
			o.offer(t, ref, map[string]string{"other": "text\n"})
			end, err := s.work(t, "merge", "7", 1, tested)
			if e, is := end.(events.QueueEjected); err != nil || !is || !has(e.Reason, "rewritten") {
				t.Errorf("rewritten: %+v, %v", end, err)
			}
			if got := s.pipeline(t, m); !has(got.Errors, `"refs/pull/7/head" was rewritten`) {
				t.Errorf("rewritten: %s", got.Errors)
			}
			o.git(t, "", "update-ref", "-d", ref)
			end, err = s.work(t, "merge", "7", 1, tested)
			if e, is := end.(events.QueueEjected); err != nil || !is || !has(e.Reason, `"refs/pull/7/head" is gone`) {
				t.Errorf("gone: %+v, %v", end, err)
			}
			if got := s.pipeline(t, m); got.Outcome != events.Failure || !has(got.Errors, `"refs/pull/7/head" is gone`) {
				t.Errorf("gone: %s", got.Errors)
			}
		})
	}
}

// An outside owner of the develop phase may say any ref.
func TestHostileRefsAreRefused(t *testing.T) {
	t.Parallel()
	o := forkOrigin(t, true)
	m := forked("", o.offer(t, "refs/pull/7/head", map[string]string{"more": "text\n"}))
	s := newShift(t, builder.Options{Isolation: executor.None}, project(o))
	for _, ref := range []string{
		"refs/heads/main", "refs/pull/7/merge", "refs/pull/7/head:refs/heads/main", "+refs/pull/7/head", "refs/pull/../heads/main/head", "refs/pull/07/head",
		"refs/pull/7/head\n", "--upload-pack=touch x", "refs/pull/*/head", strings.Repeat("refs/pull/", 1000), "refs/notes/7/head",
	} {
		m.Ref = ref
		if got := s.pipeline(t, m); got.Outcome != events.Failure || !has(got.Errors, "none under which a forge offers changes") || len(got.Errors) > 400 {
			t.Errorf("%.50q: %s: %s", ref, got.Outcome, got.Errors)
		}
	}
}

// A stranger writes the pipeline of a fork: it reads no secret, alone or in a train, nor does who is tested together with it.
func TestForksGetNoSecrets(t *testing.T) {
	t.Parallel()
	const ref = "refs/pull/7/head"
	o := forkOrigin(t, false)
	steal := map[string]string{".lemnis.yaml": "steps: [{name: steal, run: 'test \"$X\" = hunter2', secrets: {X: 'secret:proxy'}}]\n"}
	m := forked(ref, o.offer(t, ref, steal))
	plain := forked("refs/pull/8/head", o.offer(t, "refs/pull/8/head", map[string]string{"more": "text\n"}))
	plain.Change = "8"
	own := find(o.commit(t, "find", steal))
	own.Change = "9"
	options := builder.Options{SecretsDir: secretsOfShop(t, map[string]string{"proxy": "hunter2"}), Isolation: executor.None, Data: t.TempDir()}
	s := newShift(t, options, project(o))
	const why = "steal: secret:proxy is not given: secrets of steps are not given to changes from forks"
	if got := s.pipeline(t, m); got.Outcome != events.Failure || !has(got.Errors, why) || !has(got.Errors, ref) {
		t.Errorf("%s: %s", got.Outcome, got.Errors)
	}
	for number, d := range []events.RunDetail{
		{Changes: []events.MergeDetail{plain, own}},
		{Assumed: []events.MergeDetail{plain}, Changes: []events.MergeDetail{own}},
	} {
		name := [...]string{"tested together", "assumed"}[number]
		d.Merge.Repository = "api"
		s.meet(events.Event{Project: "shop", Kind: events.Stated, Type: events.TypeOf(events.QueuePlanned{}), Key: "api",
			Content: events.QueuePlanned{Repository: "api", Begun: []events.QueueRun{{Number: number + 1, Assumed: d.Assumed, Changes: d.Changes}}}})
		got, err := s.work(t, "pipeline", "api@"+strconv.Itoa(number+1), 1, events.PipelineRunQueued{PipelineName: "merge", Lemnis: d})
		if end, is := got.(events.PipelineRunFinished); err != nil || !is || end.Outcome != events.Failure || !has(end.Errors, why) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if got := s.pipeline(t, own); got.Outcome != events.Success {
		t.Errorf("the repository's own: %s: %s", got.Outcome, got.Errors)
	}
}

// What a fork's run made and left is no one's: once merged, its commit is built anew, as the master copy, with the secrets of its steps.
func TestMergedForkIsBuiltAnew(t *testing.T) {
	t.Parallel()
	const ref = "refs/pull/7/head"
	o := forkOrigin(t, false)
	steps := "steps:\n  - {name: make, run: 'mkdir -p bin && printf \"#!/bin/sh\\n\" >bin/api && chmod +x bin/api && echo >>COUNT', outputs: [bin/api]}\n"
	pipeline := strings.Replace(steps, "COUNT", filepath.Join(t.TempDir(), "count"), 1) + "package: {executable: bin/api}\n"
	m := forked(ref, o.offer(t, ref, map[string]string{".lemnis.yaml": pipeline}))
	options := builder.Options{SecretsDir: secretsOfShop(t, map[string]string{"proxy": "hunter2"}), Isolation: executor.None, Data: t.TempDir(), Registry: ociRegistry(t)}
	s := newShift(t, options, project(o))
	build := func(m events.MergeDetail) events.BuildDetail {
		t.Helper()
		got, err := s.work(t, "package", "7", 1, events.BuildQueued{Lemnis: events.BuildDetail{Service: "api", Merge: m}})
		end, is := got.(events.BuildFinished)
		if err != nil || !is {
			t.Fatalf("%+v, %v", got, err)
		}
		return end.Lemnis
	}
	got := s.pipeline(t, m)
	if got.Outcome != events.Success {
		t.Fatal(got.Errors)
	}
	if again := s.pipeline(t, m); again.Outcome != events.Success || strings.Join(again.Lemnis.Merge.Evidence.Reused, " ") != "make" {
		t.Fatalf("the fork's own results: %s, %+v", again.Errors, again.Lemnis.Merge.Evidence)
	}
	if end, err := s.work(t, "merge", "7", 1, events.QueueTested{Merge: got.Lemnis.Merge}); err != nil {
		t.Fatalf("%+v, %v", end, err)
	}
	merged := got.Lemnis.Merge
	merged.Evidence = nil
	d := build(merged)
	if d.Outcome != events.Success || d.Merge.Evidence == nil || len(d.Merge.Evidence.Reused) > 0 {
		t.Errorf("%s: %s, %+v", d.Outcome, d.Reason, d.Merge.Evidence)
	}
	secret := strings.Replace(pipeline, "outputs", "secrets: {X: 'secret:proxy'}, outputs", 1)
	other := forked(ref, o.offer(t, ref, map[string]string{".lemnis.yaml": secret}))
	other.Commit, other.Onto = other.Head, o.head(t, "main")
	if d := build(other); d.Outcome != events.Failure || !has(d.Reason, "not given to changes from forks") {
		t.Errorf("not merged: %s: %s", d.Outcome, d.Reason)
	}
	o.git(t, "", "update-ref", "refs/heads/main", other.Head)
	if d := build(other); d.Outcome != events.Success {
		t.Errorf("merged: %s: %s", d.Outcome, d.Reason)
	}
}

// As a forge tells of them: one that is merged, one whose fork is pushed to by force before it is approved, and one that is closed.
func TestForksFromClaimToMerge(t *testing.T) {
	t.Parallel()
	for name, far := range far {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := forkOrigin(t, far)
			c := newCrew(t, builder.Options{Data: t.TempDir(), Isolation: executor.None}, project(o))
			ref := func(id string) string { return "refs/pull/" + id + "/head" }
			say := func(id string, content any) {
				c.stream.Add(events.Event{Kind: events.Claim, Key: id, Principal: "webhook-github", Chain: "chain of " + id, Content: content})
			}
			propose := func(id string) string {
				head := o.offer(t, ref(id), map[string]string{"of" + id: "text\n"})
				say(id, events.ChangeCreated{Lemnis: events.ChangeDetail{Repository: "api", Title: "Change " + id, Branch: "mallory:main", Ref: ref(id), Head: head, Author: "mallory"}})
				return head
			}
			say("7", approved("bo", propose("7")))
			say("8", approved("bo", propose("8")))
			second := o.offer(t, ref("8"), map[string]string{"of8": "other\n"})
			say("8", events.ChangeUpdated{Lemnis: events.ChangeDetail{Branch: "mallory:main", Ref: ref("8"), Head: second, Author: "mallory"}})
			say("8", approved("bo", second))
			begun, over := filepath.Join(t.TempDir(), "begun"), filepath.Join(t.TempDir(), "over")
			slow := o.offer(t, ref("9"), map[string]string{".lemnis.yaml": fmt.Sprintf("steps: [{name: test, run: 'touch %s; until test -e %s; do sleep 0.05; done'}]\n", begun, over)})
			say("9", events.ChangeCreated{Lemnis: events.ChangeDetail{Repository: "api", Title: "Change 9", Branch: "mallory:main", Ref: ref("9"), Head: slow, Author: "mallory"}})
			say("9", approved("bo", slow))
			go func() {
				poll := time.NewTicker(20 * time.Millisecond)
				defer poll.Stop()
				for until := time.Now().Add(time.Minute); time.Now().Before(until); <-poll.C {
					if _, err := os.Stat(begun); err == nil {
						break
					}
				}
				c.say(events.Event{Kind: events.Claim, Phase: events.Develop, Key: "9", Principal: "webhook-github", Chain: "chain of 9", Content: events.ChangeAbandoned{}})
				_ = os.WriteFile(over, nil, 0o600)
			}()
			c.settle()
			merged, left := map[string]string{}, map[string]string{}
			for _, e := range c.stream.Events {
				switch f := e.Content.(type) {
				case events.ChangeMerged:
					if e.Kind == events.Stated {
						merged[e.Key] = f.Lemnis.Head
					}
				case events.QueueEjected:
					if e.Kind == events.Stated {
						left[e.Key] = f.Reason
					}
				case events.ClaimRefused:
					t.Errorf("%s: %s", e.Key, f.Reason)
				}
			}
			if merged["7"] == "" || merged["8"] != second || merged["9"] != "" || left["7"] != "" || !has(left["9"], "abandoned") {
				t.Errorf("merged %v, left %v", merged, left)
			}
		})
	}
}
