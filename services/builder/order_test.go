package builder_test

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/lemnis/lemnis/pkg/events"
)

// model is a repository host and the workers, in memory: they do what the effects do, and die,
// repeat themselves and come late as rapid likes.
type model struct {
	*world
	master  []string          // commits of the master copy, oldest first
	tested  map[string]string // merge commit that passed, to the commit that it was tested on
	jobs    []*job
	late    []func() // results of workers that were given up as dead
	claims  []events.Event
	scanned int
}

type job struct {
	fact    events.Event
	attempt uint64
}

func (m *model) tip() string { return m.master[len(m.master)-1] }

// hire turns facts that ask for work into jobs.
func (m *model) hire() {
	for ; m.scanned < len(m.log); m.scanned++ {
		e := m.log[m.scanned]
		if e.Kind != events.Stated {
			continue
		}
		switch e.Content.(type) {
		case events.PipelineRunQueued, events.QueueTested, events.BuildQueued:
			m.jobs = append(m.jobs, &job{fact: e})
		}
	}
}

func merged(onto, head string) string {
	sum := sha1.Sum([]byte(onto + head))
	return hex.EncodeToString(sum[:])
}

// work does a job once more and returns the results that it would report, in order.
func (m *model) work(t *rapid.T, j *job) []any {
	j.attempt++
	switch c := j.fact.Content.(type) {
	case events.PipelineRunQueued:
		d := c.Lemnis.Merge
		d.Onto = m.tip()
		d.Commit = merged(d.Onto, d.Head)
		end := events.PipelineRunFinished{Outcome: events.Failure, Errors: "test: 1 failed: TestFind"}
		if _, before := m.tested[d.Commit]; before || rapid.IntRange(0, 3).Draw(t, "green") > 0 {
			m.tested[d.Commit] = d.Onto
			end.Outcome, end.Errors = events.Success, ""
		}
		end.Lemnis.Merge = d
		return []any{events.PipelineRunStarted{Lemnis: c.Lemnis}, end}
	case events.QueueTested:
		d := c.Merge
		switch {
		case slices.Contains(m.master, d.Commit):
		case m.tip() != d.Onto:
			return []any{events.QueueEntered{Merge: d, Reason: "moved"}}
		default:
			if onto, ok := m.tested[d.Commit]; !ok || onto != m.tip() {
				t.Fatalf("the master copy would move from %s to %s, which was not tested on it", m.tip(), d.Commit)
			}
			m.master = append(m.master, d.Commit)
		}
		return []any{events.ChangeMerged{Lemnis: d}}
	case events.BuildQueued:
		d := c.Lemnis
		d.Outcome, d.Digest = events.Success, "sha256:"+fmt.Sprintf("%064x", d.Merge.Commit)[:64]
		return []any{events.BuildStarted(c), events.BuildFinished{ArtifactID: purl(d.Merge.Commit), Lemnis: d}}
	}
	return nil
}

func purl(word string) string {
	return "pkg:oci/api@sha256%3A" + fmt.Sprintf("%064x", word)[:64] + "?repository_url=127.0.0.1:1/shop/api"
}

// perform lets a worker take a job; it may die before or between its reports, with its work done.
func (m *model) perform(t *rapid.T, crashes bool) {
	m.hire()
	if len(m.jobs) == 0 {
		return
	}
	i := rapid.IntRange(0, len(m.jobs)-1).Draw(t, "job")
	j := m.jobs[i]
	results := m.work(t, j)
	key, attempt := j.fact.Key, j.attempt
	reach := len(results) + 1 // all reports, and the acknowledgement
	if crashes {
		reach = rapid.IntRange(0, len(results)+1).Draw(t, "reach")
	}
	for _, r := range results[:min(reach, len(results))] {
		m.result(key, attempt, r)
	}
	if reach < len(results) && rapid.Bool().Draw(t, "late") {
		// Not dead but slow: what it found still comes, after another has taken the job.
		for _, r := range results[reach:] {
			m.late = append(m.late, func() { m.result(key, attempt, r) })
		}
	}
	if reach > len(results) {
		m.jobs = slices.Delete(m.jobs, i, i+1)
	}
}

// stray puts a result on the stream that no worker owes: one that came before, or nonsense.
func (m *model) stray(t *rapid.T) {
	var old []events.Event
	for _, e := range m.log {
		if e.Kind == events.Result {
			old = append(old, e)
		}
	}
	if len(old) == 0 {
		return
	}
	e := rapid.SampledFrom(old).Draw(t, "old")
	if c, ok := e.Content.(events.ChangeMerged); ok && rapid.Bool().Draw(t, "nonsense") {
		c.Lemnis.Commit = commit("nonsense")
		e.Content = c
	}
	m.result(e.Key, e.Attempt, e.Content)
}

