// Command benchreport reads the output of `go test -bench`, passes it on, and closes with a table: each measure that has a
// goal, what was measured (the median where it ran several times), and whether the goal is met. It exits 1 when a measure is
// missing, since a table with holes proves nothing; a goal that is not met is told, and is no error: machines differ.
package main

import (
	"fmt"
	"os"
)

func main() {
	r := newReport(os.Stdout, goals)
	if err := r.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "benchreport:", err)
		os.Exit(1)
	}
	if !r.close() {
		os.Exit(1)
	}
}
