// Package mergequeue decides what is built next, on what, and what may become the master copy.
//
// Changes whose affected packages overlap stand in one lane, in order; lanes do not wait for each other and share the slots.
// What is built is a unit, one change or a batch, on the master copy together with the units that are assumed to be in it by
// then. Builds are started best first: those that are sure to be needed (P ≥ 0.99) in every lane, the oldest lane first, then
// those with P ≥ 0.5, 0.25 and 0.1. Batches grow with what waits for a slot, and end before they are likelier to fail than is
// worth it. A unit that fails is halved; when one half passes the other is known to fail, and is not built to find that out.
//
// Everything that happens to a [Queue] is a [Step]. [Queue.Plan] says what follows from where it stands, as steps that are applied;
// whoever keeps the steps can fold the queue again, also when later code would plan otherwise.
package mergequeue
