package coverage_test

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lemnis/lemnis/services/builder/coverage"
)

func read(t *testing.T, text string) coverage.Profile {
	t.Helper()
	p, err := coverage.Read(strings.NewReader(text), ".")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

const goProfile = `mode: set
example.com/shop/api/search.go:10.30,12.16 2 1
example.com/shop/api/search.go:12.16,14.3 1 0
example.com/shop/api/search.go:15.2,15.12 1 1
example.com/shop/main.go:5.13,7.2 4 0
`

const cobertura = `<?xml version="1.0"?>
<!DOCTYPE coverage SYSTEM "http://cobertura.sourceforge.net/xml/coverage-04.dtd">
<coverage line-rate="0.5"><sources><source>/build/shop/src</source></sources>
<packages><package name="api"><classes>
<class name="search.py" filename="api/search.py">
  <methods><method name="find"><lines><line number="2" hits="3"/></lines></method></methods>
  <lines><line number="1" hits="1"/><line number="2" hits="3"/><line number="3" hits="0" branch="true" condition-coverage="0% (0/2)"/></lines>
</class>
</classes></package></packages></coverage>`

const lcov = `TN:unit
SF:/home/ci/shop/web/cart.js
FN:1,add
FNDA:4,add
DA:1,4
DA:2,0,abcdef
DA:3,1e+06
LF:3
end_of_record
SF:web\total.js
DA:9,0
end_of_record
`

func TestWhole(t *testing.T) {
	for name, c := range map[string]struct {
		text    string
		percent float64
		of      int
	}{
		"go": {goProfile, 37.5, 8}, "cobertura": {cobertura, 200. / 3, 3}, "lcov": {lcov, 50, 4}, "go without statements": {"mode: atomic\n", 0, 0},
	} {
		p := read(t, c.text)
		if percent, of := p.Whole(); math.Abs(percent-c.percent) > 1e-9 || of != c.of {
			t.Errorf("%s: %v %% of %d, want %v of %d", name, percent, of, c.percent, c.of)
		}
	}
}

func TestMergedCountsOnce(t *testing.T) {
	p := read(t, goProfile)
	p.Merge(read(t, strings.ReplaceAll(goProfile, " 1 0\n", " 1 7\n")))
	if percent, of := p.Whole(); percent != 50 || of != 8 {
		t.Errorf("%v %% of %d", percent, of)
	}
}

func TestChangedLines(t *testing.T) {
	tree := []string{"main.go", "api/search.go", "api/search.py", "web/cart.js", "web/total.js", "other/api/search.go"}
	var all coverage.Profile
	for _, text := range []string{goProfile, cobertura, lcov} {
		all.Merge(read(t, text))
	}
	located := all.Located(tree)
	if got := located.Files(); !slices.Equal(got, []string{"api/search.go", "api/search.py", "main.go", "web/cart.js", "web/total.js"}) {
		t.Fatalf("located: %v", got)
	}
	for name, c := range map[string]struct {
		file    string
		ranges  []coverage.Range
		percent float64
		of      int
	}{
		"the line of an if ran, its block did not": {"api/search.go", []coverage.Range{{12, 13}}, 50, 2},
		"all of a function":                        {"api/search.go", []coverage.Range{{1, 100}}, 400. / 6, 6},
		"overlapping ranges count once":            {"api/search.go", []coverage.Range{{10, 11}, {11, 11}}, 100, 2},
		"no line that can run":                     {"api/search.go", []coverage.Range{{1, 9}}, 0, 0},
		"a file that nothing measured":             {"README.md", []coverage.Range{{1, 9}}, 0, 0},
		"cobertura":                                {"api/search.py", []coverage.Range{{3, 3}, {1, 1}}, 50, 2},
		"lcov":                                     {"web/cart.js", []coverage.Range{{2, 3}}, 50, 2},
		"a name with backslashes":                  {"web/total.js", []coverage.Range{{9, 9}}, 0, 1},
	} {
		if percent, of := located.Changed(map[string][]coverage.Range{c.file: c.ranges}); math.Abs(percent-c.percent) > 1e-9 || of != c.of {
			t.Errorf("%s: %v %% of %d, want %v of %d", name, percent, of, c.percent, c.of)
		}
	}
}

// Tools name files from the folder that they were told of, or that they ran in: another file of the same name is not meant.
func TestLocated(t *testing.T) {
	covered := func(filename string, sources ...string) string {
		text := "<coverage><sources>"
		for _, source := range sources {
			text += "<source>" + source + "</source>"
		}
		return text + "</sources><class filename='" + filename + "'><line number='1' hits='1'/></class></coverage>"
	}
	tree := []string{"main.py", "src/shop/main.py", "src/shop/cart.py", "src/pay/main.py", "web/src/a.js", "src/a.js"}
	for name, c := range map[string]struct{ text, folder, want string }{
		"from a source": {covered("cart.py", "/checkout/src/shop"), ".", "src/shop/cart.py"},
		"from a source, where another is called so": {covered("main.py", "/checkout/src/shop"), ".", "src/shop/main.py"},
		"from one of two":                     {covered("cart.py", "/checkout/src/pay", "/checkout/src/shop"), ".", "src/shop/cart.py"},
		"from which of two is not told":       {covered("main.py", "/checkout/src/pay", "/checkout/src/shop"), ".", ""},
		"from the root":                       {covered("main.py", "/checkout"), ".", "main.py"},
		"above a source":                      {covered("../pay/main.py", "/checkout/src/shop"), ".", "src/pay/main.py"},
		"absolute":                            {covered("/checkout/src/pay/main.py", "/checkout/src/shop"), ".", "src/pay/main.py"},
		"on Windows":                          {covered(`shop\main.py`, `C:\work\src`), ".", "src/shop/main.py"},
		"beside its report":                   {"SF:src/a.js\nDA:1,1\n", "web/coverage", "web/src/a.js"},
		"from the root, its report elsewhere": {"SF:src/a.js\nDA:1,1\n", "out", "src/a.js"},
	} {
		p, err := coverage.Read(strings.NewReader(c.text), c.folder)
		if err != nil {
			t.Fatal(err)
		}
		located := p.Located(tree)
		if got := strings.Join(located.Files(), " "); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// The same file in two reports counts once, wherever they lie.
func TestAFileOfSeveralReports(t *testing.T) {
	for name, text := range map[string]string{"go": goProfile, "absolute": "SF:/checkout/a.js\nDA:1,1\nDA:2,0\nend_of_record\n"} {
		var all coverage.Profile
		for _, folder := range []string{".", "a", "b/c"} {
			p, err := coverage.Read(strings.NewReader(text), folder)
			if err != nil {
				t.Fatal(err)
			}
			all.Merge(p)
		}
		once := read(t, text)
		_, want := once.Whole()
		if _, of := all.Whole(); of != want {
			t.Errorf("%s: %d, want %d", name, of, want)
		}
	}
}

func TestReportsHaveABound(t *testing.T) {
	var b strings.Builder
	b.WriteString("SF:a\n")
	for n := range coverage.Most + 1 {
		fmt.Fprintf(&b, "DA:%d,1\n", n+1)
	}
	if _, err := coverage.Read(strings.NewReader(b.String()), "."); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("%v", err)
	}
}

// Folders are kept once, whatever files there are beside them, and only so many.
func TestSourcesOfManyFiles(t *testing.T) {
	const files = 5000
	source := "<source>/checkout/" + strings.Repeat("x", 100) + "%d</source>\n"
	var b strings.Builder
	b.WriteString("<coverage><sources>\n")
	for n := range files {
		fmt.Fprintf(&b, source+"<class filename='%d.py'><line number='1' hits='1'/></class>\n", n%100, n)
	}
	b.WriteString("</sources></coverage>")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	p, err := coverage.Read(strings.NewReader(b.String()), "reports")
	runtime.ReadMemStats(&after)
	if err != nil || p.Parts() != files {
		t.Fatalf("%v, %d lines", err, p.Parts())
	}
	if took := after.TotalAlloc - before.TotalAlloc; took > 40<<20 {
		t.Errorf("%d MiB for a report of %d KiB", took>>20, b.Len()>>10)
	}
	if located := p.Located([]string{"4999.py"}); !slices.Equal(located.Files(), []string{"4999.py"}) {
		t.Errorf("%v", located.Files())
	}
}

// The folders of a thousand modules are looked in, each of which has files that are called the same. More are passed over, and fail nothing.
func TestSourcesOfManyModules(t *testing.T) {
	const modules = 1100
	var sources, classes strings.Builder
	var tree []string
	for n := range modules {
		fmt.Fprintf(&sources, "<source>/builds/acme/platform/modules/m%d/src/main/java</source>\n", n)
		for _, name := range []string{fmt.Sprintf("acme/m%d/Main.java", n), "Main.java"} {
			tree = append(tree, fmt.Sprintf("modules/m%d/src/main/java/%s", n, name), "attic/"+name)
		}
		fmt.Fprintf(&classes, "<class filename='acme/m%d/Main.java'><line number='1' hits='1'/></class>\n", n)
	}
	report := func(sources string) string {
		return "<coverage><sources>" + sources + "</sources>" + classes.String() + "<class filename='Main.java'><line number='1' hits='1'/></class></coverage>"
	}
	p := read(t, report(sources.String()))
	located := p.Located(tree)
	here := 0
	for _, file := range located.Files() {
		if strings.HasPrefix(file, "modules/") {
			here++
		}
	}
	if here != 1000 {
		t.Errorf("%d files are found by the folders of their modules", here)
	}
	long := "<source>/" + strings.Repeat("x", 1<<20) + "</source><source>/checkout/modules/m1/src/main/java</source>"
	p = read(t, report(long))
	if located := p.Located(tree); !slices.Contains(located.Files(), "modules/m1/src/main/java/Main.java") {
		t.Error("a folder is not looked in beside one that is too long")
	}
}

// A name is as long as a report says: to look for it takes no longer than to read it.
func TestALongNameIsLookedForAtOnce(t *testing.T) {
	p := read(t, "SF:"+strings.Repeat("a/", 1<<18)+"b.js\nDA:1,1\n")
	tree := []string{"a/b.js"}
	for n := range 100 {
		tree = append(tree, fmt.Sprintf("%d.js", n))
	}
	began := time.Now()
	located := p.Located(tree)
	if got := located.Files(); !slices.Equal(got, []string{"a/b.js"}) {
		t.Errorf("%q", got)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestUnreadable(t *testing.T) {
	for text, want := range map[string]string{
		"":                                   "empty",
		"\xef\xbb\xbf  \n":                   "empty",
		"PK\x03\x04":                         "line 1: neither",
		"mode: set\nfile.go:1.2,3.4 1\n":     "line 2: want file:line.column",
		"mode: set\n\nfile.go:0.2,3.4 1 1\n": "line 3: no block",
		"mode: set\nfile.go:1.1,99999999999.1 1 1\n": "line 2: no block",
		"mode: set\nnothing here\n":                  "line 2: no file",
		"TN:\nDA:1,1\n":                              "line 2: DA before SF",
		"SF:a.js\nDA:1\n":                            "line 2: want DA:line,hits",
		"SF:\n":                                      "line 1: SF without a file",
		"<coverage>\n<line number='1' hits='1'/></coverage>":                             "line 2: a line outside of a class",
		"<coverage><class filename='a'>\n<line number='x' hits='1'/></class></coverage>": `line 2: number="x"`,
		"<testsuite/>":        "the root of Cobertura's XML is <coverage>, not <testsuite>",
		"<coverage>\n<class>": "line 2: a class without filename",
		"<coverage>\n<a></b>": "line 2:",
		"<!-- nothing -->":    "no <coverage>",
	} {
		if _, err := coverage.Read(strings.NewReader(text), "."); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// What the go command writes is read as the go command reads it.
func TestProfileOfTheGoCommand(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":      "module example.com/m\n\ngo 1.25\n",
		"a/a.go":      "package a\n\nfunc Abs(n int) int {\n\tif n < 0 {\n\t\treturn -n\n\t}\n\treturn n\n}\n",
		"a/a_test.go": "package a\n\nimport \"testing\"\n\nfunc TestAbs(t *testing.T) {\n\tif Abs(1) != 1 {\n\t\tt.Fail()\n\t}\n}\n",
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("go", "test", "-coverprofile=cover.out", "./...")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "66.7%") {
		t.Fatalf("%v %s", err, out)
	}
	p, err := coverage.ReadFile(filepath.Join(dir, "cover.out"))
	if err != nil {
		t.Fatal(err)
	}
	if percent, of := p.Whole(); math.Abs(percent-200./3) > 1e-9 || of != 3 {
		t.Errorf("%v %% of %d", percent, of)
	}
	located := p.Located([]string{"a/a.go"})
	if percent, of := located.Changed(map[string][]coverage.Range{"a/a.go": {{From: 5, To: 7}}}); math.Abs(percent-100./3) > 1e-9 || of != 3 {
		t.Errorf("changed: %v %% of %d", percent, of) // the closing brace belongs to the block
	}
}

func FuzzRead(f *testing.F) {
	for _, text := range []string{goProfile, cobertura, lcov, "mode: set\n", "<coverage/>", "SF:a\nDA:1,2"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := coverage.Read(strings.NewReader(text), ".")
		if err != nil {
			return
		}
		if percent, of := p.Whole(); percent < 0 || percent > 100 || of < 0 {
			t.Errorf("%v %% of %d", percent, of)
		}
	})
}
