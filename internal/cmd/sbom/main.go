// Command sbom prints the bill of materials of Go programs as CycloneDX JSON: the modules that the linker says are in them.
//
//	sbom PROGRAM > sbom.cdx.json
//
// The same program gives the same bytes: no clock and no chance is in it, and its serial number is made of the program's
// digest.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/lemnis/lemnis/internal/sbom"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "sbom: %v\n", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	if len(args) != 1 {
		return errors.New("say which program: sbom PROGRAM")
	}
	program, err := sbom.Read(args[0])
	if err != nil {
		return err
	}
	return sbom.Write(out, program.Bill(sbom.Options{}))
}
