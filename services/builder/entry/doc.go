// Package entry decides on a change's way through the merge queue.
//
// A verified change enters; each try is a round: it is merged on the master copy as it stands,
// the result is tested, and only that very result may become the master copy. When the master
// copy has moved in the meantime a new round begins. Only one thing makes a merge a fact: a
// result for a round whose tests the entry has stated, with the commit that was tested.
package entry
