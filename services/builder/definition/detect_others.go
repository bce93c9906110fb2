package definition

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"strings"
)

// detectRust takes a crate or a workspace of crates; which program it packages is said under package.
func detectRust(tree fs.FS) (steps []Step, p *Package, found []string, err error) {
	text, err := read(tree, "Cargo.toml")
	if text == "" || err != nil {
		return nil, nil, nil, err
	}
	flags := ""
	if first(tree, "Cargo.lock") != "" {
		flags = " --locked"
	}
	what := "Cargo.toml: a Rust crate"
	if strings.Contains(text, "[workspace]") {
		what, flags = "Cargo.toml: a workspace of Rust crates", flags+" --workspace"
	}
	return []Step{
		{Name: "compile", Run: "cargo build --release" + flags, Network: true, Cache: []string{"target"}},
		{Name: "test", Run: "cargo test" + flags, Network: true, Cache: []string{"target"}},
	}, nil, []string{what}, nil
}

type nodeManager struct{ lock, name, install, run string }

// managers of Node packages, by the lock file that each leaves, the strictest way to install and how it runs a script.
var managers = []nodeManager{
	{"pnpm-lock.yaml", "pnpm", "pnpm install --frozen-lockfile", "pnpm run "},
	{"yarn.lock", "yarn", "yarn install --frozen-lockfile", "yarn run "},
	{"bun.lock", "bun", "bun install --frozen-lockfile", "bun run "},
	{"package-lock.json", "npm", "npm ci", "npm run "},
	{"npm-shrinkwrap.json", "npm", "npm ci", "npm run "},
	{"package.json", "npm", "npm install", "npm run "},
}

// detectNode takes the scripts of a package.json that everybody names alike.
func detectNode(tree fs.FS) (steps []Step, p *Package, found []string, err error) {
	text, err := read(tree, "package.json")
	if text == "" || err != nil {
		return nil, nil, nil, err
	}
	var described struct {
		Scripts        map[string]string `json:"scripts"`
		PackageManager string            `json:"packageManager"`
	}
	if err := json.Unmarshal([]byte(text), &described); err != nil {
		return nil, nil, nil, fmt.Errorf("package.json: %w", err)
	}
	wanted, _, _ := strings.Cut(described.PackageManager, "@")
	m, ok := manager(tree, wanted)
	if !ok {
		return nil, nil, nil, fmt.Errorf("package.json: package manager %q is not known; there are npm, pnpm, yarn and bun", wanted)
	}
	steps = []Step{{Name: "install", Run: m.install, Network: true, Cache: []string{"node_modules"}}}
	for _, script := range []string{"lint", "build", "test"} {
		if body, there := described.Scripts[script]; there && !strings.Contains(body, "no test specified") { // what npm init writes
			steps = append(steps, Step{Name: script, Run: m.run + script})
		}
	}
	return steps, nil, []string{fmt.Sprintf("package.json: a Node package, by %s", m.name)}, nil
}

// manager is the one that the package names, else the one whose lock file is there.
func manager(tree fs.FS, wanted string) (nodeManager, bool) {
	var named nodeManager
	for _, m := range managers {
		if wanted != "" && m.name != wanted {
			continue
		}
		if first(tree, m.lock) != "" {
			return m, true
		}
		if named.name == "" {
			named = m
		}
	}
	return named, named.name != ""
}

// detectPython takes a project with its tests, in an environment of its own.
func detectPython(tree fs.FS) (steps []Step, p *Package, found []string, err error) {
	name := first(tree, "pyproject.toml", "setup.py", "setup.cfg", "requirements.txt")
	if name == "" {
		return nil, nil, nil, nil
	}
	text, err := read(tree, name)
	if err != nil {
		return nil, nil, nil, err
	}
	install := []string{"python3 -m venv .venv", ". .venv/bin/activate"}
	if first(tree, "requirements.txt") != "" {
		install = append(install, "pip install -r requirements.txt")
	}
	project := name == "setup.py" || name == "setup.cfg" || strings.Contains(text, "[project]") || strings.Contains(text, "[build-system]")
	if project {
		install = append(install, "pip install .")
	}
	test := "python -m unittest discover"
	development := first(tree, "requirements-dev.txt", "dev-requirements.txt", "requirements-test.txt")
	if development != "" {
		install = append(install, "pip install -r "+development)
	}
	reports := Reports{}
	if first(tree, "pytest.ini", "conftest.py", "tox.ini") != "" || strings.Contains(text, "pytest") || dir(tree, "tests") {
		install = append(install, "pip install pytest")
		test, reports = "python -m pytest --junitxml=junit.xml", Reports{Tests: []string{"junit.xml"}}
	}
	return []Step{
		{Name: "install", Run: strings.Join(install, "\n") + "\n", Network: true, Cache: []string{".venv"}},
		{Name: "test", Run: ". .venv/bin/activate\n" + test + " || { code=$?; test $code = 5 || exit $code; } # 5: there are no tests\n", Reports: reports},
	}, nil, []string{name + ": a Python project"}, nil
}

func dir(tree fs.FS, name string) bool {
	info, err := fs.Stat(tree, name)
	return err == nil && info.IsDir()
}
