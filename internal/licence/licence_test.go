package licence_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lemnis/lemnis/internal/licence"
)

// text is a licence's, from the library's own tests: lines of what it has to be, an empty one, the text.
func text(t *testing.T, name string) string {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/google/licensecheck").Output()
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "testdata", name+".t1"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(file), "\n\n")
	return rest
}

// The licence of a real module, where the go command keeps it.
func TestOfRealModule(t *testing.T) {
	version, err := exec.Command("go", "list", "-m", "-f", "{{.Version}}", "golang.org/x/mod").Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := licence.Of(licence.Cache(t.Context()), "golang.org/x/mod", strings.TrimSpace(string(version))); !slices.Equal(got, []string{"BSD-3-Clause"}) {
		t.Errorf("%v", got)
	}
}

// The cache is the one that the go command uses, also where `go env -w` has moved it; where it can not be asked, the one by the environment.
func TestCache(t *testing.T) {
	if os.Getenv("LEMNIS_TEST_CACHE") != "" {
		fmt.Println("cache: " + licence.Cache(t.Context()))
		return
	}
	dir := t.TempDir()
	config, moved, said, first := filepath.Join(dir, "env"), filepath.Join(dir, "moved"), filepath.Join(dir, "said"), filepath.Join(dir, "first")
	if err := os.WriteFile(config, []byte("GOMODCACHE="+moved+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	byPath := filepath.Join(first, "pkg", "mod")
	for name, tc := range map[string]struct {
		variables []string
		want      string
	}{
		"moved":                 {[]string{"GOENV=" + config}, moved},
		"said":                  {[]string{"GOMODCACHE=" + said, "GOENV=" + config}, said},
		"by the path":           {[]string{"GOPATH=" + first + ":" + dir}, byPath},
		"no go":                 {[]string{"GOPATH=" + first + ":" + dir, "PATH="}, byPath},
		"no go, said":           {[]string{"GOMODCACHE=" + said, "PATH="}, said},
		"no go, no home":        {[]string{"PATH=", "HOME="}, ""},
		"a toolchain not here":  {[]string{"GOMODCACHE=" + said, "GOTOOLCHAIN=go1.99.0", "GOPROXY=off"}, said},
		"a toolchain, moved":    {[]string{"GOENV=" + config, "GOTOOLCHAIN=go1.99.0", "GOPROXY=off"}, moved},
		"go refuses, said":      {[]string{"GOMODCACHE=" + said, "GOPATH=not/whole"}, said},
		"go has no cache, said": {[]string{"GOMODCACHE=" + said, "GOCACHE=off"}, said},
	} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestCache$")
		cmd.Env = append(append(os.Environ(), "LEMNIS_TEST_CACHE=1", "GOMODCACHE=", "GOENV=off", "GOPATH=", "GOTOOLCHAIN=local"), tc.variables...)
		out, err := cmd.CombinedOutput()
		if got, _, _ := strings.Cut(string(out), "\n"); err != nil || got != "cache: "+tc.want {
			t.Errorf("%s: %q, %v; want %q", name, out, err, tc.want)
		}
	}
}

// A licence with a clause of its own is not that licence, however long it is itself.
func TestOwnClause(t *testing.T) {
	clause := strings.Repeat("The right to sell the software is not granted to anybody by this licence. ", 7)
	for name, want := range map[string]string{"MIT": "MIT", "BSD-3-Clause": "BSD-3-Clause", "Apache-2.0": "Apache-2.0", "GPL-3.0": "GPL-3.0"} {
		whole := text(t, name)
		if got := licence.Recognise([]byte(whole)); !slices.Equal(got, []string{want}) {
			t.Errorf("%s: %v", name, got)
		}
		if got := licence.Recognise([]byte(whole + clause)); got != nil {
			t.Errorf("%s with a clause of its own: %v", name, got)
		}
	}
	if got := licence.Recognise([]byte(text(t, "CommonsClause") + text(t, "MIT"))); !slices.Equal(got, []string{"CommonsClause", "MIT"}) {
		t.Errorf("a clause that is known: %v", got)
	}
}

func TestOf(t *testing.T) {
	mit, gpl := text(t, "MIT"), text(t, "GPL-3.0")
	cache := t.TempDir()
	for name, text := range map[string]string{
		"!upper/LICENSE": mit, "two/LICENSE": mit, "two/COPYING": gpl, "half/LICENSE": mit, "half/LICENSE.extra": "All rights reserved; ask us.",
		"none/README": mit, "code/LICENSE": mit, "code/license.go": "package code", "odd/LICENSE": "You may look at it on Sundays, which is when we do not look.", "more/LICENSE": mit + strings.Repeat(" and whatever we say besides", 20),
	} {
		module, file, _ := strings.Cut(name, "/")
		folder := filepath.Join(cache, "example.org", module+"@v1.0.0")
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for module, want := range map[string][]string{
		"Upper": {"MIT"}, "two": {"GPL-3.0", "MIT"}, "code": {"MIT"}, "half": nil, "none": nil, "odd": nil, "more": nil, "absent": nil, "../two": nil,
	} {
		if got := licence.Of(cache, "example.org/"+module, "v1.0.0"); !slices.Equal(got, want) {
			t.Errorf("%s: %v", module, got)
		}
	}
	if got := licence.Of("", "example.org/two", "v1.0.0"); got != nil {
		t.Errorf("without a cache: %v", got)
	}
}
