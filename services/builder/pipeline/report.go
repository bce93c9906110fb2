package pipeline

import (
	"time"
)

// Outcome is how a step ended, in the words of CDEvents.
type Outcome string

// A step's outcomes: the project is fine, the project is not, the machinery failed.
const (
	Success Outcome = "success"
	Failure Outcome = "failure"
	Error   Outcome = "error"
)

// The steps, in order. A step that fails is the last one.
const (
	StepDetect  = "detect"
	StepCompile = "compile"
	StepTest    = "test"
	StepPackage = "package"
)

// Cause says, for programs, why a step did not succeed.
type Cause string

// The causes; on success there is none.
const (
	CauseNoModule    Cause = "no-module"    // no go.mod at the root of the checkout
	CauseBadModule   Cause = "bad-module"   // the go command cannot read the module
	CauseNoMain      Cause = "no-main"      // the module has no main package, or not the one asked for
	CauseManyMains   Cause = "many-mains"   // several main packages and none was chosen
	CauseCompile     Cause = "compile"      // go build failed
	CauseTests       Cause = "tests"        // a test failed, or a package of tests did not build
	CauseTimeLimit   Cause = "time-limit"   // Spec.TimeLimit passed
	CauseOutputLimit Cause = "output-limit" // Spec.LogLimit passed
	CauseMachinery   Cause = "machinery"    // Run returned an error
	CauseCancelled   Cause = "cancelled"    // the context ended
)

// Step is one step that ran.
type Step struct {
	Name     string
	Outcome  Outcome
	Cause    Cause  // empty on success
	Reason   string // for people, a few lines at most; empty on success
	Started  time.Time
	Finished time.Time
}

// TestOutcome is how a test case ended.
type TestOutcome string

// A test case's outcomes, in the words of go test -json.
const (
	Passed  TestOutcome = "pass"
	Failed  TestOutcome = "fail"
	Skipped TestOutcome = "skip"
)

// TestCase is one test function or subtest (Name "TestSearch/empty").
type TestCase struct {
	Package string
	Name    string
	Outcome TestOutcome
	Elapsed time.Duration
}

// Report is what one run found.
type Report struct {
	Module string // module path, from go.mod
	Main   string // import path of the package that was packaged; empty when there is none

	Steps []Step
	Tests []TestCase

	Coverage   float64 // percent of statements that the tests ran, 0 to 100
	Statements int     // that Coverage is a part of; 0: nothing was measured
	Profile    string  // path of the cover profile; empty when there is none

	Executable string // path of the packaged file; empty when it was not packaged
	Digest     string // sha256:<hex> of it
	Size       int64  // its bytes

	LogFile   string // what the commands printed
	LogDigest string // sha256:<hex> of it
	LogSize   int64  // its bytes
	LogTail   string // its last Spec.TailBytes
}

// Succeeded says whether every step ran and succeeded.
func (r Report) Succeeded() bool {
	last := r.Last()
	return last.Name == StepPackage && last.Outcome == Success
}

// Last returns the step that ran last: the one that failed, if one did.
func (r Report) Last() Step {
	if len(r.Steps) == 0 {
		return Step{}
	}
	return r.Steps[len(r.Steps)-1]
}

// Count returns how many test cases ended in the given way.
func (r Report) Count(outcome TestOutcome) int {
	n := 0
	for _, t := range r.Tests {
		if t.Outcome == outcome {
			n++
		}
	}
	return n
}
