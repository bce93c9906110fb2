// Package change decides on proposed changes: which head is up for review, what reviewers said of
// it, and when it may be integrated.
//
// A review counts for the head that it was made of. A new head starts again at nothing, and who
// wrote any part of a change does not review it. A reviewer's latest word counts; while one of
// them asks for changes, nothing is verified.
package change
