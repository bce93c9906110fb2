// Package bench measures the runtime beside others: a Watermill router that does the same work, a plain replay of the
// same facts, and itself on a stream that grows. It is a module of its own, so that Watermill is in no other.
package bench
