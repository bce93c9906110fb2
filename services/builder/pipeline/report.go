package pipeline

import (
	"cmp"
	"maps"
	"time"

	"github.com/lemnis/lemnis/internal/executor"
	"github.com/lemnis/lemnis/internal/testreport"
	"github.com/lemnis/lemnis/services/builder/coverage"
)

// Outcome is how a step ended, in the words of CDEvents.
type Outcome string

// A step's outcomes: the project is fine, the project is not, the machinery failed; or it was not run.
const (
	Success Outcome = "success"
	Failure Outcome = "failure"
	Error   Outcome = "error"
	Skipped Outcome = "skipped" // what it needs did not succeed
)

// Cause says, for programs, why a step did not succeed: one of the executor's, or one of these.
type Cause = executor.Cause

// The causes beside those of the executor.
const (
	CauseDefinition Cause = "definition" // there is no pipeline, or it is wrong
	CauseTests      Cause = "tests"      // a test case failed
	CauseSecret     Cause = "secret"     // a secret that it names is not there
	CauseFiles      Cause = "files"      // what was left in the checkout can not be removed
	CausePackage    Cause = "package"    // what is to be packaged is not there
	CauseMachinery  Cause = "machinery"  // Run returned an error
	CauseCancelled  Cause = "cancelled"  // the context ended
)

// The steps that are nobody's: they are in the report only where they failed, or built an image.
const (
	StepDefinition = "definition"
	StepPackage    = "packaging"
)

// Step is one task of the pipeline: a step with one choice of its matrix.
type Step struct {
	Name     string
	Outcome  Outcome
	Cause    Cause  // empty on success
	Reason   string // for people, a few lines at most; empty on success
	Attempts int    // how often it was run; 0: not at all
	Reused   string // the run whose result was taken; empty: none was
	Started  time.Time
	Finished time.Time
}

// Report is what one run found.
type Report struct {
	Found []string // where the pipeline comes from
	Steps []Step   // in the order in which they ended
	Tests []testreport.Case

	Quarantined []string // test cases that failed, and are taken for skipped

	Coverage   float64 // percent of statements (of other languages, lines) that the tests ran, 0 to 100
	Statements int     // that Coverage is a part of; 0: nothing was measured

	Profile coverage.Profile // what Coverage is of

	Modules []string // folders with the sources of Go modules that steps had, beside the host's

	Executable string // path of the packaged file; empty when none is
	Image      string // path of the packaged image, an archive as package image writes it; empty when none is
	Digest     string // sha256:<hex> of the executable; of an image its ID
	Size       int64  // bytes; of an image, of its configuration and layers

	Images map[string]string // digests of the images that steps and services ran in, and of Bases, by name; nil: none
	Bases  map[string]string // digests of the images that Image is made of, by name

	Unisolated string // why steps had our rights and view of the machine; empty: they had not

	LogFile   string // what the commands printed
	LogDigest string // sha256:<hex> of it
	LogSize   int64  // its bytes
	LogTail   string // its last Spec.TailBytes

	Fresh Fresh // what others may take of it
}

func (r *Report) use(images map[string]string) {
	if r.Images == nil && len(images) > 0 {
		r.Images = map[string]string{}
	}
	maps.Copy(r.Images, images)
}

// Succeeded says whether every step did.
func (r Report) Succeeded() bool {
	_, failed := r.Failed()
	return !failed && len(r.Steps) > 0
}

// Failed returns the step that failed first, if one did.
func (r Report) Failed() (Step, bool) {
	for _, s := range r.Steps {
		if s.Outcome == Failure || s.Outcome == Error {
			return s, true
		}
	}
	return Step{}, false
}

// Packaged is the path of what is packaged; empty when nothing is.
func (r Report) Packaged() string { return cmp.Or(r.Executable, r.Image) }

// Reused names the steps that were not run since an earlier run had their result.
func (r Report) Reused() (names []string) {
	for _, s := range r.Steps {
		if s.Reused != "" {
			names = append(names, s.Name)
		}
	}
	return names
}

// Count returns how many test cases ended in the given way.
func (r Report) Count(outcome testreport.Outcome) int {
	n := 0
	for _, t := range r.Tests {
		if t.Outcome == outcome {
			n++
		}
	}
	return n
}
