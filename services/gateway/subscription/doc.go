// Package subscription pushes facts to HTTP receivers, and keeps consumers for clients of the bus.
//
//	m := subscription.New(subscription.Options{Host: host, Record: record})
//	go m.Run(ctx)                                  // delivers, in one gateway at a time
//	view, err := m.Create(ctx, principal, wanted)  // a *FieldError says which field is wrong
//
// # How a fact gets out
//
// The gateway that holds the lease "subscriptions" reads the end of the stream once (feed) and keeps the latest facts in
// memory for all subscriptions together. Each has a worker, which asks the feed for what lies behind its own place, judges
// it by its filters, and queues it by aggregate. Facts of one aggregate go out one after the other, those of others at the
// same time, a few at once. A subscription that is further behind than the feed reaches back reads the stream for itself,
// a batch at a time. A worker holds a bounded number of facts; a receiver that is slow, or dead, costs only its own worker.
//
// A subscription has no goroutine of its own while it waits: what there is to do for it is done in a turn, which goroutines that
// all share give it (turns). It has one connection while it keeps up, with neither goroutines nor buffers of its own (clients): a
// fact is sent within a turn, and a request left to another goroutine when the receiver does not begin to answer within 10 ms, or
// answers in an unusual way, or when the turn came late. Filters are judged for some 5 ms in one turn. What is the same for all who
// get a fact is written once.
//
// What is known of the progress is a place up to which all facts were looked at, and those before it that are still on
// their way. It is written to the bucket SUBSCRIPTIONS once a second, and when the worker ends. After a kill the facts of
// the last second come again: delivery is at least once, with the event's id as the key to know it by. A write names the
// revision that it replaces, so that a gateway which was paused while another took over stops at its next one.
//
// # Where it may reach
//
// A subscription can not be aimed at somebody who did not agree: the sink has to answer the CloudEvents webhook handshake
// first. Nor at what only this machine reaches: the address is checked when it is dialled, after the name was resolved;
// redirects are not followed, and no proxy is asked.
package subscription
