package builder

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/lemnis/lemnis/internal/oci"
	"github.com/lemnis/lemnis/internal/sbom"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
)

// What packages say of themselves has no bound, and a fact has.
func TestSupplyStaysSmall(t *testing.T) {
	t.Parallel()
	p := proof{contents: &sbom.Image{}}
	for n := range 3000 {
		p.contents.Packages = append(p.contents.Packages,
			sbom.Package{Name: fmt.Sprintf("%04d", n) + strings.Repeat("x", 5000), Version: "1"},
			sbom.Package{Name: "a", Version: "1", Licence: fmt.Sprintf("(L-%d AND %d%s)", n, n, strings.Repeat("y", 5000))})
		p.miss("vulnerabilities", fmt.Sprint(n)+strings.Repeat("z", 5000))
	}
	p.licences()
	bound(&p.supply)
	text, err := json.Marshal(p.supply)
	if err != nil || len(text) > 256<<10 {
		t.Errorf("%d bytes, %v", len(text), err)
	}
	if last := p.supply.Unlicensed[len(p.supply.Unlicensed)-1]; last != "and 2802 more" {
		t.Errorf("the last is %q", last)
	}
	few := events.Supply{Licenses: []string{"MIT", "BSD", "MIT"}}
	if bound(&few); fmt.Sprint(few.Licenses, few.Unlicensed) != "[BSD MIT] []" {
		t.Errorf("%+v", few)
	}
}

// A gate that allows some licences must not be passed by having more than are listed, or longer ones.
func TestLicencesThatAreNotListedAreNotKnown(t *testing.T) {
	t.Parallel()
	var many events.Supply
	for n := range mostListed + 7 {
		many.Licenses = append(many.Licenses, fmt.Sprintf("L-%03d", n))
	}
	if bound(&many); len(many.Licenses) != mostListed || !slices.Equal(many.Unlicensed, []string{"7 more licences"}) {
		t.Errorf("%d, %v", len(many.Licenses), many.Unlicensed)
	}
	long := events.Supply{Licenses: []string{strings.Repeat("x", mostText+1), "MIT"}}
	if bound(&long); !slices.Equal(long.Licenses, []string{"MIT"}) || len(long.Unlicensed) != 1 {
		t.Errorf("%+v", long)
	}
}

func TestWhatIsPackagedHasABoundInBytes(t *testing.T) {
	t.Parallel()
	w := newWorkshop(t.TempDir())
	keep := func(commit string, size int64) product {
		file := filepath.Join(t.TempDir(), "image.tar")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := w.keep(product{commit: commit, file: file, size: size}); err != nil {
			t.Fatal(err)
		}
		e, _ := w.find("", "", commit)
		return e
	}
	first := keep("one", keepBuiltBytes/2)
	keep("two", keepBuiltBytes/2)
	if _, there := w.find("", "", "one"); !there {
		t.Error("within the bound the first is gone")
	}
	keep("three", 1)
	if _, there := w.find("", "", "one"); there {
		t.Error("the first is still there")
	}
	if _, err := os.Stat(first.file); !os.IsNotExist(err) {
		t.Errorf("its file is still there: %v", err)
	}
	keep("four", keepBuiltBytes+1)
	if _, there := w.find("", "", "four"); !there || len(w.built) != 1 {
		t.Errorf("one that is larger than the bound: %v, %d kept", there, len(w.built))
	}
}

// The bill is not made, and then found to be too large: the names alone would take the builder's memory.
func TestAnImageWithTooLargeABillIsNotHeld(t *testing.T) {
	t.Parallel()
	var layer bytes.Buffer
	packed := gzip.NewWriter(&layer)
	w := tar.NewWriter(packed)
	folder := strings.Repeat("a/", 2000)
	for n := range oci.MaxAttachment/(2*len(folder)) + 1 {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: folder + strconv.Itoa(n)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), packed.Close()); err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	w = tar.NewWriter(&archive)
	put := func(name string, content []byte) {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(content))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	blob := func(content []byte) string {
		sum := fmt.Sprintf("%x", sha256.Sum256(content))
		put("blobs/sha256/"+sum, content)
		return fmt.Sprintf(`{"digest":"sha256:%s","size":%d}`, sum, len(content))
	}
	image := fmt.Sprintf(`{"config":%s,"layers":[%s]}`, blob([]byte("{}")), blob(layer.Bytes()))
	put("index.json", []byte(`{"manifests":[`+blob([]byte(image))+`]}`))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(file, archive.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	p := proof{made: product{image: true, file: file, digest: fmt.Sprintf("sha256:%x", sha256.Sum256([]byte("{}")))}}
	if err := p.read(t.Context()); err == nil || !strings.Contains(err.Error(), "the bill has more than 67108864 bytes") || p.contents != nil {
		t.Errorf("%v", err)
	}
}

// What the programs of an image name is theirs to choose: each module counts once, and there is an end.
func TestModulesHaveABound(t *testing.T) {
	t.Parallel()
	naming := func(versions int) sbom.Program {
		info := debug.BuildInfo{GoVersion: "go1.26.0"}
		for n := range versions {
			info.Deps = append(info.Deps, &debug.Module{Path: "example.com/m", Version: fmt.Sprintf("v1.0.%d", n)})
		}
		return sbom.Program{Info: &info}
	}
	few := proof{builder: &builder{}, job: &service.Job{}, programs: []sbom.Program{naming(3), naming(2), naming(3)}}
	if all, err := few.modules(); err != nil || len(all) != 5 { // with the library and the toolchain
		t.Errorf("%v, %v", all, err)
	}
	if made := few.provenance(); len(made.Materials) != 4 || len(few.supply.Missing) != 0 {
		t.Errorf("%v, %v", made.Materials, few.supply.Missing)
	}
	const why = "its programs name more than 10000 modules"
	many := proof{builder: &builder{}, job: &service.Job{}, programs: []sbom.Program{naming(1), naming(mostModules + 1)}}
	if _, err := many.modules(); err == nil || err.Error() != why {
		t.Errorf("%v", err)
	}
	if made := many.provenance(); len(made.Materials) != mostModules || !slices.Equal(many.supply.Missing, []string{"provenance: " + why}) {
		t.Errorf("%d, %v", len(made.Materials), many.supply.Missing)
	}
}

// Tests name themselves, and any number of them may be in quarantine at once: what a fact lists of them has a bound.
func TestTestsThatDoNotCountAreListedWithABound(t *testing.T) {
	t.Parallel()
	names := make([]string, mostListed+7)
	for i := range names {
		names[i] = strings.Repeat("é", mostText)
	}
	got := listed(names)
	if len(got) != mostListed+1 || got[mostListed] != "and 7 more" || len(got[0]) > mostText+len("…") {
		t.Errorf("%d, the first of %d bytes, the last %q", len(got), len(got[0]), got[len(got)-1])
	}
	if few := listed([]string{"a"}); len(few) != 1 || few[0] != "a" || listed(nil) != nil {
		t.Errorf("%q", few)
	}
}
