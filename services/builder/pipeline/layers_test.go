package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/lemnis/lemnis/internal/executor"
	"github.com/lemnis/lemnis/internal/hostgo"
)

// unlayered is a host on which no folder can be laid over another.
type unlayered struct{ *executor.Process }

func (unlayered) Layered(context.Context, string, ...string) (bool, string, error) {
	return false, "it is an old kernel", nil
}

type hostOfSteps interface {
	executor.Executor
	Isolated(ctx context.Context) (bool, string, error)
}

// goBuilds runs pipelines of Go repositories on one data folder, and says what the log of each has.
type goBuilds struct {
	t    *testing.T
	host hostOfSteps
	data string

	image executor.Executor
	live  io.Writer
}

func newGoBuilds(t *testing.T, host hostOfSteps) *goBuilds {
	t.Helper()
	if isolated, why, err := host.Isolated(t.Context()); err != nil || !isolated {
		t.Skipf("SKIPPED: what becomes of Go's caches was NOT shown: %s (%v)", why, err)
	}
	return &goBuilds{t: t, host: host, data: t.TempDir()}
}

// newLayeredBuilds is for what only layers of the kernel show; what is said where they are refused.
func newLayeredBuilds(t *testing.T, what string) *goBuilds {
	t.Helper()
	host := executor.NewProcess(executor.Auto)
	b := newGoBuilds(t, host)
	if layered, why, err := host.Layered(t.Context(), b.data); err != nil || !layered {
		t.Skipf("SKIPPED: %s was NOT shown: %s (%v)", what, why, err)
	}
	return b
}

func (b *goBuilds) run(project string, files, base map[string]string) string {
	b.t.Helper()
	log, err := b.try(project, b.t.TempDir(), files, base)
	if err != nil {
		b.t.Fatal(err)
	}
	return log
}

func (b *goBuilds) try(project, dir string, files, base map[string]string) (string, error) {
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return "", err
		}
	}
	output, err := os.MkdirTemp(b.data, "out")
	if err != nil {
		return "", err
	}
	r, err := Run(b.t.Context(), Spec{Dir: dir, At: "/work", Output: output, Host: b.host, Image: b.image, Live: b.live, Name: "run", Hidden: []string{b.data},
		Kept: filepath.Join(b.data, "kept", project), Go: filepath.Join(b.data, "go", project), Tree: tree(files), Base: tree(base)})
	if err != nil || !r.Succeeded() {
		return "", fmt.Errorf("%v\n%s", err, r.LogTail) //nolint:errorlint // there may be none
	}
	return r.LogTail, nil
}

func (b *goBuilds) settled(project, name string) bool {
	_, err := os.Stat(filepath.Join(b.data, "go", project, "GOCACHE", name))
	return err == nil
}

// goRepository is one whose step runs a script.
func goRepository(script, notes string) map[string]string {
	return map[string]string{"go.mod": "module example.org/a\n", "notes": notes, ".lemnis.yaml": fmt.Sprintf("steps: [{name: a, always: true, run: %q}]\n", script)}
}

