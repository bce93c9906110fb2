package builder

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lemnis/lemnis/internal/sbom"
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
