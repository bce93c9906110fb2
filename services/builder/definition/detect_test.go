package definition

import (
	"errors"
	"os"
	"strings"
	"testing"
	"testing/fstest"
)

func tree(files ...string) fstest.MapFS {
	fs := fstest.MapFS{}
	for _, file := range files {
		name, text, _ := strings.Cut(file, "|")
		fs[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return fs
}

const main = "package main\n\nfunc main() {}\n"

func TestDetect(t *testing.T) {
	for name, c := range map[string]struct {
		tree fstest.MapFS
		main string
		want string // name: first line of the script, … | what is packaged
	}{
		"a Go service": {tree("go.mod|module x", "main.go|"+main, "a/a.go|package a"), "",
			"compile: go build -trimpath -o /dev/null ./..., test: go test -json -count=1 -trimpath -coverprofile=cover.out ./... > tests.json, package: go build -trimpath -ldflags='-s -w' -o bin/x . | bin/x"},
		"its main package below": {tree("go.mod|module x", "cmd/api/main.go|// Command api.\n"+main, "tools/gen.go|//go:build ignore\n\n"+main, "testdata/m.go|"+main, "x_test.go|"+main, "vendor/v/m.go|"+main), "",
			"compile: go build -trimpath -o /dev/null ./..., test: go test -json -count=1 -trimpath -coverprofile=cover.out ./... > tests.json, package: go build -trimpath -ldflags='-s -w' -o bin/api ./cmd/api | bin/api"},
		"a Go library": {tree("go.mod|module x", "a.go|package a"), "",
			"compile: go build -trimpath -o /dev/null ./..., test: go test -json -count=1 -trimpath -coverprofile=cover.out ./... > tests.json | "},
		"several programs": {tree("go.mod|module x", "cmd/a/m.go|"+main, "cmd/b/m.go|"+main), "",
			"compile: go build -trimpath -o /dev/null ./..., test: go test -json -count=1 -trimpath -coverprofile=cover.out ./... > tests.json | "},
		"one of several programs": {tree("go.mod|module example.org/x/v2", "cmd/a/m.go|"+main, "m.go|"+main), "example.org/x/v2",
			"compile: go build -trimpath -o /dev/null ./..., test: go test -json -count=1 -trimpath -coverprofile=cover.out ./... > tests.json, package: go build -trimpath -ldflags='-s -w' -o bin/x . | bin/x"},
		"tests that ask for their place": {tree("go.mod|module x", "a_test.go|package a // runtime.Caller"), "",
			"compile: go build -trimpath -o /dev/null ./..., test: go test -json -count=1 -coverprofile=cover.out ./... > tests.json | "},
		"a Go workspace": {tree("go.work|go 1.26\nuse ./a", "a/go.mod|module a", "a/a.go|package a"), "",
			"compile: go build -trimpath -o /dev/null work, test: go test -json -count=1 -trimpath -coverprofile=cover.out work > tests.json | "},
		"Node": {tree(`package.json|{"scripts": {"test": "jest", "build": "tsc", "start": "node ."}}`, "package-lock.json|{}"), "",
			"install: npm ci, build: npm run build, test: npm run test | "},
		"Node as npm init leaves it": {tree(`package.json|{"scripts": {"test": "echo \"Error: no test specified\" && exit 1"}}`), "",
			"install: npm install | "},
		"Node by pnpm": {tree(`package.json|{"packageManager": "pnpm@9.1.0", "scripts": {"test": "vitest run"}}`), "",
			"install: pnpm install --frozen-lockfile, test: pnpm run test | "},
		"Node by yarn": {tree(`package.json|{"scripts": {"lint": "eslint ."}}`, "yarn.lock|"), "",
			"install: yarn install --frozen-lockfile, lint: yarn run lint | "},
		"Rust": {tree("Cargo.toml|[package]\nname = \"x\"", "Cargo.lock|"), "",
			"compile: cargo build --release --locked, test: cargo test --locked | "},
		"Rust workspace": {tree("Cargo.toml|[workspace]\nmembers = [\"a\"]"), "",
			"compile: cargo build --release --workspace, test: cargo test --workspace | "},
		"Python": {tree("pyproject.toml|[project]\nname = \"x\"\n[tool.pytest.ini_options]"), "",
			"install: python3 -m venv .venv, test: . .venv/bin/activate | "},
		"Make": {tree("Makefile|VAR := x\n.PHONY: build check\nbuild: a b\n\tcc x\ncheck:\n\t./run\n"), "",
			"build: make build, test: make check | "},
		"Make with a first target only": {tree("Makefile|prog: prog.c\n\tcc prog.c\n"), "",
			"build: make | "},
		"a Dockerfile alone": {tree("Dockerfile|FROM scratch"), "",
			"check: test -s Dockerfile | Dockerfile by the network"},
		"Make and a Dockerfile": {tree("Makefile|build:\n\ttrue\n", "Dockerfile|FROM scratch"), "",
			"build: make build | Dockerfile by the network"},
		"Go and Node": {tree("go.mod|module x", "main.go|"+main, `package.json|{"scripts": {"build": "vite build"}}`, "Makefile|build:\n\ttrue\n"), "",
			"go-compile: go build -trimpath -o /dev/null ./..., go-test: go test -json -count=1 -trimpath -coverprofile=cover.out ./... > tests.json, go-package: go build -trimpath -ldflags='-s -w' -o bin/x ., node-install: npm install, node-build: npm run build | bin/x"},
	} {
		p, found, err := Detect(c.tree, c.main)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var steps []string
		for _, s := range p.Steps {
			line, _, _ := strings.Cut(s.Run, "\n")
			steps = append(steps, s.Name+": "+line)
		}
		packaged := ""
		if p.Package != nil {
			packaged = p.Package.Executable + p.Package.Dockerfile
			if p.Package.Network {
				packaged += " by the network"
			}
		}
		if got := strings.Join(steps, ", ") + " | " + packaged; got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, c.want)
		}
		if len(found) == 0 {
			t.Errorf("%s: nothing says why", name)
		}
		// What was detected can be written down, edited, and read again.
		text, err := Encode(p)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if again, err := Parse(File, text); err != nil || !same(again, p) {
			t.Errorf("%s: %v\n%s", name, err, text)
		}
		if _, err := p.Tasks(t.Context(), Occasion{}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDetectNothing(t *testing.T) {
	if _, _, err := Detect(tree("README.md|hello"), ""); !errors.Is(err, ErrNothing) {
		t.Errorf("got %v", err)
	}
	if _, _, err := Detect(tree("package.json|{"), ""); err == nil || !strings.Contains(err.Error(), "package.json") {
		t.Errorf("got %v", err)
	}
}

func TestDetectNamesTheMainPackagesThatThereAre(t *testing.T) {
	_, _, err := Detect(tree("go.mod|module x", "cmd/a/m.go|"+main), "./cmd/b")
	if !errors.Is(err, ErrNoMain) || !strings.Contains(err.Error(), "./cmd/b; there is: ./cmd/a") {
		t.Errorf("got %v", err)
	}
}

func TestDetectTakesAMainPackageHoweverItIsWritten(t *testing.T) {
	files := tree("go.mod|module example.org/x", "m.go|"+main, "cmd/a/m.go|"+main)
	for written, built := range map[string]string{
		".": ".", "./": ".", "./.": ".", "example.org/x": ".", "./cmd/a": "./cmd/a", "./cmd/a/": "./cmd/a", "example.org/x/cmd/a": "./cmd/a",
	} {
		p, _, err := Detect(files, written)
		if err != nil || p.Package == nil || !strings.HasSuffix(p.Steps[len(p.Steps)-1].Run, " "+built) {
			t.Errorf("%s: got %+v, %v", written, p.Steps, err)
		}
	}
}

func TestLoadPrefersTheFile(t *testing.T) {
	p, found, err := Load(tree("go.mod|module x", File+"|steps: [{name: a, run: make it}]"), "")
	if err != nil || len(p.Steps) != 1 || p.Steps[0].Run != "make it" || found[0] != File {
		t.Errorf("got %+v, %v, %v", p, found, err)
	}
	if _, _, err := Load(tree(File+"|steps: [{name: a}]"), ""); err == nil || !strings.HasPrefix(err.Error(), ".lemnis.yaml:1:9: steps[0].run") {
		t.Errorf("got %v", err)
	}
	// A link does not lead the reader out of the checkout.
	dir := t.TempDir()
	if err := os.Symlink("/etc/passwd", dir+"/"+File); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = root.Close() }()
	if _, _, err := Load(root.FS(), ""); err == nil {
		t.Error("a link out of the checkout was followed")
	}
}
