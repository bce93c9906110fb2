// Package runlog keeps what the steps of pipelines print: on the stream LOGS, in compressed chunks, not as events.
//
// A builder writes with a [Writer], a gateway reads with [Store.Read], also while the run goes on. The log of a run is the
// chunks on one subject. A chunk says which attempt it belongs to, where in the log it stands, and which steps printed what
// of it; the last one of a log that is whole carries its size and digest. Chunks of an attempt that was given up are passed over once
// there is one of a later attempt.
//
// What is kept is bounded: [MostBytes] of a run, and on the stream the newest of all runs, by bytes and age. What is missing of a log
// is said in the log, where it is missing.
package runlog
