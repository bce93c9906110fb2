// Package pipeline turns the checkout of a Go project into facts that can be stated about it: does
// it compile, which test cases passed, how much of it do they cover, and the one static executable
// that it packages to, with its digest.
//
//	report, err := pipeline.Run(ctx, pipeline.Spec{Dir: "checkout", Output: "out"})
//	report.Succeeded()   // every step did
//	report.Steps         // detect, compile, test, package: those that ran
//	report.Tests         // one entry a test case
//	report.Digest        // sha256:… of report.Executable
//
// That the project is broken is a result, not an error: the step's Outcome is Failure, with a Cause
// for programs and a Reason for people. Run returns an error only when the machinery failed (no go
// command, no disk, cancelled), and says in the report how far it came.
//
// Commands run in a process group of their own, killed whole at the end, with an environment that
// holds none of the host's variables but PATH and what Go needs for modules. Modules and the build
// cache are the host's, so that the second build is fast; go.mod is read only. This keeps builds
// alike, not apart: a project's tests run with the builder's rights, and whoever builds the code of
// strangers runs the builder itself in a container.
//
// The same commit gives the same bytes: no cgo, trimmed paths, no version control stamp, no symbol
// table. Tests run with -count=1, so that a result is of this run.
package pipeline
