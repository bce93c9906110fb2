package sbom

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

const (
	mostDatabase = 64 << 20  // bytes of a package manager's list
	mostFiles    = 1_000_000 // of an image
)

// Image is what an image holds.
type Image struct {
	Digest   string // SHA-256 of its configuration, in hexadecimal
	Files    []File // sorted by path
	Programs []Placed
	Packages []Package // of package managers, sorted by their package URLs
	Opaque   []string  // paths of programs and libraries that are none of Go
}

// File is a file of an image, or a name of one.
type File struct {
	Path   string // from the root, without a slash before it
	Digest string // SHA-256, in hexadecimal
}

// Placed is a Go program in an image.
type Placed struct {
	Path string
	Program
}

// Package is what a package manager has installed.
type Package struct {
	URL, Name, Version string
	Licence            string // an SPDX expression, as its packagers say; empty: they do not
}

// ReadImage reads the layers of an image, the lowest first, as tar archives: what is there when all lie over one another.
// scratch is a folder for one program at a time.
func ReadImage(ctx context.Context, digest string, layers []func() (io.ReadCloser, error), scratch string) (Image, error) {
	s := stack{Image: Image{Digest: strings.TrimPrefix(digest, "sha256:")}, ctx: ctx, hidden: map[string]bool{}, covered: map[string]bool{}, databases: map[string][]byte{}}
	spool, err := os.CreateTemp(scratch, ".program-")
	if err != nil {
		return Image{}, err
	}
	defer func() { _ = spool.Close(); _ = os.Remove(spool.Name()) }()
	s.spool = spool
	for n, open := range slices.Backward(layers) { // what an upper one has is not looked for below
		layer, err := open()
		if err == nil {
			err = errors.Join(s.layer(tar.NewReader(layer)), layer.Close())
		}
		if err != nil {
			return Image{}, fmt.Errorf("layer %d: %w", n+1, err)
		}
	}
	slices.SortFunc(s.Files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	slices.SortFunc(s.Programs, func(a, b Placed) int { return strings.Compare(a.Path, b.Path) })
	slices.Sort(s.Opaque)
	s.packages()
	return s.Image, nil
}

// stack is an image while its layers are read from the top.
type stack struct {
	Image
	ctx       context.Context //nolint:containedctx // of one call
	spool     *os.File
	hidden    map[string]bool // paths that are seen or removed above, of lower layers
	covered   map[string]bool // folders of which nothing is seen of lower layers
	databases map[string][]byte
}

func (s *stack) gone(at string) bool {
	if s.hidden[at] {
		return true
	}
	for at = path.Dir(at); at != "."; at = path.Dir(at) {
		if s.covered[at] {
			return true
		}
	}
	return s.covered["."]
}

func (s *stack) layer(r *tar.Reader) error {
	var hidden, covered []string // by this layer, of those below
	digests := map[string]string{}
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = s.ctx.Err()
		}
		if err != nil {
			return err
		}
		at := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
		if at == "" {
			continue
		}
		folder, name := path.Split(at)
		folder = path.Clean(folder)
		if name == ".wh..wh..opq" {
			covered = append(covered, folder)
			continue
		}
		if removed, is := strings.CutPrefix(name, ".wh."); is {
			at = path.Join(folder, removed)
			hidden, covered = append(hidden, at), append(covered, at)
			continue
		}
		visible := !s.gone(at)
		if h.Typeflag != tar.TypeDir {
			hidden, covered = append(hidden, at), append(covered, at)
		}
		switch {
		case h.Typeflag == tar.TypeLink && visible:
			to := strings.TrimPrefix(path.Clean("/"+h.Linkname), "/")
			s.Files = append(s.Files, File{at, digests[to]})
		case h.Typeflag == tar.TypeReg:
			// A name further down may be another one's of the same file, and that one seen.
			if digests[at], err = s.file(r, at, visible); err != nil {
				return fmt.Errorf("%s: %w", at, err)
			}
		}
		if len(s.Files) > mostFiles {
			return fmt.Errorf("more than %d files", mostFiles)
		}
	}
	for _, at := range hidden {
		s.hidden[at] = true
	}
	for _, at := range covered {
		s.covered[at] = true
	}
	return nil
}

var magic = []byte("\x7fELF")

// file reads one, and remembers it where it is seen.
func (s *stack) file(from io.Reader, at string, visible bool) (digest string, err error) {
	sum := sha256.New()
	content := bufio.NewReader(from)
	start, _ := content.Peek(len(magic))
	program := visible && bytes.Equal(start, magic)
	to := io.Writer(sum)
	var database bytes.Buffer
	switch {
	case program:
		if err := errors.Join(s.spool.Truncate(0), seek(s.spool)); err != nil {
			return "", err
		}
		to = io.MultiWriter(sum, s.spool)
	case visible && isDatabase(at):
		to = io.MultiWriter(sum, &limited{&database, mostDatabase})
	}
	if _, err := io.Copy(to, content); err != nil {
		return "", err
	}
	digest = hex.EncodeToString(sum.Sum(nil))
	if !visible {
		return digest, nil
	}
	s.Files = append(s.Files, File{at, digest})
	if database.Len() > 0 {
		s.databases[at] = database.Bytes()
	}
	if program {
		if info, err := buildinfo.Read(s.spool); err == nil {
			s.Programs = append(s.Programs, Placed{at, Program{Info: info, Digest: digest}})
		} else {
			s.Opaque = append(s.Opaque, at)
		}
	}
	return digest, nil
}