func (m *model) say(t *rapid.T, heads *int) {
	id := rapid.SampledFrom([]string{"7", "8", "9"}).Draw(t, "change")
	head := func() string { *heads++; return commit(fmt.Sprintf("head %d", *heads)) }
	d := events.MergeDetail{Change: id, Repository: "api", Head: commit("x"), Onto: m.tip(), Commit: commit("untested"), Round: 1}
	var content any
	switch rapid.IntRange(0, 9).Draw(t, "say") {
	case 0, 1, 2:
		content = proposed(head())
	case 3, 4, 5:
		content = approved(rapid.SampledFrom([]string{"bo", "bo", "cy", "dan", "ann", ""}).Draw(t, "reviewer"), "")
	case 6:
		content = events.ChangeUpdated{Lemnis: events.ChangeDetail{Head: head()}}
	case 7:
		content = events.ChangeReviewed{Lemnis: events.Review{Reviewer: "bo", Verdict: events.ChangesRequested}}
	case 8:
		content = events.ChangeAbandoned{}
	case 9:
		content = rapid.SampledFrom([]any{
			events.ChangeMerged{Lemnis: d}, events.QueueTested{Merge: d, Run: "x"}, events.QueueEntered{Merge: d},
			events.ChangeVerified{ID: id, Change: events.ChangeDetail{Repository: "api", Head: commit("x")}},
			events.PipelineRunFinished{Outcome: events.Success, Lemnis: events.RunDetail{Merge: d}},
		}).Draw(t, "lie")
	}
	m.claims = append(m.claims, m.claim(id, content))
}

// The master copy never moves to an untested merge, whatever the order in which people speak,
// workers die and repeat themselves, and others push; and what it moved to is a fact, once.
func TestMasterMovesOnlyToWhatWasTested(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{world: newWorld(shop(1)), master: []string{commit("start")}, tested: map[string]string{}}
		heads := 0
		for range rapid.IntRange(10, 200).Draw(t, "steps") {
			switch rapid.IntRange(0, 10).Draw(t, "do") {
			case 0, 1:
				m.say(t, &heads)
			case 2, 3, 4:
				m.perform(t, true)
			case 5:
				if len(m.late) > 0 {
					i := rapid.IntRange(0, len(m.late)-1).Draw(t, "which")
					m.late[i]()
				}
			case 6:
				if rapid.IntRange(0, 3).Draw(t, "push") == 0 {
					m.master = append(m.master, commit(fmt.Sprintf("pushed %d", len(m.master))))
				}
			case 7:
				if rapid.IntRange(0, 3).Draw(t, "stray") == 0 {
					m.stray(t)
				}
			default:
				m.step()
			}
		}
		// Nobody dies any more: everything comes to an end.
		for range 1000 {
			m.settle()
			if m.hire(); len(m.jobs) == 0 {
				break
			}
			m.perform(t, false)
		}
		if len(m.jobs) > 0 {
			t.Fatalf("%d jobs never end", len(m.jobs))
		}
		for _, late := range m.late {
			late()
		}
		for range rapid.IntRange(0, 8).Draw(t, "strays") {
			m.stray(t)
		}
		m.settle()
		m.judge(t)
	})
}

func (m *model) judge(t *rapid.T) {
	mergedFacts, testedFacts := map[string]int{}, map[string]int{}
	answers := map[uint64]int{}
	published := 0
	waiting := map[string]bool{}
	rounds, ends := map[string]int{}, map[string]int{}
	for _, e := range m.log {
		if e.Kind != events.Stated {
			continue
		}
		answers[e.CauseSequence]++
		switch c := e.Content.(type) {
		case events.QueueEntered:
			waiting[e.Key] = true
			if rounds[e.Key]++; c.Merge.Round != rounds[e.Key] {
				t.Fatalf("change %s: round %d comes after %d", e.Key, c.Merge.Round, rounds[e.Key]-1)
			}
		case events.PipelineRunFinished, events.BuildFinished, events.BuildQueued:
			if ends[string(e.Type)+e.Key]++; ends[string(e.Type)+e.Key] > 1 {
				t.Fatalf("%s of %s is stated twice", e.Type.Short(), e.Key)
			}
		case events.QueueTested:
			testedFacts[c.Merge.Commit]++
			if m.tested[c.Merge.Commit] != c.Merge.Onto {
				t.Fatalf("fact %s says that %s was tested", e.ID, c.Merge.Commit)
			}
		case events.QueueEjected:
			waiting[e.Key] = false
		case events.ChangeMerged:
			if c.Lemnis.Round == rounds[e.Key] {
				waiting[e.Key] = false // a later round goes on
			}
			if mergedFacts[c.Lemnis.Commit]++; testedFacts[c.Lemnis.Commit] == 0 {
				t.Fatalf("fact %s says that the untested %s was merged", e.ID, c.Lemnis.Commit)
			}
		case events.ArtifactPublished:
			published++
		}
	}
	for _, c := range m.master[1:] {
		if _, ours := m.tested[c]; ours && mergedFacts[c] != 1 {
			t.Fatalf("the master copy holds %s; %d facts say so", c, mergedFacts[c])
		}
	}
	for c := range mergedFacts {
		if !slices.Contains(m.master, c) {
			t.Fatalf("a fact says that %s was merged; the master copy does not hold it", c)
		}
	}
	for change, still := range waiting {
		if still {
			t.Fatalf("change %s waits for ever", change)
		}
	}
	if published != len(mergedFacts) {
		t.Fatalf("%d merges, %d artifacts published", len(mergedFacts), published)
	}
	for _, c := range m.claims {
		if answers[c.Sequence] != 1 {
			t.Fatalf("claim %s has %d answers", c.Type.Short(), answers[c.Sequence])
		}
	}
}
