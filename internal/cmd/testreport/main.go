// Command testreport reads the output of `go test -json` and prints what a person wants of it: one line a package,
// failures in full, every skip with its reason, and the counts. It exits 1 when anything failed, did not build or did
// not finish, and when no test ran at all: an empty run proves nothing.
//
//	go test -json work | go run ./internal/cmd/testreport
package main

import (
	"fmt"
	"os"
)

func main() {
	r := newReport(os.Stdout)
	if err := r.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "testreport:", err)
		os.Exit(1)
	}
	if !r.close() {
		os.Exit(1)
	}
}
