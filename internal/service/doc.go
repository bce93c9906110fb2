// Package service runs the services of Lemnis: it turns pure decisions into facts, each stated
// exactly once, whatever crashes.
//
// A service is a [Definition]: aggregates that decide, effects that work, timers, duties and
// projections. [Run] gives it life:
//
//   - One process owns a phase at a time (lease.go). The lease holds the floor: the sequence
//     below which everything is handled. A new owner first puts [events.OwnerElected] on the
//     stream and reads up to it, so that it has met every fact of the owners before it.
//   - The owner reads the stream in order from floor + 1, without acknowledgements (dispatch.go),
//     and hands each event to the workers of the partitions that it concerns (worker.go).
//   - A worker decides and publishes the fact, expecting the last sequence of the phase's
//     partition. A conflict, a duplicate or a time-out are one case: read what stands there, fold
//     it, decide again. A cause at or below an aggregate's watermark is done.
//   - What can not be handled goes to the dead letter, and a claim's author gets a refusal
//     (poison.go). A fact that can not be folded breaks its aggregate, one that can not be read stops
//     its partition; [Service.Troubles] and /readyz say so, and everything else goes on.
//   - Folds are saved behind (saver.go) and are only a shortcut: the stream can always be folded
//     again.
//   - Effects and timers (effects.go, timers.go) follow facts through durable consumers, and
//     report results, which the owner meets in order like anything else.
//
// Why a decision that states nothing needs no fence of its own is argued in
// docs/adr/0001-runtime.md; the proof is in proof_test.go.
package service