func seek(f *os.File) error { _, err := f.Seek(0, io.SeekStart); return err }

// limited refuses what is more than it takes.
type limited struct {
	*bytes.Buffer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	if l.left -= len(p); l.left < 0 {
		return 0, fmt.Errorf("more than %d bytes", mostDatabase)
	}
	return l.Buffer.Write(p)
}

const (
	apkDatabase  = "lib/apk/db/installed"
	dpkgDatabase = "var/lib/dpkg/status"
)

func isDatabase(at string) bool {
	return at == apkDatabase || at == dpkgDatabase || path.Dir(at) == dpkgDatabase+".d" || at == "etc/os-release" || at == "usr/lib/os-release"
}

// packages reads the lists of dpkg and apk. The packages' own names of files are not looked at: where there is a list, what is no Go
// program is taken for theirs.
func (s *stack) packages() {
	system := ""
	for _, at := range []string{"usr/lib/os-release", "etc/os-release"} {
		for line := range strings.Lines(string(s.databases[at])) {
			if id, is := strings.CutPrefix(strings.TrimSpace(line), "ID="); is {
				system = strings.Trim(id, `"'`)
			}
		}
	}
	for at, text := range s.databases {
		switch {
		case at == apkDatabase:
			for f := range stanzas(text) {
				s.add("apk", system, f["P"], f["V"], f["A"], f["L"])
			}
		case strings.HasPrefix(at, dpkgDatabase):
			for f := range stanzas(text) {
				if status := f["Status"]; status == "" || strings.HasSuffix(status, " installed") {
					s.add("deb", system, f["Package"], f["Version"], f["Architecture"], "")
				}
			}
		}
	}
	slices.SortFunc(s.Packages, func(a, b Package) int { return strings.Compare(a.URL, b.URL) })
	s.Packages = slices.CompactFunc(s.Packages, func(a, b Package) bool { return a.URL == b.URL })
}

func (s *stack) add(kind, system, name, version, architecture, licence string) {
	if name == "" || version == "" {
		return
	}
	if system == "" {
		system = map[string]string{"apk": "alpine", "deb": "debian"}[kind]
	}
	u := "pkg:" + kind + "/" + url.PathEscape(system) + "/" + url.QueryEscape(name) + "@" + url.QueryEscape(version)
	if architecture != "" {
		u += "?arch=" + url.QueryEscape(architecture)
	}
	s.Packages = append(s.Packages, Package{URL: u, Name: name, Version: version, Licence: licence})
}

// stanzas are paragraphs of lines "Name: value", or of apk "N:value".
func stanzas(text []byte) func(yield func(map[string]string) bool) {
	return func(yield func(map[string]string) bool) {
		fields := map[string]string{}
		for line := range strings.Lines(string(text) + "\n\n") {
			line = strings.TrimRight(line, "\r\n")
			if line == "" {
				if len(fields) > 0 && !yield(fields) {
					return
				}
				fields = map[string]string{}
				continue
			}
			if name, value, is := strings.Cut(line, ":"); is && !strings.HasPrefix(line, " ") {
				fields[name] = strings.TrimSpace(value)
			}
		}
	}
}

// Bill lists the files of an image, the modules of its Go programs and what its package managers have installed. The same image
// and options give the same bill.
func (i Image) Bill(o Options) *cdx.BOM {
	bom := cdx.NewBOM()
	bom.SerialNumber = serial(i.Digest)
	image := cdx.Component{
		BOMRef: "image", Type: cdx.ComponentTypeContainer, Name: o.Name, Version: o.Revision,
		Hashes: &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: i.Digest}},
	}
	bom.Metadata = &cdx.Metadata{Component: &image}
	all, needs := map[string]cdx.Component{}, []cdx.Dependency{}
	var own []string // of the image itself
	for _, f := range i.Files {
		c := cdx.Component{BOMRef: "file:" + f.Path, Type: cdx.ComponentTypeFile, Name: "/" + f.Path}
		if f.Digest != "" {
			c.Hashes = &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: f.Digest}}
		}
		all[c.BOMRef] = c
	}
	for _, p := range i.Programs {
		bill := p.Bill(o)
		var refs []string
		for _, c := range *bill.Components {
			all[c.BOMRef] = c
			refs = append(refs, c.BOMRef)
		}
		c := all["file:"+p.Path]
		c.Type = cdx.ComponentTypeApplication
		all[c.BOMRef] = c
		own = append(own, c.BOMRef)
		needs = append(needs, cdx.Dependency{Ref: c.BOMRef, Dependencies: &refs})
	}
	for _, p := range i.Packages {
		c := cdx.Component{BOMRef: p.URL, Type: cdx.ComponentTypeLibrary, Name: p.Name, Version: p.Version, PackageURL: p.URL}
		if p.Licence != "" {
			c.Licenses = &cdx.Licenses{{Expression: p.Licence}}
		}
		all[c.BOMRef] = c
		own = append(own, c.BOMRef)
	}
	components := make([]cdx.Component, 0, len(all))
	for _, c := range all {
		components = append(components, c)
	}
	slices.SortFunc(components, func(a, b cdx.Component) int { return strings.Compare(a.BOMRef, b.BOMRef) })
	bom.Components = &components
	needs = append(needs, cdx.Dependency{Ref: image.BOMRef, Dependencies: &own})
	bom.Dependencies = &needs
	return bom
}
