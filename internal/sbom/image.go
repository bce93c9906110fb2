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
	mostDatabase = 64 << 20  // bytes of all lists of package managers
	mostFiles    = 1_000_000 // of an image
	mostHeld     = 512 << 20 // bytes of memory for what the names of an image take
	heldOfName   = 200       // bytes that a name takes beside its own
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
	s := stack{Image: Image{Digest: strings.TrimPrefix(digest, "sha256:")}, ctx: ctx, hidden: map[string]bool{}, covered: map[string]bool{}, databases: map[string][]byte{},
		room: mostDatabase, names: mostHeld}
	spool, err := os.CreateTemp(scratch, ".program-")
	if err != nil {
		return Image{}, err
	}
	defer func() { _ = spool.Close(); _ = os.Remove(spool.Name()) }()
	s.spool = spool
	for n, open := range slices.Backward(layers) { // what an upper one has is not looked for below
		if err := s.layer(open); err != nil {
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
	room      int64 // bytes that are left for databases
	names     int64 // bytes that are left for names
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

// layer reads one. A file is looked at when any of its names is seen, whichever of them has the content: where that is not known when the
// content comes by, the layer is read once more.
func (s *stack) layer(open func() (io.ReadCloser, error)) error {
	var hidden, covered []string // by this layer, of those below
	digests := map[string]string{}
	again := map[string][]string{} // of files that are yet to be looked at, the names that are seen
	err := s.walk(open, func(h *tar.Header, content io.Reader, at string) error {
		if s.names -= int64(len(at)) + heldOfName; s.names < 0 {
			return errors.New("more names than are taken")
		}
		folder, name := path.Split(at)
		folder = path.Clean(folder)
		if name == ".wh..wh..opq" {
			covered = append(covered, folder)
			return nil
		}
		if removed, is := strings.CutPrefix(name, ".wh."); is {
			at = path.Join(folder, removed)
			hidden, covered = append(hidden, at), append(covered, at)
			return nil
		}
		visible := !s.gone(at)
		if h.Typeflag != tar.TypeDir {
			hidden, covered = append(hidden, at), append(covered, at)
		}
		switch {
		case !visible:
		case h.Typeflag == tar.TypeLink:
			to := clean(h.Linkname)
			if digest, seen := digests[to]; seen && !isDatabase(at) {
				s.Files = append(s.Files, File{at, digest})
			} else {
				again[to] = append(again[to], at)
			}
		case h.Typeflag == tar.TypeReg:
			digest, err := s.file(content, []string{at}, true)
			if err != nil {
				return err
			}
			digests[at] = digest
		}
		return s.bounded(0)
	})
	if err == nil && len(again) > 0 {
		err = s.walk(open, func(h *tar.Header, content io.Reader, at string) error {
			names := again[at]
			if h.Typeflag != tar.TypeReg || len(names) == 0 {
				return nil
			}
			delete(again, at)
			_, known := digests[at]
			if err := s.bounded(len(names)); err != nil {
				return err
			}
			_, err := s.file(content, names, !known)
			return err
		})
	}
	if err != nil {
		return err
	}
	for _, names := range again { // of links, which have no content
		for _, at := range names {
			s.Files = append(s.Files, File{Path: at})
		}
	}
	for _, at := range hidden {
		s.hidden[at] = true
	}
	for _, at := range covered {
		s.covered[at] = true
	}
	return s.bounded(0)
}

func (s *stack) bounded(more int) error {
	if len(s.Files)+more > mostFiles {
		return fmt.Errorf("more than %d files", mostFiles)
	}
	return nil
}

// walk calls do for everything that a layer has, but for the root.
func (s *stack) walk(open func() (io.ReadCloser, error), do func(h *tar.Header, content io.Reader, at string) error) (err error) {
	layer, err := open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, layer.Close()) }()
	for r := tar.NewReader(layer); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = s.ctx.Err()
		}
		if err != nil {
			return err
		}
		if at := clean(h.Name); at != "" {
			if err := do(h, r, at); err != nil {
				return fmt.Errorf("%s: %w", at, err)
			}
		}
	}
}

func clean(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

var magic = []byte("\x7fELF")

// file reads one, and remembers it by its names, as a program by the first of them.
func (s *stack) file(from io.Reader, names []string, programs bool) (digest string, err error) {
	sum := sha256.New()
	content := bufio.NewReader(from)
	start, _ := content.Peek(len(magic))
	program := programs && bytes.Equal(start, magic)
	to := []io.Writer{sum}
	if program {
		if err := errors.Join(s.spool.Truncate(0), seek(s.spool)); err != nil {
			return "", err
		}
		to = append(to, s.spool)
	}
	var database bytes.Buffer
	if slices.ContainsFunc(names, isDatabase) {
		to = append(to, &limited{&database, &s.room})
	}
	if _, err := io.Copy(io.MultiWriter(to...), content); err != nil {
		return "", err
	}
	digest = hex.EncodeToString(sum.Sum(nil))
	for _, at := range names {
		s.Files = append(s.Files, File{at, digest})
		if isDatabase(at) && database.Len() > 0 {
			s.databases[at] = database.Bytes()
		}
	}
	if program {
		if info, err := buildinfo.Read(s.spool); err == nil {
			s.Programs = append(s.Programs, Placed{names[0], Program{Info: info, Digest: digest}})
		} else {
			s.Opaque = append(s.Opaque, names[0])
		}
	}
	return digest, nil
}

func seek(f *os.File) error { _, err := f.Seek(0, io.SeekStart); return err }

// limited refuses what is more than is left.
type limited struct {
	*bytes.Buffer
	left *int64
}

func (l *limited) Write(p []byte) (int, error) {
	if *l.left -= int64(len(p)); *l.left < 0 {
		return 0, fmt.Errorf("the lists of packages have more than %d bytes", mostDatabase)
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
