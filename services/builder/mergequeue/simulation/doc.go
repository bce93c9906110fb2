// Package simulation plays merge queues against each other: Lemnis's, and models of bors, Zuul and a speculation tree, on the
// same changes, at the same slots.
//
// The world: changes come at random (Poisson) at a rate per build time; a build takes one build time. A change is bad by itself with
// the row's probability. Each touches two packages, chosen so that the wanted share of all pairs overlap; of the pairs that
// overlap so many conflict that 0.5 % of all pairs do: each passes by itself and main breaks with both. Two changes can conflict
// when one was merged after the other had come, and when no more than 20 others came between them: who waits longer brings his change up to
// date, or no queue with a backlog would merge anything. No policy is told which changes are bad: each predicts the rates of the row.
//
// Means are of what was merged until the last change came, and builds are those that were begun until then, stopped or not: a queue with a
// growing backlog would else be judged by how long it takes to empty. The models come near the published figures of their tools
// with these rules; docs/queue.md has both.
//
// lanes plays the rules alone, which are told the rates and let land at once what does not overlap; whole plays the builder's queue around them, which
// learns, and confirms on the tip what others overtook.
//
// A flaky test fails a build that is good. Who runs the failing tests again on the same commit pays a tenth of a build for each
// time. What fails every time is a failure.
package simulation
