// Package backup copies what is the truth of an installation into one archive, while it works, and puts it
// back into an empty one.
//
// It speaks the snapshot protocol of JetStream, so that sequences, times, message ids and the positions of
// durable consumers survive as they are. (jsm.go speaks it too, but brings an expression language and twenty
// more packages for what is a hundred lines.)
//
// # Consistency
//
// Streams are copied one after the other, so what they hold is not of one moment. LIFECYCLE is the truth, and
// the order (see phases in plan.go) makes sure that everything else can go with it:
//
//	before LIFECYCLE   LEASES         a floor may not be above the last event, or causes would be passed over
//	                   TIMERS         a firing that became a result later fires again, and is dropped as known;
//	                                  a timer that was set later is set again: see below
//	                   SUBMIT_…       what became a claim later is read again, and is known by its id
//	                   SNAPSHOTS      one that is beyond the last event could not be used; two of each are kept, and events
//	                                  go up to the older one only, so that one of them reaches the first event
//	                   SUBSCRIPTIONS  what was delivered later is delivered again: at least once
//	LIFECYCLE          with its consumers, bounded to its last event by the server
//	after LIFECYCLE    DEADLETTER     a letter whose cause is acknowledged is there
//	                   KEYS           the key of each sealed word is there
//	                   TOKENS, WEBHOOKS, and what else there is
//	                   registry       an artifact is there before its fact is; blobs never change
//
// The consumers that set timers are wound back to where they were before TIMERS was copied: they set again
// what was set in between, and look first whether it is there.
//
// # What a restore changes
//
// The restored stream keeps its identity and remembers, in its metadata, at which sequence it was taken up
// again ([natsd.Forks]). From there on ids of facts, and the folds in a store that may still hold those of the
// lost end, are others; attempts at effects count from above all earlier ones.
package backup