// A step writes into Go's caches what another's build would take for its own.
func TestGoCachesAreNotPoisoned(t *testing.T) {
	t.Parallel()
	process := executor.NewProcess(executor.Auto)
	for name, host := range map[string]hostOfSteps{"layers": process, "copies": unlayered{process}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newGoBuilds(t, host)
			// What a step removes is there again with copies: each of them is kept.
			remove, clean := "", 0
			if name == "layers" {
				remove, clean = "; rm $GOMODCACHE/deep/poison", 1
			}
			files := func(word, more string) map[string]string {
				script := fmt.Sprintf("for c in $GOCACHE $GOMODCACHE; do cat $c/deep/poison || echo clean; mkdir -p $c/deep; echo %s >>$c/deep/poison; done", word)
				return map[string]string{"go.mod": "module example.org/a\n", "more": more, ".lemnis.yaml": fmt.Sprintf(`steps:
  - {name: first, always: true, run: %q}
  - {name: after, always: true, run: 'cat $GOCACHE/deep/poison | tr a-z A-Z%s'}
  - {name: beside, always: true, needs: [], run: 'sleep 0.3; test ! -e $GOCACHE/deep/poison || echo BESIDE $(cat $GOCACHE/deep/poison)'}
`, script, remove)}
			}
			master, hostile := files("good", ""), files("evil", "")
			check := func(what, log string, n int, has, hasNot string) {
				t.Helper()
				if strings.Count(log, "clean\n") != n || !strings.Contains(log, has) || hasNot != "" && strings.Contains(log, hasNot) {
					t.Errorf("%s: want %d times clean, %q and not %q:\n%s", what, n, has, hasNot, log)
				}
			}
			check("a change", b.run("a", hostile, master), 2, "\nEVIL\n", "BESIDE evil")
			check("another change", b.run("a", files("other", ""), master), 2, "\nOTHER\n", "EVIL")
			check("the master copy", b.run("a", master, master), 2, "\nGOOD\n", "EVIL")
			check("a change upon it", b.run("a", files("third", ""), master), clean, "\nGOOD\nTHIRD\n", "EVIL")
			check("another upon it", b.run("a", files("fourth", ""), master), clean, "\nGOOD\nFOURTH\n", "THIRD")
			check("the first one again: the same tree", b.run("a", hostile, master), clean, "\nEVIL\nEVIL\n", "")
			check("another project", b.run("b", files("b", ""), master), 2, "\nB\n", "EVIL")
			check("upon the first one, merged", b.run("a", files("good", "more"), hostile), clean, "BESIDE evil", "")
			host, err := hostgo.Env(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range goCaches {
				if _, err := os.Stat(filepath.Join(host[name], "deep")); err == nil {
					t.Errorf("the host's %s was written to", name)
				}
			}
		})
	}
}

// What was built for a change need not be built again once it is merged.
func TestGoBuildsUponWhatWasMerged(t *testing.T) {
	t.Parallel()
	b := newGoBuilds(t, executor.NewProcess(executor.Auto))
	files := func(name, notes string) map[string]string {
		return map[string]string{"go.mod": "module example.org/a\n\ngo 1.24\n", "main.go": "package main\n\nfunc main() { println(\"" + name + "\") }\n", "NOTES": notes,
			".lemnis.yaml": "steps: [{name: build, always: true, run: 'go build -v -trimpath -o bin .'}]\n"}
	}
	unique := fmt.Sprint(time.Now().UnixNano())
	master, change, later := files("first "+unique, ""), files("second "+unique, ""), files("second "+unique, "more")
	other := files("third "+unique, "") // is not merged
	for i, c := range []struct {
		files, base map[string]string
		built       bool
	}{{master, master, true}, {change, master, true}, {change, master, false}, {later, change, false}, {other, change, true}, {files("third "+unique, "more"), change, true}} {
		if log := b.run("a", c.files, c.base); strings.Contains(log, "\nexample.org/a\n") != c.built {
			t.Errorf("run %d: built %v\n%s", i, !c.built, log)
		}
	}
}

