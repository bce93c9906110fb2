// Package registry is the binary repository: an OCI registry on a folder, for the path /v2/.
//
//	reg, err := registry.New("data/registry", registry.Options{OnPull: …})
//	mux.Handle("/v2/", reg)
//
// What was answered 201 is on disk, also after kill -9: a blob, a manifest and a tag are each
// written beside their place, synced and renamed into it before the answer. At start the index is
// read back from the files; one that does not hash to its name is skipped with a logged reason.
//
// Several processes may serve one folder: each reads a repository again whose folders have another
// time than when it read them, and goes on with an upload that another began. What nobody touched for
// an hour of an upload is removed when a process starts.
//
// It is written out here rather than taken from go-containerregistry's pkg/registry, which keeps
// manifests and unfinished uploads in memory, reads a client's upload while it holds the lock of
// all others, and takes a manifest under a digest that it does not have, or with layers that were
// never uploaded. Its client is used in the tests as a second opinion; the conformance suite of the specification
// runs in test/conformance.
//
// A blob is stored once, and is in those repositories that it was pushed to or taken over into; who knows a digest alone
// reads nothing. What no manifest has named for a day is collected, in the background.
package registry
