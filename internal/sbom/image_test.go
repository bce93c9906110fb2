package sbom

import (
	"archive/tar"
	"bytes"
	"debug/buildinfo"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"testing"
)

// plenty is room for the bills of images that are no matter of a test.
const plenty = 1 << 20

// own is this test: a Go program.
func own(t *testing.T) string {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// layer is a tar archive of files: "name|text", "name-> other name of a file", "name=> what a symbolic link leads to", "folder/".
func layer(t *testing.T, files ...string) func() (io.ReadCloser, error) {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		name, text, _ := strings.Cut(f, "|")
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(text))}
		if from, to, is := strings.Cut(name, "-> "); is {
			h.Name, h.Linkname, h.Typeflag = from, to, tar.TypeLink
		} else if from, to, is := strings.Cut(name, "=> "); is {
			h.Name, h.Linkname, h.Typeflag = from, to, tar.TypeSymlink
		} else if strings.HasSuffix(name, "/") {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil }
}

func TestImageHoldsWhatIsSeenThroughItsLayers(t *testing.T) {
	t.Parallel()
	image, err := ReadImage(t.Context(), "sha256:abcd", []func() (io.ReadCloser, error){
		layer(t, "etc/", "etc/os-release|NAME=x\nID=debian\n", "gone|x", "a|old", "b-> a", "dir/kept|x", "opaque/gone|x", "was/a/folder|x",
			"var/lib/dpkg/status|Package: bash\nStatus: install ok installed\nVersion: 5.2+b1\nArchitecture: amd64\nDescription: a\n shell: yes\n\nPackage: removed\nStatus: deinstall ok config-files\nVersion: 1\n",
			"lib/apk/db/installed|P:musl\nV:1.2-r0\nA:x86_64\nL:MIT\nF:lib\n\n", "lib/c.so|\x7fELF"),
		layer(t, "a|new", ".wh.gone", "opaque/.wh..wh..opq", "opaque/there|x", "was|a file now", "bin/self|"+own(t)),
	}, t.TempDir(), plenty)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	digests := map[string]string{}
	for _, f := range image.Files {
		names, digests[f.Path] = append(names, f.Path), f.Digest
	}
	if got, want := strings.Join(names, " "), "a b bin/self dir/kept etc/os-release lib/apk/db/installed lib/c.so opaque/there var/lib/dpkg/status was"; got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	if digests["b"] == "" || digests["a"] == digests["b"] {
		t.Errorf("the other name of a file that an upper layer has anew: %s, and %s", digests["b"], digests["a"])
	}
	if len(image.Programs) != 1 || image.Programs[0].Path != "bin/self" || fmt.Sprint(image.Opaque) != "[lib/c.so]" {
		t.Errorf("%+v, %v", image.Programs, image.Opaque)
	}
	var packages []string
	for _, p := range image.Packages {
		packages = append(packages, p.URL+" "+p.Licence)
	}
	if got, want := strings.Join(packages, ", "), "pkg:apk/debian/musl@1.2-r0?arch=x86_64 MIT, pkg:deb/debian/bash@5.2%2Bb1?arch=amd64 "; got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	write := func() string {
		var out bytes.Buffer
		if err := Write(&out, image.Bill(Options{Name: "api", Revision: "c0ffee"})); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	text := write()
	for _, part := range []string{`"type": "container"`, `"name": "/opaque/there"`, `"expression": "MIT"`, `"pkg:golang/std@`, `"ref": "file:bin/self"`} {
		if !strings.Contains(text, part) {
			t.Errorf("the bill lacks %s", part)
		}
	}
	if text != write() {
		t.Error("the same image gives another bill")
	}
}

// Which of its names has a file's content says nothing about what the file is: an archive's writer chooses that.
func TestOtherNamesOfAFileHideNothing(t *testing.T) {
	t.Parallel()
	image, err := ReadImage(t.Context(), "sha256:abcd", []func() (io.ReadCloser, error){
		layer(t, "a|"+own(t), "srv-> a", "c|\x7fELF", "lib.so-> c", "other.so-> c"),
		layer(t, ".wh.a", ".wh.c", "apk|P:musl\nV:1.2-r0\nA:x86_64\nL:MIT\n\n", "lib/apk/db/installed-> apk"),
	}, t.TempDir(), plenty)
	if err != nil {
		t.Fatal(err)
	}
	if len(image.Programs) != 1 || image.Programs[0].Path != "srv" || fmt.Sprint(image.Opaque) != "[lib.so]" || len(image.Packages) != 1 {
		t.Errorf("%+v, %v, %v", image.Programs, image.Opaque, image.Packages)
	}
	names := ""
	for _, f := range image.Files {
		if names += f.Path + " "; f.Digest == "" {
			t.Errorf("%s has no digest", f.Path)
		}
	}
	if want := "apk lib.so lib/apk/db/installed other.so srv "; names != want {
		t.Errorf("got %s, want %s", names, want)
	}
}

func TestManyDatabasesAreNotHeld(t *testing.T) {
	t.Parallel()
	half := strings.Repeat("x", mostDatabase/2+1)
	_, err := ReadImage(t.Context(), "sha256:abcd", []func() (io.ReadCloser, error){
		layer(t, "var/lib/dpkg/status.d/a|"+half), layer(t, "var/lib/dpkg/status.d/b|"+half),
	}, t.TempDir(), plenty)
	if err == nil || !strings.Contains(err.Error(), "lists of packages") {
		t.Errorf("%v", err)
	}
}

// seen are the files and packages of an image.
func seen(t *testing.T, layers ...func() (io.ReadCloser, error)) (string, error) {
	t.Helper()
	image, err := ReadImage(t.Context(), "sha256:abcd", layers, t.TempDir(), plenty)
	var all []string
	for _, f := range image.Files {
		all = append(all, f.Path)
	}
	for _, p := range image.Packages {
		all = append(all, p.Name)
	}
	return strings.Join(all, " "), err
}

const (
	musl = "|P:musl\nV:1.2\n\n"
	bash = "|Package: bash\nVersion: 5.2\n\n"
)

// The rules of OCI layers: a whiteout is for the layers below its own.
func TestLayersHideWhatIsBelow(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		layers [][]string // the lowest first
		want   string
	}{
		"a folder hides a file":                  {[][]string{{"a|x", "b|x"}, {"a/"}}, "b"},
		"a folder hides a link":                  {[][]string{{"lib=> elsewhere"}, {"lib/", "lib/apk/db/installed" + musl}}, "lib/apk/db/installed musl"},
		"folders are one":                        {[][]string{{"a/", "a/x|x"}, {"a/", "a/y|y"}}, "a/x a/y"},
		"a file hides a folder":                  {[][]string{{"a/", "a/b/c|x"}, {"a|x"}}, "a"},
		"a link hides a folder":                  {[][]string{{"a/", "a/b/c|x"}, {"a=> b"}}, ""},
		"a folder after a file after a folder":   {[][]string{{"a/", "a/x|x"}, {"a|x"}, {"a/", "a/y|y"}}, "a/y"},
		"a whiteout hides a folder":              {[][]string{{"a/b/c|x", "a/d|x"}, {"a/.wh.b"}}, "a/d"},
		"a whiteout hides nothing of its layer":  {[][]string{{"a/b/c|x"}, {"a/b/d|x", "a/.wh.b"}}, "a/b/d"},
		"a whiteout hides nothing above":         {[][]string{{"a|x"}, {".wh.a"}, {"a|y"}}, "a"},
		"an opaque folder hides nothing of it":   {[][]string{{"a/b/c|x", "b|x"}, {"a/b/d|x", "a/.wh..wh..opq"}}, "a/b/d b"},
		"an opaque root":                         {[][]string{{"a|x", "b/c|x"}, {"d|x", ".wh..wh..opq"}}, "d"},
		"a whiteout and its name's start":        {[][]string{{"a|x", "ab|x", "a.b|x"}, {".wh.a"}}, "a.b ab"},
		"a package of a database that is hidden": {[][]string{{"var/lib/dpkg/status" + bash}, {"var/lib/.wh.dpkg"}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var layers []func() (io.ReadCloser, error)
			for _, files := range c.layers {
				layers = append(layers, layer(t, files...))
			}
			if got, err := seen(t, layers...); got != c.want || err != nil {
				t.Errorf("got %q, %v; want %q", got, err, c.want)
			}
		})
	}
	for _, whiteout := range []string{"a/.wh.", "a/.wh..", "a/.wh..."} {
		if _, err := seen(t, layer(t, "a/b|x", "c|x"), layer(t, whiteout)); err == nil || !strings.Contains(err.Error(), "a whiteout of no file") {
			t.Errorf("%s: %v", whiteout, err)
		}
	}
}

