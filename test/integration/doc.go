// Package integration holds the tests that see Lemnis from the outside, whole: a turn of the loop in one process, over
// kills, and as single programs on a NATS server and a Redis of their own.
package integration
