package sbom

import (
	"archive/tar"
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"path"
	"runtime/debug"
	"slices"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

const (
	mostDatabase = 64 << 20  // bytes of all lists of package managers
	mostHeld     = 256 << 20 // bytes of memory for what the names of an image take
	heldOfName   = 200       // bytes that a name takes beside its own
	mostPath     = 4096      // bytes of a path, as Linux has it
	mostLinks    = 10        // that are followed for one path
	mostInfo     = 16 << 20  // bytes that are read of a program for what it says of itself
	mostModules  = 10_000    // of a program

	// What a bill has for each file, module of a program and package beside what they are called, or less.
	textOfFile, textOfModule, textOfPackage = 180, 20, 150
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
// scratch is a folder for one program at a time. An image whose bill has more than most bytes is refused before it is held.
func ReadImage(ctx context.Context, digest string, layers []func() (io.ReadCloser, error), scratch string, most int64) (Image, error) {
	return read(ctx, digest, layers, scratch, room{databases: mostDatabase, names: mostHeld, bill: most})
}

func read(ctx context.Context, digest string, layers []func() (io.ReadCloser, error), scratch string, most room) (Image, error) {
	s := stack{Image: Image{Digest: strings.TrimPrefix(digest, "sha256:")}, ctx: ctx, hidden: map[string]bool{}, covered: map[string]bool{}, databases: map[string][]byte{},
		most: most, left: most}
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
	return s.Image, s.packages()
}

// room is how many bytes there are for what an image says: who made it is not known.
type room struct {
	databases int64 // lists of package managers
	names     int64 // memory for the names of all layers
	bill      int64
}

// stack is an image while its layers are read from the top.
type stack struct {
	Image
	ctx        context.Context //nolint:containedctx // of one call
	spool      *os.File
	hidden     map[string]bool // paths that are seen or removed above, of lower layers
	covered    map[string]bool // folders of which nothing is seen of lower layers
	databases  map[string][]byte
	most, left room
}

// bills counts what the bill is going to have, before it is held.
func (s *stack) bills(bytes int) error {
	if s.left.bill -= int64(bytes); s.left.bill < 0 {
		return fmt.Errorf("the bill has more than %d bytes", s.most.bill)
	}
	return nil
}

func (s *stack) gone(at string) bool {
	return s.hidden[at] || s.covered["."] || below(at, s.covered)
}

// below is whether a path is below one of folders. It is asked for every name, and a name may have thousands of folders.
func below[T any](at string, folders map[string]T) bool {
	if len(folders) == 0 {
		return false
	}
	for end := strings.LastIndexByte(at, '/'); end >= 0; end = strings.LastIndexByte(at[:end], '/') {
		if _, is := folders[at[:end]]; is {
			return true
		}
	}
	return false
}

// layer reads one. A file is looked at when any of its names is seen, whichever of them has the content: where that is not known when the
// content comes by, the layer is read once more.
func (s *stack) layer(open func() (io.ReadCloser, error)) error {
	var hidden, covered []string // by this layer, of those below
	digests := map[string]string{}
	again := map[string][]string{} // of files that are yet to be looked at, the names that are seen
	err := s.walk(open, func(h *tar.Header, content io.Reader, at string) error {
		if s.left.names -= int64(len(at)+len(h.Linkname)) + heldOfName; s.left.names < 0 {
			return fmt.Errorf("the names of its files take more than %d bytes", s.most.names)
		}
		folder, name := path.Split(at)
		folder = path.Clean(folder)
		if name == ".wh..wh..opq" {
			covered = append(covered, folder)
			return nil
		}
		if removed, is := strings.CutPrefix(name, ".wh."); is {
			if removed == "" || removed == "." || removed == ".." {
				return errors.New("a whiteout of no file")
			}
			at = path.Join(folder, removed)
			hidden, covered = append(hidden, at), append(covered, at)
			return nil
		}
		visible := !s.gone(at)
		hidden = append(hidden, at)    // also by a folder, what is a file below
		if h.Typeflag != tar.TypeDir { // folders of several layers are one
			covered = append(covered, at)
		}
		switch {
		case !visible:
		case h.Typeflag == tar.TypeSymlink && leadsToDatabase(at) && (at != "lib" || clean(h.Linkname) != "usr/lib"):
			return errors.New("a link in the way to the lists of packages, which is not followed")
		case h.Typeflag == tar.TypeLink:
			to := h.Linkname
			if digest, seen := digests[to]; seen && !isDatabase(at) {
				return s.found(File{at, digest})
			}
			again[to] = append(again[to], at)
		case h.Typeflag == tar.TypeReg:
			digest, err := s.file(content, []string{at}, true)
			if err != nil {
				return err
			}
			digests[at] = digest
		}
		return nil
	})
	if err == nil && len(again) > 0 {
		err = s.walk(open, func(h *tar.Header, content io.Reader, at string) error {
			names := again[at]
			if h.Typeflag != tar.TypeReg || len(names) == 0 {
				return nil
			}
			delete(again, at)
			_, known := digests[at]
			_, err := s.file(content, names, !known)
			return err
		})
	}
	if err != nil {
		return err
	}
	for _, to := range slices.Sorted(maps.Keys(again)) { // of links, which have no content
		for _, at := range again[to] {
			if leadsToDatabase(at) {
				return fmt.Errorf("%s: another name of %s, which is no file of the layer", at, to)
			}
			if err := s.found(File{Path: at}); err != nil {
				return fmt.Errorf("%s: %w", at, err)
			}
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

func (s *stack) found(f File) error {
	s.Files = append(s.Files, f)
	return s.bills(2*len(f.Path) + len(f.Digest) + textOfFile)
}

// walk calls do for everything that a layer has, but for the root, with the path where it is put: what lies behind a symbolic link of the
// same layer is put where that leads. Other names (hard links) have the path of what they name for their Linkname.
func (s *stack) walk(open func() (io.ReadCloser, error), do func(h *tar.Header, content io.Reader, at string) error) (err error) {
	layer, err := open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, layer.Close()) }()
	links := map[string]string{}
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
		name := h.Name
		if err := placed(h, links); err != nil {
			return fmt.Errorf("%.200s: %w", name, err)
		}
		if at := h.Name; at != "" && h.Typeflag != tar.TypeXGlobalHeader {
			if err := do(h, r, at); err != nil {
				return fmt.Errorf("%s: %w", at, err)
			}
		}
	}
}

// placed gives an entry of a layer the name, and a hard link the target, that they have when the links before it are followed.
func placed(h *tar.Header, links map[string]string) (err error) {
	switch h.Typeflag {
	case tar.TypeXGlobalHeader: // is no file
		return nil
	case tar.TypeReg, tar.TypeDir, tar.TypeLink, tar.TypeSymlink, tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
	default:
		return fmt.Errorf("an entry of the kind %q", h.Typeflag)
	}
	if len(h.Name) > mostPath || len(h.Linkname) > mostPath {
		return fmt.Errorf("a path of more than %d bytes", mostPath)
	}
	if h.Name, err = follow(clean(h.Name), links); err != nil || h.Name == "" {
		return err
	}
	delete(links, h.Name)
	switch h.Typeflag {
	case tar.TypeSymlink:
		links[h.Name] = h.Linkname
	case tar.TypeLink:
		if h.Linkname, err = follow(clean(h.Linkname), links); err != nil {
			return err
		}
		if to, is := links[h.Linkname]; is {
			links[h.Name] = to
		}
	}
	return nil
}

// follow follows the links on the way to a path, but not the last element.
func follow(at string, links map[string]string) (string, error) {
	if !below(at, links) {
		return at, nil
	}
	folder, name := path.Split(at)
	done, todo := "", strings.Split(folder, "/")
	for followed := 0; len(todo) > 0; {
		next := done
		switch element := todo[0]; element {
		case "", ".":
		case "..":
			next = done[:max(0, strings.LastIndexByte(done, '/'))]
		default:
			next = strings.TrimPrefix(done+"/"+element, "/")
		}
		todo = todo[1:]
		to, is := links[next]
		if !is {
			done = next
			continue
		}
		if followed++; followed > mostLinks {
			return "", errors.New("too many links on its way")
		}
		if path.IsAbs(to) {
			done = ""
		}
		todo = append(strings.Split(to, "/"), todo...)
	}
	return path.Join(done, name), nil
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
		to = append(to, &limited{&database, s})
	}
	if _, err := io.Copy(io.MultiWriter(to...), content); err != nil {
		return "", err
	}
	digest = hex.EncodeToString(sum.Sum(nil))
	for _, at := range names {
		if err := s.found(File{at, digest}); err != nil {
			return "", err
		}
		if isDatabase(at) && database.Len() > 0 {
			s.databases[at] = database.Bytes()
		}
	}
	if program {
		if info, err := buildinfo.Read(&partly{s.spool, mostInfo}); err == nil {
			return digest, s.program(names[0], Program{Info: info, Digest: digest})
		}
		s.Opaque = append(s.Opaque, names[0])
	}
	return digest, nil
}

func (s *stack) program(at string, p Program) error {
	if len(p.Info.Deps) > mostModules {
		return fmt.Errorf("a program of more than %d modules", mostModules)
	}
	s.Programs = append(s.Programs, Placed{at, p})
	return s.bills(said(p.Info))
}

// said is how many bytes a program says of itself.
func said(info *debug.BuildInfo) int {
	bytes := len(info.GoVersion) + len(info.Path)
	for _, s := range info.Settings {
		bytes += len(s.Key) + len(s.Value) + textOfModule
	}
	for _, m := range append([]*debug.Module{&info.Main}, info.Deps...) {
		for ; m != nil; m = m.Replace {
			bytes += len(m.Path) + len(m.Version) + len(m.Sum) + textOfModule
		}
	}
	return bytes
}

// partly is a file of which no more is read than is left.
type partly struct {
	*os.File
	left int
}

func (p *partly) ReadAt(b []byte, from int64) (int, error) {
	n, err := p.File.ReadAt(b, from)
	if p.left -= n; p.left < 0 {
		return 0, fmt.Errorf("more than %d bytes", mostInfo)
	}
	return n, err
}

func seek(f *os.File) error { _, err := f.Seek(0, io.SeekStart); return err }

// limited refuses what is more than is left.
type limited struct {
	*bytes.Buffer
	of *stack
}

func (l *limited) Write(p []byte) (int, error) {
	if l.of.left.databases -= int64(len(p)); l.of.left.databases < 0 {
		return 0, fmt.Errorf("the lists of packages have more than %d bytes", l.of.most.databases)
	}
	return l.Buffer.Write(p)
}

const (
	apkDatabase  = "lib/apk/db/installed"
	apkMerged    = "usr/" + apkDatabase // where lib is a link to usr/lib
	dpkgDatabase = "var/lib/dpkg/status"
	dpkgFolder   = dpkgDatabase + ".d"
)

func isDatabase(at string) bool {
	return at == apkDatabase || at == apkMerged || at == dpkgDatabase || path.Dir(at) == dpkgFolder || at == "etc/os-release" || at == "usr/lib/os-release"
}

// leadsToDatabase is whether a path is a list of packages, or a folder above one.
func leadsToDatabase(at string) bool {
	return path.Dir(at) == dpkgFolder || slices.ContainsFunc([]string{apkDatabase, apkMerged, dpkgDatabase, dpkgFolder}, func(database string) bool {
		return strings.HasPrefix(database+"/", at+"/")
	})
}

// packages reads the lists of dpkg and apk. The packages' own names of files are not looked at: where there is a list, what is no Go
// program is taken for theirs.
func (s *stack) packages() error {
	system := ""
	for _, at := range []string{"usr/lib/os-release", "etc/os-release"} {
		for line := range strings.Lines(string(s.databases[at])) {
			if id, is := strings.CutPrefix(strings.TrimSpace(line), "ID="); is {
				system = strings.Trim(id, `"'`)
			}
		}
	}
	for at, text := range s.databases {
		for f := range stanzas(text) {
			var err error
			switch status := f["Status"]; {
			case at == apkDatabase || at == apkMerged:
				err = s.add("apk", system, f["P"], f["V"], f["A"], f["L"])
			case strings.HasPrefix(at, dpkgDatabase) && (status == "" || strings.HasSuffix(status, " installed")):
				err = s.add("deb", system, f["Package"], f["Version"], f["Architecture"], "")
			}
			if err != nil {
				return fmt.Errorf("%s: %w", at, err)
			}
		}
	}
	slices.SortFunc(s.Packages, func(a, b Package) int {
		return cmp.Or(strings.Compare(a.URL, b.URL), strings.Compare(b.Licence, a.Licence))
	})
	s.Packages = slices.CompactFunc(s.Packages, func(a, b Package) bool { return a.URL == b.URL })
	return nil
}

func (s *stack) add(kind, system, name, version, architecture, licence string) error {
	if name == "" || version == "" {
		return nil
	}
	if system == "" {
		system = map[string]string{"apk": "alpine", "deb": "debian"}[kind]
	}
	address := len(system) + len(name) + len(version) + len(architecture) // counted before it is made, as each has the system again
	if err := s.bills(3*address + len(name) + len(version) + len(licence) + textOfPackage); err != nil {
		return err
	}
	u := "pkg:" + kind + "/" + url.PathEscape(system) + "/" + url.QueryEscape(name) + "@" + url.QueryEscape(version)
	if architecture != "" {
		u += "?arch=" + url.QueryEscape(architecture)
	}
	s.Packages = append(s.Packages, Package{URL: u, Name: name, Version: version, Licence: licence})
	return nil
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
