// Package builder does the phases develop and integrate: it takes changes from people and tools,
// lets them through review, merges each into the one master copy that is always green, packages
// what was merged into a single executable, or an image, and puts it into the binary repository.
//
// Develop: changes, reviews, branches and inner loops are claimed; the service answers each with
// a fact or a refusal, and states when a change is verified. Integrate: a verified change enters
// the queue; the effect pipeline merges it on the master copy as it stands, compiles and tests the
// result; the effect merge moves the master copy to exactly that commit, by compare-and-swap; the
// effect package pushes the executable or image by digest, and the artifact is published. Where a project gives
// its queue several slots, the aggregate queue plans trains of changes: the effect survey finds what a
// change touches, pipeline tests trains, and land moves the master copy to the end of one. Where an
// outside tool owns integrate, the effect adopt looks at the artifacts that it offers: they are stated
// once the registry confirms them and a key that is configured signed them. The effect status tells forges,
// and the duty listing asks them: what is new among the changes that are open there it reports as their webhooks claim it.
//
// Effects happen at least once. Each can be ended at any moment and done again: a merge commit is
// the same whoever makes it, a merge that happened is recognised in the master copy's history, and
// a push of the same executable or image is the same artifact. What a process leaves behind when it dies
// is removed by the next one on the same folder.
//
// What the service does not do yet:
//   - Code owners, pair programming and red-green evidence are not looked at.
//   - Of changes at forges only heads, words and ends are listed: reviews come by webhook, or are claimed.
package builder
