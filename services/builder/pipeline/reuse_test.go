package pipeline

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lemnis/lemnis/internal/executor"
)

// builds runs pipelines of one repository, each on a checkout of its own.
type builds struct {
	t      *testing.T
	kept   string
	secret string
	shared Shared // nil: nobody else's
	now    func() time.Time
	n      int
}

// tree names files by all that they hold.
func tree(files map[string]string) string {
	text, _ := json.Marshal(files)
	return fmt.Sprintf("%x", sha256.Sum256(text))
}

// run runs the pipeline of the master copy.
func (b *builds) run(files map[string]string) Report {
	b.t.Helper()
	return b.change(files, files)
}

// change runs that of a change that was made upon a master copy.
func (b *builds) change(files, base map[string]string) Report {
	b.t.Helper()
	b.n++
	dir, identities := b.t.TempDir(), map[string]string{}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			b.t.Fatal(err)
		}
		identities[name] = fmt.Sprintf("%x", text)
	}
	r, err := Run(b.t.Context(), Spec{Dir: dir, Output: b.t.TempDir(), Kept: b.kept, Tree: tree(files), Base: tree(base), Files: identities, Name: fmt.Sprintf("run-%d", b.n), Shared: b.shared, Now: b.now,
		Host: executor.NewProcess(executor.None), Secret: func(string) (string, error) { return b.secret, nil }})
	if err != nil {
		b.t.Fatalf("%v\n%s", err, r.LogTail)
	}
	return r
}

const reusable = `steps:
  - {name: generate, run: "mkdir -p made; date +%s%N >made/at; ln -s at made/link", inputs: [in], outputs: [made]}
  - {name: test, run: "cp report.xml made/r.xml", reports: {tests: [made/r.xml]}, inputs: [in, report.xml]}
  - {name: pack, run: "cat made/at made/link other >bin; chmod 755 bin", outputs: [bin], inputs: [other]}
package: {executable: bin}
`

func reusableFiles(with map[string]string) map[string]string {
	files := map[string]string{".lemnis.yaml": reusable, "in": "1", "other": "1", "ignored": "1",
		"report.xml": `<testsuite name="s"><testcase name="a"/><testcase name="b"><skipped/></testcase></testsuite>`}
	maps.Copy(files, with)
	return files
}

func TestUnchangedStepsAreNotRunAgain(t *testing.T) {
	t.Parallel()
	b := &builds{t: t, kept: filepath.Join(t.TempDir(), "steps")}
	master := reusableFiles(nil)
	first := b.run(master)
	if !first.Succeeded() || len(first.Reused()) > 0 {
		t.Fatalf("%+v\n%s", first.Steps, first.LogTail)
	}
	for name, c := range map[string]struct {
		files  map[string]string
		reused []string
		same   bool // the executable
	}{
		"nothing":                   {nil, []string{"generate", "test", "pack"}, true},
		"what no step reads":        {map[string]string{"ignored": "2"}, []string{"generate", "test", "pack"}, true},
		"what the last step reads":  {map[string]string{"other": "2"}, []string{"generate"}, false}, // test leaves what it does not say
		"what the first step reads": {map[string]string{"in": "2"}, nil, false},
		"a script":                  {map[string]string{".lemnis.yaml": strings.Replace(reusable, "chmod 755", "chmod 750", 1)}, []string{"generate"}, false},
		"a variable":                {map[string]string{".lemnis.yaml": "environment: {A: b}\n" + reusable}, nil, false},
		"nothing, but always run":   {map[string]string{".lemnis.yaml": strings.Replace(reusable, "inputs: [other]}", "inputs: [other], always: true}", 1)}, []string{"generate"}, false},
		"how long a step may take":  {map[string]string{".lemnis.yaml": strings.Replace(reusable, "inputs: [other]}", "inputs: [other], timeout: 1m}", 1)}, []string{"generate", "test", "pack"}, true},
		"that outputs are said":     {map[string]string{".lemnis.yaml": strings.Replace(reusable, "outputs: [bin], ", "", 1)}, nil, false},
	} {
		r := b.change(reusableFiles(c.files), master)
		if !r.Succeeded() || !slices.Equal(r.Reused(), c.reused) {
			t.Errorf("changed: %s: %+v\n%s", name, r.Steps, r.LogTail)
		}
		if r.Count("pass") != 1 || r.Count("skip") != 1 {
			t.Errorf("changed: %s: tests %+v", name, r.Tests)
		}
		if c.same && r.Digest != first.Digest {
			t.Errorf("changed: %s: %s, first %s", name, r.Digest, first.Digest)
		}
		again := b.run(reusableFiles(c.files))
		for _, r := range []Report{r, again} {
			text, err := os.ReadFile(r.Executable)
			if err != nil || fmt.Sprintf("sha256:%x", sha256.Sum256(text)) != r.Digest || int64(len(text)) != r.Size {
				t.Errorf("changed: %s: what is packaged has %d bytes, and is not %s of %d: %v", name, len(text), r.Digest, r.Size, err)
			}
			if info, err := os.Stat(r.Executable); err != nil || info.Mode() != 0o755 {
				t.Errorf("changed: %s: what is packaged is %v: %v", name, info, err)
			}
		}
		if c.same && len(again.Reused()) != len(first.Steps) {
			t.Errorf("merged: %s: %+v\n%s", name, again.Steps, again.LogTail)
		}
		if len(c.reused) > 0 && (!strings.Contains(r.LogTail, "= generate is not run") || r.Steps[0].Reused != "run-1") {
			t.Errorf("changed: %s: %+v\n%s", name, r.Steps[0], r.LogTail)
		}
	}
}

