package sbom

import (
	"bytes"
	"runtime/debug"
	"strings"
	"testing"
)

func TestBill(t *testing.T) {
	p := Program{Digest: strings.Repeat("ab", 32), Info: &debug.BuildInfo{
		GoVersion: "go1.26.8 X:nothing", Path: "example.org/api/cmd/api", Main: debug.Module{Path: "example.org/api", Version: "(devel)"},
		Deps: []*debug.Module{
			{Path: "example.org/one", Version: "v1.0.0", Sum: "h1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="},
			{Path: "example.org/two", Version: "v1.0.0", Replace: &debug.Module{Path: "example.org/fork", Version: "v1.0.1"}},
			{Path: "example.org/three", Version: "v1.0.0", Replace: &debug.Module{Path: "./three"}},
		},
	}}
	var asked []string
	write := func() []byte {
		var out bytes.Buffer
		asked = nil
		bom := p.Bill(Options{Name: "api", Revision: "c0ffee", Licences: func(module, version string) []string {
			asked = append(asked, module+"@"+version)
			return []string{"MIT", "BSD-3-Clause"}[:len(module)%2+1]
		}})
		if err := Write(&out, bom); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	first := write()
	if !bytes.Equal(first, write()) {
		t.Error("the same program gives another bill")
	}
	for _, part := range []string{
		`"pkg:golang/std@1.26.8"`, `"pkg:golang/example.org/one@v1.0.0"`, `"pkg:golang/example.org/fork@v1.0.1"`, `"pkg:golang/example.org/api@c0ffee"`,
		`"version": "c0ffee"`, `"name": "api"`, `"id": "MIT"`, strings.Repeat("0", 64),
	} {
		if !strings.Contains(string(first), part) {
			t.Errorf("the bill lacks %s:\n%s", part, first)
		}
	}
	if strings.Contains(string(first), "example.org/two") {
		t.Error("what is replaced is in the bill")
	}
	if strings.Contains(strings.Join(asked, " "), "example.org/api") {
		t.Error("the project's own module was asked for")
	}
	for _, module := range []string{"example.org/one@v1.0.0", "example.org/fork@v1.0.1"} {
		if !strings.Contains(strings.Join(asked, " "), module) {
			t.Errorf("nobody asked for the licence of %s", module)
		}
	}
}
