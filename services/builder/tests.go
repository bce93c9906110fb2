package builder

import (
	"cmp"
	"encoding/json"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/lemnis/lemnis/internal/testhistory"
	"github.com/lemnis/lemnis/pkg/events"

	"github.com/lemnis/lemnis/internal/testreport"
	"github.com/lemnis/lemnis/services/builder/pipeline"
)

// mostTold is how many test cases the end of a run lists.
const mostTold = 1000

// mostName is how long a test case's name is there, in bytes; others are not listed.
const mostName = 300

// told lists the test cases that ran, as the end of a run says them. What fails and does not count has failed all the same. Of a step whose
// result was taken from an earlier run none did. Flaky are those that failed before, on the same commit.
func told(report pipeline.Report, flaky []string) (tests []events.TestCase, more int) {
	at, quarantined, before := map[string]int{}, set(report.Quarantined), set(flaky)
	for _, c := range report.Tests {
		name := pipeline.FullName(c)
		t := events.TestCase{Name: name, Seconds: math.Round(1000*c.Elapsed.Seconds()) / 1000}
		spared := quarantined[name]
		switch {
		case c.Reused, c.Outcome == testreport.Skipped && !spared:
			continue
		case len(name) > mostName:
			more++
			continue
		case c.Outcome == testreport.Failed || spared:
			t.Outcome = events.TestFailed
		case c.Flaky || before[name]:
			t.Outcome = events.TestFlaky
		}
		i, there := at[name]
		if !there {
			at[name] = len(tests)
			tests = append(tests, t)
			continue
		}
		// More than one task ran it: a failure counts for more than what passed.
		if worse(t) < worse(tests[i]) {
			tests[i].Outcome = t.Outcome
		}
		tests[i].Seconds = max(tests[i].Seconds, t.Seconds)
	}
	slices.SortStableFunc(tests, func(a, b events.TestCase) int {
		return cmp.Or(cmp.Compare(worse(a), worse(b)), cmp.Compare(b.Seconds, a.Seconds), strings.Compare(a.Name, b.Name))
	})
	if n := len(tests); n > mostTold {
		tests, more = tests[:mostTold:mostTold], more+n-mostTold
	}
	return tests, more
}

func set(names []string) map[string]bool {
	all := make(map[string]bool, len(names))
	for _, name := range names {
		all[name] = true
	}
	return all
}

func worse(t events.TestCase) int {
	return slices.Index([]string{events.TestFailed, events.TestFlaky, ""}, t.Outcome)
}

// tests is the read model of the history of test cases. Of it depends only how often a failing test is tried.
type tests struct {
	mu       sync.Mutex
	projects map[string]*testhistory.History
}

func newTests() *tests { return &tests{projects: map[string]*testhistory.History{}} }

func (t *tests) apply(e events.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.projects[e.Project] == nil {
		t.projects[e.Project] = &testhistory.History{}
	}
	t.projects[e.Project].Apply(e)
}

// flaky reports whether a test case failed and passed on one commit before.
func (t *tests) flaky(project, repository, name string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.projects[project]
	if h == nil {
		return false
	}
	c, _ := h.Case(repository, name)
	return c.Flaky > 0
}

// savedTests are those of a project as a snapshot has them.
type savedTests struct {
	Project string             `json:"project"`
	Runs    int                `json:"runs"`
	Cases   []testhistory.Case `json:"cases"`
}

func (t *tests) save() ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := []savedTests{}
	for name, h := range t.projects {
		all = append(all, savedTests{Project: name, Runs: h.Runs, Cases: h.Cases()})
	}
	return json.Marshal(all)
}

func (t *tests) load(text []byte) error {
	var all []savedTests
	if err := json.Unmarshal(text, &all); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.projects)
	for _, s := range all {
		h := &testhistory.History{}
		h.Load(s.Runs, s.Cases)
		t.projects[s.Project] = h
	}
	return nil
}
