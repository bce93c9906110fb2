package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path"
	"runtime/debug"
	"slices"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// billOf lists the Go standard library and every module of a program. digest is the program's, SHA-256 in hexadecimal.
func billOf(info *debug.BuildInfo, digest string) *cdx.BOM {
	bom := cdx.NewBOM()
	bom.SerialNumber = serial(digest)
	program := cdx.Component{
		BOMRef: "program", Type: cdx.ComponentTypeApplication, Name: path.Base(info.Path), Version: revision(info),
		Hashes: &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: digest}},
	}
	bom.Metadata = &cdx.Metadata{Component: &program}
	toolchain := strings.TrimPrefix(strings.Fields(info.GoVersion)[0], "go")
	components := []cdx.Component{{
		BOMRef: "pkg:golang/std@" + toolchain, Type: cdx.ComponentTypeLibrary, Name: "std", Version: toolchain, PackageURL: "pkg:golang/std@" + toolchain,
	}}
	for _, m := range append([]*debug.Module{&info.Main}, info.Deps...) {
		components = append(components, componentOf(m, revision(info)))
	}
	slices.SortFunc(components, func(a, b cdx.Component) int { return strings.Compare(a.BOMRef, b.BOMRef) })
	refs := make([]string, len(components))
	for i, c := range components {
		refs[i] = c.BOMRef
	}
	bom.Components = &components
	bom.Dependencies = &[]cdx.Dependency{{Ref: program.BOMRef, Dependencies: &refs}}
	return bom
}

// componentOf is a module as it is linked: what replaces it. A module of this repository has no version of its own.
func componentOf(m *debug.Module, own string) cdx.Component {
	at := m
	if m.Replace != nil && m.Replace.Version != "" {
		at = m.Replace
	}
	version := at.Version
	if version == "" || version == "(devel)" || m.Replace != nil && m.Replace.Version == "" {
		version = own
	}
	purl := "pkg:golang/" + at.Path
	if version != "" {
		purl += "@" + version
	}
	c := cdx.Component{BOMRef: purl, Type: cdx.ComponentTypeLibrary, Name: at.Path, Version: version, PackageURL: purl}
	// go.sum's form: h1: and a SHA-256 of the module's files.
	if sum, ok := strings.CutPrefix(at.Sum, "h1:"); ok {
		if raw, err := base64.StdEncoding.DecodeString(sum); err == nil {
			c.Hashes = &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(raw)}}
		}
	}
	return c
}

// revision is the commit that a program was built of; empty when the go command was not told.
func revision(info *debug.BuildInfo) string {
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}

// serial is a UUID of version 8 (of the maker's own making) out of a digest.
func serial(digest string) string {
	sum := sha256.Sum256([]byte("lemnis sbom " + digest))
	b := sum[:16]
	b[6], b[8] = b[6]&0x0f|0x80, b[8]&0x3f|0x80
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

func digestOf(file string) (string, error) {
	f, err := os.Open(file) //nolint:gosec // whoever calls this names the program
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", fmt.Errorf("%s: %w", file, err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func write(out io.Writer, bom *cdx.BOM) error {
	return cdx.NewBOMEncoder(out, cdx.BOMFileFormatJSON).SetPretty(true).Encode(bom)
}
