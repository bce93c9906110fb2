// Package sbom lists what is in a Go program, as the linker wrote it there, in CycloneDX.
package sbom

import (
	"crypto/sha256"
	"debug/buildinfo"
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

// MediaType of a bill.
const MediaType = "application/vnd.cyclonedx+json"

// Program is a Go executable.
type Program struct {
	Info   *debug.BuildInfo
	Digest string // SHA-256 of the file, in hexadecimal
}

// Read reads what a Go executable says of itself.
func Read(file string) (Program, error) {
	digest, err := digestOf(file)
	if err != nil {
		return Program{}, err
	}
	info, err := buildinfo.ReadFile(file)
	if err != nil {
		return Program{}, fmt.Errorf("%s: %w", file, err)
	}
	return Program{Info: info, Digest: digest}, nil
}

// Go is the version of Go that the program was built with, like 1.26.0.
func (p Program) Go() string {
	return strings.TrimPrefix(strings.Fields(p.Info.GoVersion + " ")[0], "go")
}

// Linked is a module as it is linked: what replaces it. One that is replaced by a folder has no version.
func Linked(m *debug.Module) *debug.Module {
	if m.Replace != nil {
		return m.Replace
	}
	return m
}

// Options add to a bill what a program does not say of itself.
type Options struct {
	Name     string                                // of the program; empty: of its package
	Revision string                                // commit of its source; empty: what the go command wrote into it
	Licences func(module, version string) []string // SPDX identifiers; nil: none are told
}

// Bill lists the Go standard library and every module of the program. The same program and options give the same bill.
func (p Program) Bill(o Options) *cdx.BOM {
	if o.Name == "" {
		o.Name = path.Base(p.Info.Path)
	}
	if o.Revision == "" {
		o.Revision = revision(p.Info)
	}
	bom := cdx.NewBOM()
	bom.SerialNumber = serial(p.Digest)
	program := cdx.Component{
		BOMRef: "program", Type: cdx.ComponentTypeApplication, Name: o.Name, Version: o.Revision,
		Hashes: &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: p.Digest}},
	}
	bom.Metadata = &cdx.Metadata{Component: &program}
	std := "pkg:golang/std@" + p.Go()
	components := []cdx.Component{{
		BOMRef: std, Type: cdx.ComponentTypeLibrary, Name: "std", Version: p.Go(), PackageURL: std, Licenses: choices([]string{"BSD-3-Clause"}),
	}}
	components = append(components, componentOf(&p.Info.Main, o.Revision))
	for _, m := range p.Info.Deps {
		c := componentOf(m, o.Revision)
		if at := Linked(m); o.Licences != nil && at.Version != "" {
			c.Licenses = choices(o.Licences(at.Path, at.Version))
		}
		components = append(components, c)
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

// choices are licences that all count.
func choices(ids []string) *cdx.Licenses {
	if len(ids) == 0 {
		return nil
	}
	all := cdx.Licenses{}
	for _, id := range ids {
		all = append(all, cdx.LicenseChoice{License: &cdx.License{ID: id}})
	}
	return &all
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
	f, err := os.Open(file)
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

// Write writes a bill as JSON.
func Write(out io.Writer, bom *cdx.BOM) error {
	return cdx.NewBOMEncoder(out, cdx.BOMFileFormatJSON).SetPretty(true).Encode(bom)
}
