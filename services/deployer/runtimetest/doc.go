//go:build linux

// Package runtimetest tests a running instance of a service: for quality (it answers, fast enough, as its OpenAPI document says),
// for compliance (the file that runs is the one that the pipeline stated, under licences that are allowed) and for security
// (response headers, TLS, no open port but its own, known vulnerabilities, no keys in the file that runs), and by commands of the
// project's own that write JUnit or SARIF, which a Host runs apart from the machine. Each test returns a Result with its reason, passed or not; what could not be tested has
// not passed.
//
// A Suite holds the thresholds of an environment. Dev, Test and Prod are a ladder of them; AtLeast checks that a
// suite is at least as strict as the one of the environment before.
//
// # What it does not do yet
//
// Licences are recognised by the wording of their files, for the licences common in Go modules; a text altered within keeps its
// name. Of an executable that is not Go's the licences are those that its bill of materials names. A contract is held to GET operations alone.
package runtimetest