// What is no file hides none, whatever its name.
func TestAHeaderForAllFilesHidesNothing(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "a", PAXRecords: map[string]string{"comment": "x"}}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := seen(t, layer(t, "a/b|x"), func() (io.ReadCloser, error) { return io.NopCloser(&b), nil }); got != "a/b" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

func TestPackagesAreFoundThroughLinks(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		files []string
		want  string
	}{
		"merged":          {[]string{"lib=> usr/lib", "usr/lib/apk/db/installed" + musl}, "usr/lib/apk/db/installed musl"},
		"merged from /":   {[]string{"lib=> /usr/lib", "usr/lib/apk/db/installed" + musl}, "usr/lib/apk/db/installed musl"},
		"put by a link":   {[]string{"lib=> usr/lib", "lib/apk/db/installed" + musl}, "usr/lib/apk/db/installed musl"},
		"put by links":    {[]string{"a/b=> ../c/../x", "x=> /var/lib", "a/b/dpkg/status" + bash}, "var/lib/dpkg/status bash"},
		"other names":     {[]string{"a=> var/lib", "b-> a", "b/dpkg/x" + bash, "var/lib/dpkg/status-> a/dpkg/x"}, "b var/lib/dpkg/status var/lib/dpkg/x bash"},
		"a folder anew":   {[]string{"a=> var", "a/", "a/b|x"}, "a/b"},
		"above the root":  {[]string{"a=> ../../../var/lib", "a/dpkg/status" + bash}, "var/lib/dpkg/status bash"},
		"no matter of it": {[]string{"etc/os-release=> ../usr/lib/os-release", "var/run=> /run", "lib64=> lib", "var/lib/dpkg/status" + bash}, "var/lib/dpkg/status bash"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got, err := seen(t, layer(t, c.files...)); got != c.want || err != nil {
				t.Errorf("got %q, %v; want %q", got, err, c.want)
			}
		})
	}
}

