// Package pipeline runs what a definition says is done with a checkout, and tells what came of it: which steps succeeded,
// which test cases passed, how much of the code they cover, and the one file that was packaged, with its digest.
//
//	report, err := pipeline.Run(ctx, pipeline.Spec{Dir: "checkout", Output: "out", Host: executor.NewProcess(executor.Auto)})
//	report.Succeeded()   // every step did
//	report.Failed()      // the step to show, where one did not
//	report.Tests         // one entry a test case
//	report.Digest        // sha256:… of report.Executable
//
// That the project is broken is a result, not an error: the step's Outcome is Failure, with a Cause for programs and a Reason
// for people. Run returns an error only when the machinery failed (no disk, cancelled), and says in the report how far it came.
//
// Steps run as soon as what they need has succeeded, as many at once as there are processors. What needs a step that failed is
// not run; the others go on. All steps of a run share one checkout. A step that failed is tried again as often as it says.
//
// What Run reads of the checkout after a step, it reads through [os.Root]: a link that a step left does not lead out of it.
package pipeline
