// Package conformance holds no code, only tests: what Lemnis stores and signs, judged by the programs of others. It is a
// module of its own, so that their dependencies are in no program.
package conformance
