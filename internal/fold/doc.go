// Package fold keeps folds and read models in Redis, or in a Redis-compatible
// store inside the process, behind the same client.
//
//	store, err := fold.Open(ctx, "redis://127.0.0.1:6379/0")  // a Redis
//	store, err := fold.Embedded(dir)                          // none needed
//
// The stream is the truth; everything here can be rebuilt from it. So the
// store may be wiped at any moment, and the package is made for that:
//
// # Folds
//
// A fold is saved a partition at a time: one hash with the fields
// "<kind>/<key>" and the sequence of the stream that it stands at. Save sends
// what changed since the sequence that the caller saved last, its base. A
// script compares: a partition that stands later is left alone and reported as
// refused (*OlderError); one whose base is gone or differs is written whole.
// A hash therefore always is the fold at exactly its sequence, whoever wrote
// it, a zombie or two owners at once. Keys carry the Scope: the identity of the
// stream, the phase, the version of the fold's code. What another version left
// is not read, and not deleted.
//
// # Read models
//
// They are the caller's own keys on Client. Advance moves a model from one
// sequence to the next together with its commands, in one transaction that
// fails with ErrMoved when the model does not stand where the caller believes,
// as after a wipe. The caller then rebuilds it.
//
// # The embedded store
//
// It is miniredis over pipes in memory: no port, expiry by the wall clock. With
// a folder its content is written to folds.snap every few seconds when it
// changed, and at Close, whole and then renamed. At the start a snapshot that
// is broken is logged and ignored. Streams (XADD) are not kept in it.
package fold
