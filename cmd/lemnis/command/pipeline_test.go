package command_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lemnis/lemnis/cmd/lemnis/command"
)

func TestPipeline(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if code, _, complaint := lemnis(t.Context(), "pipeline", "show", dir); code != 1 || !strings.Contains(complaint, "no .lemnis.yaml") {
		t.Errorf("of nothing: exit %d: %s", code, complaint)
	}

	put("go.mod", "module example.org/shop\n")
	put("main.go", "package main\n\nfunc main() {}\n")
	code, detected, complaint := lemnis(t.Context(), "pipeline", "show", dir)
	if code != 0 || !strings.Contains(detected, "# go.mod: a Go module\n") || !strings.Contains(detected, "executable: bin/shop") {
		t.Fatalf("exit %d: %s%s", code, detected, complaint)
	}

	// What is shown is a file to edit.
	put(".lemnis.yaml", detected)
	_, again, _ := lemnis(t.Context(), "pipeline", "show", dir)
	if _, steps, _ := strings.Cut(detected, "steps:"); again != "# .lemnis.yaml\nsteps:"+steps {
		t.Errorf("shown again:\n%s\nwas:\n%s", again, detected)
	}
	code, tasks, _ := lemnis(t.Context(), "pipeline", "show", dir, "--tasks")
	if want := "compile\ntest after compile\npackage after test\n"; code != 0 || tasks != want {
		t.Errorf("tasks, exit %d:\n%s", code, tasks)
	}

	put(".lemnis.yaml", "steps:\n  - name: a\n    run: x\n    need: []\n")
	if code, _, complaint := lemnis(t.Context(), "pipeline", "show", dir); code != 1 || complaint != "lemnis: .lemnis.yaml:4:5: steps[0].need: there is no such field; is \"needs\" meant?\n" {
		t.Errorf("a mistake, exit %d: %s", code, complaint)
	}
}

func TestPipelineImport(t *testing.T) {
	file := filepath.Join(t.TempDir(), "woodpecker.yaml")
	if err := os.WriteFile(file, []byte("steps:\n  - {name: test, image: golang, commands: [go test ./...], privileged: true}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, complaint := lemnis(t.Context(), "pipeline", "import", file)
	if code != 0 || !strings.Contains(out, "image: golang") || !strings.Contains(complaint, "steps.test.privileged: has no like here") {
		t.Errorf("exit %d: %s%s", code, out, complaint)
	}
	if code, _, complaint := lemnis(t.Context(), "pipeline", "import", file+"x"); code != 1 || !strings.Contains(complaint, "no such file") {
		t.Errorf("exit %d: %s", code, complaint)
	}
	if code, out, _ := lemnis(t.Context(), "pipeline", "schema"); code != 0 || !strings.Contains(out, `"steps"`) {
		t.Errorf("schema, exit %d: %s", code, out)
	}
}

func TestPipelineRun(t *testing.T) {
	dir, output, secrets := t.TempDir(), filepath.Join(t.TempDir(), "out"), t.TempDir()
	put := func(file, text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	definition := filepath.Join(dir, ".lemnis.yaml")
	put(filepath.Join(secrets, "proxy"), "hunter2-and-more")
	put(definition, `steps:
  - {name: make, run: "mkdir bin; echo program >bin/a; echo of $TOKEN", secrets: {TOKEN: "secret:proxy"}}
  - {name: check, run: "test -f bin/a"}
  - {name: beside, run: "exit 4", needs: [], when: "change != ''"}
package: {executable: bin/a}
`)
	code, out, complaint := lemnis(t.Context(), "pipeline", "run", dir, "--output", output, "--secrets", secrets)
	if code != 0 || !strings.Contains(out, "of ***\n") || !strings.Contains(out, "check\n") || !strings.Contains(out, "package  a sha256:") {
		t.Errorf("exit %d: %s%s", code, out, complaint)
	}
	for file, want := range map[string]string{"bin/a": "program\n", "build.log": "$ mkdir bin; echo program >bin/a; echo of $TOKEN\nof ***\n$ test -f bin/a\n"} {
		text, err := os.ReadFile(filepath.Join(output, file))
		if _, kept, _ := strings.Cut(string(text), "NOT ISOLATED"); err != nil || string(text) != want && kept == "" {
			t.Errorf("%s: %q, %v", file, text, err)
		}
	}

	code, out, complaint = lemnis(t.Context(), "pipeline", "run", dir, "--step", "beside", "--change", "7", "--quiet")
	if code != 1 || complaint != "lemnis: beside: exit status 4\n" || strings.Contains(out, "check") {
		t.Errorf("a failure, exit %d: %s%s", code, out, complaint)
	}
	if code, _, complaint := lemnis(t.Context(), "pipeline", "run", dir, "--isolation", "some"); code != 2 || !strings.Contains(complaint, "want auto, required or off") {
		t.Errorf("exit %d: %s", code, complaint)
	}
	if code, _, complaint := lemnis(t.Context(), "pipeline", "run", filepath.Join(dir, "nowhere")); code != 3 || !strings.Contains(complaint, "no such file") {
		t.Errorf("exit %d: %s", code, complaint)
	}
	put(definition, "steps: [{name: a, run: 'echo begun; sleep 600'}]\n")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	seen, complaints := &until{word: "\nbegun", then: cancel}, &strings.Builder{}
	if code := command.Run(ctx, []string{"pipeline", "run", dir}, strings.NewReader(""), seen, complaints); code != 3 || !strings.Contains(complaints.String(), "canceled") {
		t.Errorf("cancelled, exit %d: %s%s", code, seen.text.String(), complaints)
	}
}

// until calls then once a word was written.
type until struct {
	word string
	then func()
	text strings.Builder
}

func (u *until) Write(b []byte) (int, error) {
	u.text.Write(b)
	if strings.Contains(u.text.String(), u.word) {
		u.then()
	}
	return len(b), nil
}
