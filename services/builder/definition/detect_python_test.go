package definition

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Both runners end with 5 where there are no tests, which is no failure; all else is told as it is.
func TestPythonWithoutTests(t *testing.T) {
	for name, files := range map[string][]string{"unittest": {"pyproject.toml|[project]"}, "pytest": {"setup.py|", "conftest.py|"}} {
		p, _, err := Detect(tree(files...), "")
		if err != nil {
			t.Fatal(err)
		}
		test := p.Steps[len(p.Steps)-1]
		for code, want := range map[string]int{"0": 0, "1": 1, "2": 2, "4": 4, "5": 0, "139": 139} {
			dir := t.TempDir()
			for file, text := range map[string]string{".venv/bin/activate": "PATH=$PWD/bin:$PATH\n", "bin/python": "#!/bin/sh\nexit " + code + "\n"} {
				if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, file)), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			cmd := exec.CommandContext(t.Context(), "/bin/sh", "-e", "-c", test.Run)
			cmd.Dir = dir
			_ = cmd.Run()
			if got := cmd.ProcessState.ExitCode(); got != want {
				t.Errorf("%s ends with %s: the step ends with %d", name, code, got)
			}
		}
	}
}