// A step reads more than it says, and a change uses that: what it left, result or cache, is nobody else's. Once it is merged it is.
func TestWhatAChangeLeavesIsNotTakenForOthers(t *testing.T) {
	t.Parallel()
	b := &builds{t: t, kept: filepath.Join(t.TempDir(), "steps")}
	files := func(hidden, ignored string) map[string]string {
		return map[string]string{"in": "1", "hidden": hidden, "ignored": ignored, ".lemnis.yaml": `steps:
  - {name: a, run: "mkdir -p cache; cat hidden >>cache/seen; cat cache/seen >bin", inputs: [in], outputs: [bin], cache: [cache]}
package: {executable: bin}
`}
	}
	made := func(r Report) string {
		text, err := os.ReadFile(r.Executable)
		if err != nil {
			t.Fatalf("%v: %+v\n%s", err, r.Steps, r.LogTail)
		}
		return string(text)
	}
	master, hostile := files("good ", ""), files("evil ", "")
	check := func(what string, r Report, want string, reused int) {
		t.Helper()
		if got := made(r); got != want || len(r.Reused()) != reused {
			t.Errorf("%s: %q, reused %v; want %q\n%s", what, got, r.Reused(), want, r.LogTail)
		}
	}
	check("a change, before the master copy was ever run", b.change(hostile, master), "evil ", 0)
	check("another change", b.change(files("good ", "other"), master), "good ", 0)
	check("the master copy", b.run(master), "good ", 0)
	check("a change upon it that changes no input", b.change(files("good ", "third"), master), "good ", 1)
	check("the first change again: the same tree", b.change(hostile, master), "evil ", 1)
	scripted := func(hidden string) map[string]string {
		f := files(hidden, "")
		f[".lemnis.yaml"] = "environment: {A: b}\n" + f[".lemnis.yaml"]
		return f
	}
	check("a change that runs with the master copy's cache", b.change(scripted("evil "), master), "good evil ", 0)
	check("another: that cache is as it was", b.change(scripted("fine "), master), "good fine ", 0)
	check("the first of them, merged: its tree is the master copy's", b.run(scripted("evil ")), "good evil ", 1)
	check("what is made upon it", b.change(scripted("more "), scripted("evil ")), "good evil ", 1)
}

// What was carried on from one master copy to the next does not rest on the first being kept.
func TestResultsAreCarriedOn(t *testing.T) {
	t.Parallel()
	b := &builds{t: t, kept: filepath.Join(t.TempDir(), "steps")}
	at := func(n int) map[string]string { return reusableFiles(map[string]string{"ignored": fmt.Sprint(n)}) }
	b.run(at(0))
	for n := 1; n <= 3; n++ {
		if r := b.change(at(n), at(n-1)); !r.Succeeded() || len(r.Reused()) != 3 || r.Steps[0].Reused != "run-1" {
			t.Fatalf("%d: %+v\n%s", n, r.Steps, r.LogTail)
		}
		if err := os.RemoveAll(filepath.Join(b.kept, tree(at(n-1)))); err != nil {
			t.Fatal(err)
		}
	}
	if r := b.change(at(5), at(4)); len(r.Reused()) > 0 {
		t.Errorf("upon a tree that nobody ran: %+v", r.Steps)
	}
}