// A list of packages that is not read must not look like none.
func TestALinkInTheWayToPackagesIsNamed(t *testing.T) {
	t.Parallel()
	for _, link := range []string{
		"var=> v", "var/lib=> ../v", "var/lib/dpkg=> /opt/dpkg", "var/lib/dpkg/status=> s", "var/lib/dpkg/status.d=> s", "var/lib/dpkg/status.d/base=> ../s",
		"lib=> opt", "lib/apk=> x", "lib/apk/db=> x", "lib/apk/db/installed=> x", "usr=> x", "usr/lib=> x", "usr/lib/apk/db/installed=> x",
	} {
		at, _, _ := strings.Cut(link, "=>")
		if _, err := seen(t, layer(t, link), layer(t, "a|x")); err == nil || !strings.Contains(err.Error(), "layer 1: "+at+": a link in the way to the lists of packages") {
			t.Errorf("%s: %v", link, err)
		}
		if got, err := seen(t, layer(t, link), layer(t, ".wh."+at)); strings.Count(at, "/") == 0 && (got != "" || err != nil) {
			t.Errorf("%s, removed: %q, %v", link, got, err)
		}
	}
	if _, err := seen(t, layer(t, "x=> y", "var/lib/dpkg/status-> x")); err == nil || !strings.Contains(err.Error(), "var/lib/dpkg/status: another name of x, which is no file") {
		t.Errorf("%v", err)
	}
	if _, err := seen(t, layer(t, "a=> b", "b=> a", "a/c|x")); err == nil || !strings.Contains(err.Error(), "a/c: too many links") {
		t.Errorf("%v", err)
	}
}