func TestGoCachesAreTidied(t *testing.T) {
	t.Parallel()
	r := &run{spec: Spec{Go: t.TempDir()}}
	old := time.Now().Add(-goUnused - time.Hour)
	for _, name := range []string{"GOCACHE/00/old", "GOCACHE/00/new", "GOMODCACHE/m/old"} {
		at := filepath.Join(r.spec.Go, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, "old") {
			if err := os.Chtimes(at, old, old); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := r.tidyLayers(); err != nil {
		t.Fatal(err)
	}
	for name, there := range map[string]bool{"GOCACHE/00/old": false, "GOCACHE/00/new": true, "GOCACHE/trim.txt": true, "GOMODCACHE/m/old": true} {
		if _, err := os.Stat(filepath.Join(r.spec.Go, name)); (err == nil) != there {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// told is closed when something is written that has a word.
type told struct {
	word string
	once sync.Once
	is   chan struct{}
}

func (w *told) Write(p []byte) (int, error) {
	if strings.Contains(string(p), w.word) {
		w.once.Do(func() { close(w.is) })
	}
	return len(p), nil
}

// What lies below the steps of a run stays where it is until they have ended: else the kernel promises nothing about what they see.
func TestNothingMovesBelowARun(t *testing.T) {
	t.Parallel()
	b := newGoBuilds(t, executor.NewProcess(executor.Auto))
	long := goRepository("test -e $GOCACHE/mark || { echo long >$GOCACHE/mark; exit 0; }; echo read''y; until test -e go-on; do sleep 0.02; done; cat $GOCACHE/mark; echo more >$GOCACHE/more", "")
	quick := goRepository("cat $GOCACHE/mark; echo quick >$GOCACHE/quick", "quick")
	b.run("a", long, nil)
	ready := &told{word: "ready\n", is: make(chan struct{})}
	holds := &goBuilds{t: t, host: b.host, data: b.data, live: ready}
	dir, ended := t.TempDir(), make(chan error, 1)
	go func() {
		log, err := holds.try("a", dir, long, nil)
		if err == nil && !strings.Contains(log, "\nlong\n") {
			err = fmt.Errorf("it does not see what lay below it when it began: %s", log)
		}
		ended <- err
	}()
	select {
	case <-ready.is:
	case err := <-ended:
		t.Fatal(err)
	}
	for range 2 { // the first one leaves something above what was not moved; nothing moves for the second one either
		if log := b.run("a", quick, long); !strings.Contains(log, "\nlong\n") {
			t.Errorf("the master copy's layer is not seen where it lies:\n%s", log)
		}
	}
	if b.settled("a", "mark") {
		t.Error("the master copy's layer was moved while a run has its folders below a step")
	}
	if err := os.WriteFile(filepath.Join(dir, "go-on"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if log := b.run("a", quick, long); !strings.Contains(log, "\nlong\n") || !b.settled("a", "mark") || b.settled("a", "quick") {
		t.Errorf("once it has ended, the layer is not moved:\n%s", log)
	}
}

// engine notes what a container's step is given, and leaves something.
type engine struct{ layers []executor.Layer }

func (e *engine) Run(_ context.Context, step executor.Step, _ io.Writer) (executor.Result, error) {
	e.layers = step.Layers
	for _, l := range step.Layers {
		if err := os.WriteFile(filepath.Join(l.Upper, "upper", "service"), []byte("service\n"), 0o600); err != nil {
			return executor.Result{}, err
		}
	}
	return executor.Result{}, nil
}

// A step with services runs in a container, in which no folder can be laid over another.
func TestGoCachesBesideServices(t *testing.T) {
	t.Parallel()
	b := newGoBuilds(t, executor.NewProcess(executor.Auto))
	e := &engine{}
	b.image = e
	files := goRepository("", "")
	files[".lemnis.yaml"] = `steps:
  - {name: first, always: true, run: 'echo first >$GOCACHE/first'}
  - {name: beside, always: true, run: ':', services: [{name: db, image: db}]}
  - {name: after, always: true, run: 'cat $GOCACHE/first $GOCACHE/service'}
`
	log := b.run("a", files, files)
	if !strings.Contains(log, "\nfirst\nservice\n") || len(e.layers) != len(goCaches) {
		t.Errorf("%+v\n%s", e.layers, log)
	}
	for _, l := range e.layers {
		if len(l.Lower) > 0 {
			t.Errorf("folders are to be laid over one another: %+v", l)
		}
	}
}

func TestALayerThatIsTooMuchIsNotKept(t *testing.T) {
	t.Parallel()
	b := newGoBuilds(t, executor.NewProcess(executor.Auto))
	files := func(word string) map[string]string {
		return goRepository("ls $GOCACHE; truncate -s "+word+" $GOCACHE/much", word)
	}
	little, much := files("1K"), files("1100M")
	if log := b.run("a", little, little); strings.Contains(log, "not kept") {
		t.Error(log)
	}
	if log := b.run("a", much, nil); !strings.Contains(log, "not kept: it is more than 1073741824 bytes") {
		t.Errorf("it is kept:\n%s", log)
	}
	if log := b.run("a", much, nil); strings.Contains(log, "\nmuch\n") {
		t.Errorf("it was kept:\n%s", log)
	}
}

// Steps of a master copy may have put folders in the place of files, and the other way round.
func TestALayerIsMovedDown(t *testing.T) {
	t.Parallel()
	b := newLayeredBuilds(t, "that a layer is moved down")
	first, upon := goRepository("", ""), goRepository("cd $GOCACHE; cat folder/in new/new; test ! -e gone; rm -r folder file; echo file >folder; mkdir file; echo deep >file/deep", "upon")
	// One step makes what another removes, though it is not empty, or makes anew.
	first[".lemnis.yaml"] = `steps:
  - {name: a, always: true, run: 'cd $GOCACHE; mkdir -p gone/deep new; echo old | tee gone/deep/file folder new/old; echo file >file; chmod -R a-w gone'}
  - {name: b, always: true, run: 'cd $GOCACHE; chmod -R u+w gone; rm -r gone new folder; mkdir new folder; echo new >new/new; echo in >folder/in'}
`
	third := goRepository("cd $GOCACHE; cat folder file/deep", "third")
	b.run("a", first, first)
	log := b.run("a", upon, first) + b.run("a", third, upon) // what was merged has changed kinds
	if !strings.Contains(log, "\nin\nnew\n") || !strings.Contains(log, "\nfile\ndeep\n") || strings.Contains(log, "Go's caches") {
		t.Error(log)
	}
	at := filepath.Join(b.data, "go", "a", "GOCACHE")
	for name, there := range map[string]bool{"gone": false, "new/old": false, "new/new": true, "file/deep": true, "folder": true} {
		if _, err := os.Stat(filepath.Join(at, name)); (err == nil) != there {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Of what a run leaves in the caches only files are kept: builders read there, where a link would lead them elsewhere. What a step
// removed or took the rights to is no obstacle.
func TestOfALayerFilesAreKept(t *testing.T) {
	t.Parallel()
	b := newLayeredBuilds(t, "what is kept of a layer")
	first := goRepository("cd $GOCACHE; mkdir -p deep anew; echo old | tee deep/old deep/gone anew/old", "first")
	upon := goRepository("cd $GOCACHE; rm -r deep/gone anew; mkdir anew; echo new | tee deep/new anew/new; ln -s /etc/passwd deep/link; chmod a-w deep", "upon")
	third := goRepository("cd $GOCACHE; echo >deep/third; echo anew/* deep/*", "third")
	b.run("a", first, first)
	b.run("a", upon, first) // what the first run left is moved down
	var files []string
	err := filepath.WalkDir(filepath.Join(b.data, "kept"), func(at string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && filepath.Base(at) != resultName {
			files = append(files, entry.Type().String()+" "+filepath.Join(filepath.Base(filepath.Dir(at)), entry.Name()))
		}
		return err
	})
	if err != nil || !slices.Equal(files, []string{"---------- anew/new", "---------- deep/new"}) {
		t.Errorf("kept: %q (%v)", files, err)
	}
	if log := b.run("a", third, upon); !strings.Contains(log, "\nanew/new anew/old deep/gone deep/new deep/old deep/third\n") || strings.Contains(log, "Go's caches") {
		t.Errorf("once it is merged:\n%s", log)
	}
}

// The go command sets the time of a file that it uses: the file where it lies gets it, and no copy is kept. One that was changed is.
func TestWhatIsUsedIsMarkedWhereItLies(t *testing.T) {
	t.Parallel()
	b := newLayeredBuilds(t, "that what is used is marked where it lies")
	const own, beside = "7f/7f", "80/80"
	used, changed, unused, fresh := own+strings.Repeat("1", 62)+"-d", own+strings.Repeat("2", 62)+"-a", own+strings.Repeat("3", 62)+"-a", own+strings.Repeat("4", 62)+"-d"
	alone, other := beside+strings.Repeat("5", 62)+"-a", "7f/notes" // no name of the go command's
	master := goRepository(fmt.Sprintf("cd $GOCACHE; mkdir -p 7f 80; echo one | tee %s %s %s %s %s", used, changed, unused, alone, other), "master")
	change := goRepository(fmt.Sprintf("cd $GOCACHE; touch %s %s %s; echo two >%s; echo new >%s; chmod a-w 80", used, alone, other, changed, fresh), "change")
	b.run("a", master, master)
	b.run("a", goRepository("true", "another"), master) // what the first run left is moved down
	old := time.Now().Add(-2 * time.Hour)
	at := func(name string) string { return filepath.Join(b.data, "go", "a", "GOCACHE", name) }
	for _, name := range []string{used, changed, unused, alone, other} {
		if err := os.Chtimes(at(name), old, old); err != nil {
			t.Fatal(err)
		}
	}
	if log := b.run("a", change, master); strings.Contains(log, "Go's caches") {
		t.Error(log)
	}
	for name, marked := range map[string]bool{used: true, alone: true, unused: false, changed: false, other: false} {
		if info, err := os.Stat(at(name)); err != nil || info.ModTime().After(old.Add(time.Minute)) != marked {
			t.Errorf("%s: %v %v", name, info, err)
		}
	}
	if kept := b.kept("a", change); !slices.Equal(kept, []string{".", "7f", changed, fresh, other}) {
		t.Errorf("kept: %q", kept)
	}
	// Two beside one another: the second one's copy is no newer than what lies below once the first was looked at.
	two := goRepository("", "")
	two[".lemnis.yaml"] = fmt.Sprintf(`steps:
  - {name: a, always: true, needs: [], run: 'touch $GOCACHE/%[1]s'}
  - {name: b, always: true, needs: [], run: 'touch $GOCACHE/%[1]s; echo new >$GOCACHE/%[2]s'}
`, unused, fresh)
	b.run("a", two, master)
	if kept := b.kept("a", two); !slices.Equal(kept, []string{".", "7f", fresh}) {
		t.Errorf("kept of two: %q", kept)
	}
	if info, err := os.Stat(at(unused)); err != nil || !info.ModTime().After(old.Add(time.Minute)) {
		t.Errorf("%v %v", info, err)
	}
}

// kept are the folders and files that a run left in the build cache.
func (b *goBuilds) kept(project string, files map[string]string) (all []string) {
	b.t.Helper()
	at := filepath.Join(b.data, "kept", project, tree(files), layersName, cacheFiles, goBuilt)
	err := filepath.WalkDir(at, func(name string, _ fs.DirEntry, err error) error {
		name, _ = filepath.Rel(at, name)
		all = append(all, name)
		return err
	})
	if err != nil {
		b.t.Error(err)
	}
	return all
}

// A link that one task leaves leads the builder nowhere when another was there: it would say what the machine's files hold.
func TestNoLinkIsMarked(t *testing.T) {
	t.Parallel()
	b := newLayeredBuilds(t, "that links are not followed")
	outside, name := t.TempDir(), strings.Repeat("7f", 32)+"-a"
	old := time.Now().Add(-2 * time.Hour)
	if err := errors.Join(os.WriteFile(filepath.Join(outside, name), []byte("secret\n"), 0o600), os.Chtimes(filepath.Join(outside, name), old, old)); err != nil {
		t.Fatal(err)
	}
	files := goRepository("", "")
	files[".lemnis.yaml"] = fmt.Sprintf(`steps:
  - {name: a, always: true, run: 'rm -rf $GOCACHE/7f; ln -s %s $GOCACHE/7f'}
  - {name: b, always: true, run: 'cd $GOCACHE; rm 7f; mkdir 7f; echo secret >7f/%s'}
`, outside, name)
	b.run("a", files, files)
	if info, err := os.Stat(filepath.Join(outside, name)); err != nil || info.ModTime().After(old.Add(time.Minute)) {
		t.Errorf("%v %v", info, err)
	}
	if kept := b.kept("a", files); !slices.Equal(kept, []string{".", "7f", "7f/" + name}) {
		t.Errorf("kept: %q", kept)
	}
}

// Whoever has the lock open by accident, as a process that is just being begun, does not hold it.
func TestTheLockOnLayersIsLetGo(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "lock")
	held := func() *layers {
		file, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		return &layers{lock: file}
	}
	first, second := held(), held()
	defer second.unlock()
	if !first.alone() || second.alone() {
		t.Fatal("two runs are alone at once")
	}
	copied, err := syscall.Dup(int(first.lock.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Close(copied) }()
	if first.unlock(); !second.alone() {
		t.Error("it is held still")
	}
}
