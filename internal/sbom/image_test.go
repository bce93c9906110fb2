package sbom

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
)

// layer is a tar archive of files: "name|text", "name-> other name of a file", "folder/".
func layer(t *testing.T, files ...string) func() (io.ReadCloser, error) {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		name, text, _ := strings.Cut(f, "|")
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(text))}
		if from, to, is := strings.Cut(name, "-> "); is {
			h.Name, h.Linkname, h.Typeflag = from, to, tar.TypeLink
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
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	image, err := ReadImage(t.Context(), "sha256:abcd", []func() (io.ReadCloser, error){
		layer(t, "etc/", "etc/os-release|NAME=x\nID=debian\n", "gone|x", "a|old", "b-> a", "dir/kept|x", "opaque/gone|x", "was/a/folder|x",
			"var/lib/dpkg/status|Package: bash\nStatus: install ok installed\nVersion: 5.2+b1\nArchitecture: amd64\nDescription: a\n shell: yes\n\nPackage: removed\nStatus: deinstall ok config-files\nVersion: 1\n",
			"lib/apk/db/installed|P:musl\nV:1.2-r0\nA:x86_64\nL:MIT\nF:lib\n\n", "lib/c.so|\x7fELF"),
		layer(t, "a|new", ".wh.gone", "opaque/.wh..wh..opq", "opaque/there|x", "was|a file now", "bin/self|"+string(self)),
	}, t.TempDir())
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
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	image, err := ReadImage(t.Context(), "sha256:abcd", []func() (io.ReadCloser, error){
		layer(t, "a|"+string(self), "srv-> a", "c|\x7fELF", "lib.so-> c", "other.so-> c"),
		layer(t, ".wh.a", ".wh.c", "apk|P:musl\nV:1.2-r0\nA:x86_64\nL:MIT\n\n", "lib/apk/db/installed-> apk"),
	}, t.TempDir())
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
	}, t.TempDir())
	if err == nil || !strings.Contains(err.Error(), "lists of packages") {
		t.Errorf("%v", err)
	}
}