// Who made an image may have wanted the builder's memory.
func TestAnImageHasNoMoreRoomThanIsGiven(t *testing.T) {
	t.Parallel()
	var names, hidden, packages []string
	for n := range 100 {
		names = append(names, fmt.Sprintf("file-%d|", n))
		hidden = append(hidden, fmt.Sprintf(".wh.file-%d", n))
		packages = append(packages, fmt.Sprintf("P:p%d\nV:1\n\n", n))
	}
	system := "etc/os-release|ID=" + strings.Repeat("x", 1000)
	enough := room{databases: plenty, names: plenty, bill: plenty}
	for name, c := range map[string]struct {
		files []string
		most  room
		want  string
	}{
		"names":            {names, room{plenty, 100 * heldOfName, plenty}, "layer 1: file-96: the names of its files take more than 20000 bytes"},
		"names of nothing": {hidden, room{plenty, 100 * heldOfName, plenty}, "the names of its files take more than 20000 bytes"},
		"links":            {[]string{"a=> " + strings.Repeat("x", 1000)}, room{plenty, 1000, plenty}, "a: the names of its files take more than 1000 bytes"},
		"files":            {names, room{plenty, plenty, 10_000}, "the bill has more than 10000 bytes"},
		"other names":      {[]string{"a|x", "b-> a", "c-> none"}, room{plenty, plenty, 2*textOfFile + 150}, "c: the bill has more than"},
		"programs":         {[]string{"self|" + own(t)}, room{plenty, plenty, 2*textOfFile + 64}, "self: the bill has more than"},
		"packages":         {[]string{"lib/apk/db/installed|" + strings.Join(packages, "")}, room{plenty, plenty, 10_000}, "lib/apk/db/installed: the bill has more than 10000 bytes"},
		"their system":     {[]string{system, "lib/apk/db/installed|" + strings.Join(packages[:10], "")}, room{plenty, plenty, 20_000}, "the bill has more than 20000 bytes"},
		"databases":        {[]string{"lib/apk/db/installed|" + strings.Join(packages, "")}, room{500, plenty, plenty}, "the lists of packages have more than 500 bytes"},
		"a path":           {[]string{strings.Repeat("a/", mostPath/2) + "b|x"}, enough, "a path of more than 4096 bytes"},
		"a link":           {[]string{"a=> " + strings.Repeat("a/", mostPath/2) + "b"}, enough, "a: a path of more than 4096 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			layers := []func() (io.ReadCloser, error){layer(t, c.files...)}
			if _, err := read(t.Context(), "sha256:abcd", layers, t.TempDir(), c.most); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
			if _, err := read(t.Context(), "sha256:abcd", layers, t.TempDir(), enough); err != nil && c.most != enough {
				t.Errorf("with room: %v", err)
			}
		})
	}
}

// What is counted of files and packages while they are read is no more than the bill has, and not much less.
func TestABillThatFitsIsNotRefused(t *testing.T) {
	t.Parallel()
	files := []string{"lib/apk/db/installed|"}
	for n := range 200 {
		files = append(files, fmt.Sprintf("usr/share/doc/%d|%d", n, n))
		files[0] += fmt.Sprintf("P:p%d\nV:1\nA:all\n\n", n)
	}
	layers := []func() (io.ReadCloser, error){layer(t, files...)}
	image, err := ReadImage(t.Context(), "sha256:abcd", layers, t.TempDir(), plenty)
	if err != nil {
		t.Fatal(err)
	}
	var bill bytes.Buffer
	if err := Write(&bill, image.Bill(Options{})); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadImage(t.Context(), "sha256:abcd", layers, t.TempDir(), int64(bill.Len())); err != nil {
		t.Errorf("a bill of %d bytes: %v", bill.Len(), err)
	}
	if _, err := ReadImage(t.Context(), "sha256:abcd", layers, t.TempDir(), int64(bill.Len()*3/4)); err == nil {
		t.Errorf("a bill of %d bytes is taken for one of three quarters", bill.Len())
	}
}

// What is read of a program for what it says of itself is not the whole of it: that is held in memory.
func TestAProgramIsReadInPart(t *testing.T) {
	t.Parallel()
	file, err := os.Open(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	if _, err := buildinfo.Read(&partly{file, mostInfo}); err != nil {
		t.Errorf("this test: %v", err)
	}
	if _, err := buildinfo.Read(&partly{file, 1000}); err == nil {
		t.Error("it says in 1000 bytes what it is")
	}
	s := stack{left: room{bill: plenty}}
	if err := s.program("a", Program{Info: &debug.BuildInfo{Deps: make([]*debug.Module, mostModules+1)}}); err == nil || err.Error() != "a program of more than 10000 modules" {
		t.Errorf("%v", err)
	}
}