func TestFailuresAndSecretsAreNotReused(t *testing.T) {
	t.Parallel()
	b := &builds{t: t, kept: filepath.Join(t.TempDir(), "steps")}
	flaky := filepath.Join(t.TempDir(), "flaky")
	files := map[string]string{".lemnis.yaml": "steps: [{name: a, run: 'test -f " + flaky + "', secrets: {S: 'secret:s'}}]\n"}
	if r := b.run(files); r.Succeeded() {
		t.Fatal("it succeeded")
	}
	if err := os.WriteFile(flaky, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{0, 1, 0} {
		if i == 2 {
			b.secret = "another"
		}
		if r := b.run(files); !r.Succeeded() || len(r.Reused()) != want {
			t.Errorf("run %d: %+v\n%s", i, r.Steps, r.LogTail)
		}
	}
}

// What is kept was changed on the disk, or lost with the power: the step is run, and what it leaves is kept again.
func TestABrokenResultIsNotTaken(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(at string) error{
		"changed":        func(at string) error { return os.WriteFile(filepath.Join(at, "0"), []byte("another"), 0o600) },
		"a file is gone": func(at string) error { return os.Remove(filepath.Join(at, "0")) },
		"half removed":   func(at string) error { return os.Remove(filepath.Join(at, resultName)) },
		"empty":          func(at string) error { return os.WriteFile(filepath.Join(at, resultName), nil, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := &builds{t: t, kept: filepath.Join(t.TempDir(), "steps")}
			files := reusableFiles(nil)
			b.run(files)
			own := filepath.Join(b.kept, tree(files))
			entries, err := os.ReadDir(own)
			if err != nil || len(entries) != 3 {
				t.Fatalf("%v %v", entries, err)
			}
			for _, e := range entries {
				if err := damage(filepath.Join(own, e.Name())); err != nil {
					t.Fatal(err)
				}
			}
			if r := b.run(files); !r.Succeeded() || len(r.Reused()) > 0 {
				t.Errorf("taken: %+v\n%s", r.Steps, r.LogTail)
			}
			if r := b.run(files); !r.Succeeded() || len(r.Reused()) != 3 {
				t.Errorf("not kept again: %+v\n%s", r.Steps, r.LogTail)
			}
		})
	}
}

func TestWhatIsKeptIsBounded(t *testing.T) {
	t.Parallel()
	store, now := t.TempDir(), time.Now()
	for name, age := range map[string]time.Duration{"new": 0, "older": time.Hour, "oldest": 2 * time.Hour, "unused": keptFor + time.Hour, unfinished + "1": time.Minute, unfinished + "2": 2 * time.Hour} {
		file := filepath.Join(store, "tree", name, "0")
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, make([]byte, 1000), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, at := range []string{file, filepath.Dir(file)} {
			if err := os.Chtimes(at, now.Add(-age), now.Add(-age)); err != nil {
				t.Fatal(err)
			}
		}
	}
	// A later tree has the same: it counts once, and as long as it is used.
	carried := filepath.Join(store, "later", "new")
	if err := os.MkdirAll(carried, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(store, "tree", "new", "0"), filepath.Join(carried, "0")); err != nil {
		t.Fatal(err)
	}
	if err := sweep(store, now, 2500, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(carried); err != nil {
		t.Error(err)
	}
	var left []string
	entries, _ := os.ReadDir(filepath.Join(store, "tree"))
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if want := []string{"new", "older", unfinished + "1"}; !slices.Equal(left, want) {
		t.Errorf("left %v", left)
	}
}

// Inputs of which no file is there would hold for ever: the step is run each time, and the log says so.
func TestInputsThatNameNoFile(t *testing.T) {
	t.Parallel()
	b := &builds{t: t, kept: filepath.Join(t.TempDir(), "steps")}
	files := func(of string) map[string]string {
		return map[string]string{"a.go": of, ".lemnis.yaml": "steps: [{name: test, run: 'cat a.go', inputs: ['src/**']}, {name: other, run: 'cat a.go', inputs: ['*.{go,mod}', 'go.work'], needs: []}]\n"}
	}
	b.run(files("1"))
	if again := b.run(files("1")); !slices.Equal(again.Reused(), []string{"other"}) || !strings.Contains(again.LogTail, "= test is run each time: its inputs name no file of the commit\n") {
		t.Errorf("%v\n%s", again.Reused(), again.LogTail)
	}
	if changed := b.run(files("2")); len(changed.Reused()) > 0 {
		t.Errorf("changed: %v", changed.Reused())
	}
}
