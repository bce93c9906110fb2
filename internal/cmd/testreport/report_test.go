package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// runs the real go command on a small module, so that the report is held against what go test says today.
func TestReport(t *testing.T) {
	tests := []struct {
		name     string
		files    map[string]string
		ok       bool
		last     string
		want     []string
		dontShow []string
	}{
		{
			name: "passes and skips",
			files: map[string]string{"a_test.go": `package a
import "testing"
func TestPass(t *testing.T) { t.Log("chatter"); t.Run("one", func(t *testing.T) {}); t.Run("two", func(t *testing.T) {}) }
func TestSkip(t *testing.T) { t.Skip("needs a server on the PATH") }`},
			ok: true, last: "2 passed, 0 failed, 1 skipped",
			want:     []string{"ok    example.com/a  2 passed, 1 SKIPPED", "TestSkip: a_test.go:4: needs a server on the PATH"},
			dontShow: []string{"chatter"},
		},
		{
			name: "failure in a subtest counts once",
			files: map[string]string{"a_test.go": `package a
import "testing"
func TestBad(t *testing.T) { t.Run("inner", func(t *testing.T) { t.Error("three is not four") }) }
func TestGood(t *testing.T) { t.Log("chatter") }`},
			last: "1 passed, 1 failed, 0 skipped",
			want: []string{"FAIL  example.com/a", "three is not four", "FAILED packages: example.com/a"}, dontShow: []string{"chatter"},
		},
		{
			name:  "build failure",
			files: map[string]string{"a_test.go": "package a\nimport \"testing\"\nfunc TestX(t *testing.T) { undefinedThing() }"},
			last:  "0 passed, 1 failed, 0 skipped", want: []string{"undefined: undefinedThing"},
		},
		{
			name: "panic",
			files: map[string]string{"a_test.go": `package a
import "testing"
func TestX(t *testing.T) { var m map[string]int; m["a"] = 1 }`},
			last: "0 passed, 1 failed, 0 skipped", want: []string{"assignment to entry in nil map"},
		},
		{
			name: "ends outside a test",
			files: map[string]string{"a_test.go": `package a
import ("fmt"; "os"; "testing")
func TestMain(m *testing.M) { m.Run(); fmt.Println("goroutine left behind"); os.Exit(3) }
func TestX(t *testing.T) {}`},
			last: "1 passed, 1 failed, 0 skipped", want: []string{"goroutine left behind"},
		},
		{
			name:  "no test at all",
			files: map[string]string{"a.go": "package a\n"},
			last:  "0 passed, 0 failed, 0 skipped", want: []string{"1 packages without tests", "no test ran"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			tt.files["go.mod"] = "module example.com/a\n\ngo 1.26\n"
			for name, body := range tt.files {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(body), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			cmd := exec.Command("go", "test", "-json", "./...")
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=")
			out, _ := cmd.Output() // fails on purpose in most rows
			var b strings.Builder
			r := newReport(&b)
			if err := r.read(strings.NewReader(string(out))); err != nil {
				t.Fatal(err)
			}
			if ok := r.close(); ok != tt.ok {
				t.Errorf("close() = %v, want %v", ok, tt.ok)
			}
			got := b.String()
			if !strings.HasSuffix(got, "\n"+tt.last+"\n") {
				t.Errorf("last line is not %q", tt.last)
			}
			for _, w := range tt.want {
				if !strings.Contains(got, w) {
					t.Errorf("%q is missing", w)
				}
			}
			for _, w := range tt.dontShow {
				if strings.Contains(got, w) {
					t.Errorf("%q should not be shown", w)
				}
			}
			if t.Failed() {
				t.Log(got)
			}
		})
	}
}

func TestReportOfABrokenStream(t *testing.T) {
	var b strings.Builder
	r := newReport(&b)
	in := "go: cannot load module\n" + `{"Action":"start","Package":"example.com/a"}` + "\n" + `{"Action":"run","Package":"example.com/a","Test":"TestX"}`
	if err := r.read(strings.NewReader(in)); err != nil {
		t.Fatal(err)
	}
	if r.close() {
		t.Error("a run that broke off was called good")
	}
	for _, w := range []string{"go: cannot load module", "example.com/a  did not finish", "0 passed, 1 failed"} {
		if !strings.Contains(b.String(), w) {
			t.Errorf("%q is missing in:\n%s", w, b.String())
		}
	}
}
