// Package queue decides what is built next of the changes that wait to become part of a repository's master copy, and
// which of them do. It asks mergequeue, and adds what that leaves to the world: the commits.
//
// A run tests a train, changes merged one upon the other. What mergequeue lets land was tested upon the master copy and the
// changes that it overlaps with; others may have landed since. So a train becomes the master copy only from the very commit
// that it was built on. Where that is not the master copy any more, all that is to land is tested together on its tip first,
// in a run that confirms it; what fails there alone has failed after all.
package queue
