package main

import (
	"bytes"
	"os"
	"strings"
	"testing"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// This test's own program is one with modules in it.
func TestBillOfThisProgram(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var first, second bytes.Buffer
	for _, out := range []*bytes.Buffer{&first, &second} {
		if err := run([]string{self}, out); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("the same program gives other bytes")
	}
	var bom cdx.BOM
	if err := cdx.NewBOMDecoder(&first, cdx.BOMFileFormatJSON).Decode(&bom); err != nil {
		t.Fatal(err)
	}
	if bom.BOMFormat != "CycloneDX" || bom.Components == nil || !strings.HasPrefix(bom.SerialNumber, "urn:uuid:") {
		t.Fatalf("%+v", bom)
	}
	for _, want := range []string{"pkg:golang/std@", "pkg:golang/github.com/CycloneDX/cyclonedx-go@v0.12.0", "pkg:golang/github.com/lemnis/lemnis/internal"} {
		found := false
		for _, c := range *bom.Components {
			found = found || strings.HasPrefix(c.PackageURL, want)
		}
		if !found {
			t.Errorf("%s is not in the bill", want)
		}
	}
}

func TestNoProgram(t *testing.T) {
	for _, args := range [][]string{nil, {"a", "b"}, {"main.go"}, {"none"}} {
		if err := run(args, &bytes.Buffer{}); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
}
