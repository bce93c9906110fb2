// Package testhistory folds what pipeline runs say of their test cases into a history of each: how often it ran, failed, and did both on
// one commit.
package testhistory

import (
	"cmp"
	"slices"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
)

const (
	// Most is how many cases are known of one history; those that ran longest ago give way.
	Most = 5000
	// Kept is how many results are known of a case.
	Kept = 10
)

// Case is the history of a test case.
type Case struct {
	Repository string   `json:"repository"`
	Name       string   `json:"name"`              // with its suite
	Runs       int      `json:"runs"`              // in which it ran
	Failures   int      `json:"failures"`          // runs in which it failed, and did not pass when it was run again
	Flaky      int      `json:"flaky"`             // commits on which it failed and passed, in one run or in several
	Seconds    float64  `json:"seconds"`           // that it takes: median of the last results that say so; 0 when none does
	Outcome    string   `json:"outcome"`           // of the last run
	Last       []Result `json:"results,omitempty"` // the last ones, oldest first
}

// Result is how a case ended in a run.
type Result struct {
	Run     string    `json:"run"`
	Commit  string    `json:"commit"`
	At      time.Time `json:"at"`
	Outcome string    `json:"outcome"` // pass, or one of events.TestFailed and TestFlaky
	Seconds float64   `json:"seconds,omitempty"`
}

const passed = "pass"

// Failing reports whether the case failed when it ran last.
func (c Case) Failing() bool {
	return len(c.Last) > 0 && c.Last[len(c.Last)-1].Outcome == events.TestFailed
}

type place struct{ repository, name string }

// History is of the test cases of a project. The zero value is empty.
type History struct {
	Runs  int // that said something of a test case
	cases map[place]*Case
}

// Apply takes in a fact: the end of a pipeline run. Others say nothing.
func (h *History) Apply(e events.Event) {
	c, is := e.Content.(events.PipelineRunFinished)
	if !is || len(c.Lemnis.Tests) == 0 {
		return
	}
	if h.cases == nil {
		h.cases = map[place]*Case{}
	}
	h.Runs++
	m := c.Lemnis.Merge
	for _, t := range c.Lemnis.Tests {
		at := place{m.Repository, t.Name}
		one := h.cases[at]
		if one == nil {
			one = &Case{Repository: m.Repository, Name: t.Name}
			h.cases[at] = one
		}
		one.add(Result{Run: e.Key, Commit: m.Commit, At: e.Stored, Outcome: cmp.Or(t.Outcome, passed), Seconds: t.Seconds})
	}
	if len(h.cases) > Most {
		h.forget()
	}
}

// forget lets those go that ran longest ago, some more than is needed, so that it is not done for each run.
func (h *History) forget() {
	all := h.Cases()
	slices.SortFunc(all, func(a, b Case) int { return a.Last[len(a.Last)-1].At.Compare(b.Last[len(b.Last)-1].At) })
	for _, c := range all[:len(all)-Most*9/10] {
		delete(h.cases, place{c.Repository, c.Name})
	}
}

func (c *Case) add(r Result) {
	known := c.flakyOn(r.Commit)
	c.Last = append(c.Last, r)
	c.Runs++
	if r.Outcome == events.TestFailed {
		c.Failures++
	}
	if !known && c.flakyOn(r.Commit) {
		c.Flaky++
	}
	if n := len(c.Last) - Kept; n > 0 {
		c.Last = slices.Delete(c.Last, 0, n)
	}
}

// flakyOn reports whether the case failed and passed on a commit.
func (c *Case) flakyOn(commit string) bool {
	var pass, fail bool
	for _, r := range c.Last {
		if commit == "" || r.Commit != commit {
			continue
		}
		pass = pass || r.Outcome != events.TestFailed
		fail = fail || r.Outcome != passed
	}
	return pass && fail
}

// Case is the history of one case, with its last results.
func (h *History) Case(repository, name string) (Case, bool) {
	c := h.cases[place{repository, name}]
	if c == nil {
		return Case{}, false
	}
	return c.told(), true
}

// Cases are the histories of all: the flaky ones first, then those that failed, then the slow ones.
func (h *History) Cases() []Case {
	all := make([]Case, 0, len(h.cases))
	for _, c := range h.cases {
		all = append(all, c.told())
	}
	slices.SortFunc(all, func(a, b Case) int {
		return cmp.Or(cmp.Compare(b.Flaky, a.Flaky), cmp.Compare(b.Failures, a.Failures), cmp.Compare(b.Seconds, a.Seconds),
			cmp.Compare(a.Repository, b.Repository), cmp.Compare(a.Name, b.Name))
	})
	return all
}

// Load makes the history one of these cases.
func (h *History) Load(runs int, all []Case) {
	h.Runs, h.cases = runs, map[place]*Case{}
	for _, c := range all {
		if len(c.Last) > 0 {
			h.cases[place{c.Repository, c.Name}] = &c
		}
	}
}

// told is the case with the time that it takes.
func (c *Case) told() Case {
	out := *c
	var all []float64
	for _, r := range c.Last {
		if r.Seconds > 0 {
			all = append(all, r.Seconds)
		}
	}
	if out.Seconds = 0; len(all) > 0 {
		slices.Sort(all)
		out.Seconds = all[len(all)/2]
	}
	out.Outcome, out.Last = c.Last[len(c.Last)-1].Outcome, slices.Clone(c.Last)
	return out
}
