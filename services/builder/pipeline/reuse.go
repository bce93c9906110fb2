package pipeline

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lemnis/lemnis/services/builder/definition"
)

// keyed is the version of what goes into a key: results that are kept under another are not found any more.
const keyed = "lemnis step 1"

// plan finds out which tasks need not be run, since one of the same content has succeeded before, see [run.trees]. Such a task is taken when
// all that it needs is; and when it says what it leaves, or nothing that comes after it is run: what else it left is not there.
func (r *run) plan(ctx context.Context, p definition.Pipeline, tasks []definition.Task) error {
	if r.spec.Kept == "" {
		return nil
	}
	if x := p.Package; x != nil && x.Executable != "" && !slices.ContainsFunc(tasks, func(t definition.Task) bool { return leaves(t, x.Executable) }) {
		_, _ = fmt.Fprintf(r.log, "no result is kept or taken: no step says under outputs that it makes %s\n", x.Executable)
		return nil
	}
	keys, err := r.identify(ctx, tasks)
	if err != nil {
		return err
	}
	r.keys, r.private = keys, secretive(tasks)
	taken := map[string]kept{}
	asking, cancel := context.WithTimeout(ctx, sharedPatience)
	defer cancel()
	for _, t := range tasks {
		if t.Step.Always {
			continue
		}
		k, there := r.find(keys[t.Name])
		if !there {
			k, there = r.seek(asking, t)
		}
		if there {
			taken[t.Name] = k
		}
	}
	after, checked := followers(tasks), map[string]bool{}
	ran := func(name string) bool { _, is := taken[name]; return !is }
	for {
		before := len(taken)
		for _, t := range tasks {
			if slices.ContainsFunc(t.Needs, ran) || len(t.Step.Outputs) == 0 && slices.ContainsFunc(after[t.Name], ran) {
				delete(taken, t.Name)
			}
		}
		if len(taken) < before {
			continue
		}
		for _, t := range tasks { // each comes after what it needs: nothing is fetched before all of that is here. What lies here is looked at in any case, so that what is no good goes
			k, is := taken[t.Name]
			switch {
			case !is || checked[t.Name]:
			case (k.from == "" || !slices.ContainsFunc(t.Needs, ran)) && r.whole(asking, t.Name, &k):
				taken[t.Name], checked[t.Name] = k, true
			default:
				delete(taken, t.Name)
			}
		}
		if len(taken) == before {
			r.taken = taken
			return nil
		}
	}
}

func leaves(t definition.Task, file string) bool {
	return slices.ContainsFunc(t.Step.Outputs, func(output string) bool { return pattern(output).MatchString(filepath.ToSlash(filepath.Clean(file))) })
}

// followers are the tasks that need a task, or need what needs it.
func followers(tasks []definition.Task) map[string][]string {
	all := map[string][]string{}
	for _, t := range slices.Backward(tasks) { // each comes after what it needs
		for _, need := range t.Needs {
			all[need] = append(append(all[need], t.Name), all[t.Name]...)
		}
	}
	return all
}

// identify makes each task's key: a digest of all that its result depends on.
func (r *run) identify(ctx context.Context, tasks []definition.Task) (map[string]string, error) {
	isolated := true
	if host, asks := r.spec.Host.(interface {
		Isolated(ctx context.Context) (bool, string, error)
	}); asks {
		var err error
		if isolated, _, err = host.Isolated(ctx); err != nil {
			return nil, err
		}
	}
	paths := slices.Sorted(maps.Keys(r.spec.Files))
	keys := map[string]string{}
	for _, t := range tasks {
		secrets, err := r.secrets(t.Step)
		if err != nil {
			continue // it is going to fail
		}
		sum := sha256.New()
		say(sum, keyed, runtime.GOOS, runtime.GOARCH, fmt.Sprint(isolated))
		if err := sayStep(sum, t.Step); err != nil {
			return nil, err
		}
		for _, name := range slices.Sorted(maps.Keys(secrets)) {
			say(sum, "secret", name, secrets[name])
		}
		for _, variable := range r.env.variables {
			if name, _, _ := strings.Cut(variable, "="); !slices.Contains(local, name) {
				say(sum, "variable", variable)
			}
		}
		if t.Step.Image == "" {
			say(sum, programs(t.Step.Run)...)
		}
		if known, err := r.sayImages(ctx, sum, t.Step); err != nil || !known {
			continue // the step will say what is wrong, or bring them
		}
		for _, need := range slices.Sorted(slices.Values(t.Needs)) {
			say(sum, "after", need, keys[need])
		}
		if !r.sayInputs(sum, t.Step.Inputs, paths) {
			_, _ = fmt.Fprintf(r.log.of(t.Name), "= %s is run each time: its inputs name no file of the commit\n", t.Name)
			continue
		}
		keys[t.Name] = hex.EncodeToString(sum.Sum(nil))
	}
	return keys, nil
}

// local are variables that say where something lies on this machine, and how the network is reached: other workers have others.
var local = append([]string{"GOMODCACHE", "GOCACHE", "GOPROXY", "XDG_CONFIG_HOME", "RUSTUP_HOME", "PYENV_ROOT", "VOLTA_HOME", "NVM_DIR"}, passed...)

// say adds words to a digest, each with its length, so that no two lists are the same.
func say(sum hash.Hash, words ...string) {
	for _, word := range words {
		_, _ = fmt.Fprintf(sum, "%d:%s", len(word), word)
	}
}

// sayStep adds what a step is. How long and how often it may try, and on which occasion, changes nothing of a success.
func sayStep(sum hash.Hash, s definition.Step) error {
	s.Needs, s.When, s.Matrix, s.Timeout, s.Retries, s.Limits = nil, "", nil, 0, 0, definition.Limits{}
	text, err := json.Marshal(s)
	say(sum, string(text))
	return err
}

// sayImages adds which images a step's names mean here; they are not known as long as one is still to be pulled.
func (r *run) sayImages(ctx context.Context, sum hash.Hash, s definition.Step) (known bool, err error) {
	names := []string{s.Image}
	for _, service := range s.Services {
		names = append(names, service.Image)
	}
	engine, _ := r.spec.Image.(interface {
		Digest(ctx context.Context, image string) (string, error)
	})
	for _, name := range names {
		if name == "" {
			continue
		}
		if engine == nil {
			return false, nil
		}
		digest, err := engine.Digest(ctx, name)
		if err != nil || digest == "" {
			return false, err
		}
		say(sum, "image", name, digest)
	}
	return true, nil
}

// sayInputs adds the files that a step depends on. Patterns that name none at all are a mistake: whatever changed, the step would not be
// run again.
func (r *run) sayInputs(sum hash.Hash, inputs, paths []string) (some bool) {
	forms := make([]*regexp.Regexp, len(inputs))
	for i, input := range inputs {
		forms[i] = pattern(input)
	}
	for _, at := range paths {
		if len(forms) == 0 || slices.ContainsFunc(forms, func(f *regexp.Regexp) bool { return f.MatchString(at) }) {
			say(sum, at, r.spec.Files[at])
			some = true
		}
	}
	return some || len(forms) == 0
}

var wordForm = regexp.MustCompile(`[A-Za-z0-9_][A-Za-z0-9_.+-]*`)

// programs identifies, by their content, the programs of the host that words of a script name, and the system that they run on.
func programs(script string) []string {
	words := append(wordForm.FindAllString(script, -1), "sh")
	slices.Sort(words)
	var all []string
	for _, word := range slices.Compact(words) {
		if at, err := exec.LookPath(word); err == nil {
			all = append(all, "program", word, contentOf(at))
		}
	}
	return append(all, "system", contentOf("/etc/os-release"))
}

// contents are digests of files that were read before, as long as they seem the same.
var contents sync.Map

type fileState struct {
	path    string
	size    int64
	changed time.Time
}

// contentOf is a file's digest; empty when it can not be read.
func contentOf(name string) string {
	at, err := filepath.EvalSymlinks(name)
	if err != nil {
		return ""
	}
	info, err := os.Stat(at)
	if err != nil || !info.Mode().IsRegular() {
		return ""
	}
	state := fileState{at, info.Size(), info.ModTime()}
	if digest, known := contents.Load(state); known {
		return digest.(string) //nolint:forcetypeassert // nothing else is put there
	}
	file, err := os.Open(at)
	if err != nil {
		return ""
	}
	defer func() { _ = file.Close() }()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return ""
	}
	digest := hex.EncodeToString(sum.Sum(nil))
	contents.Store(state, digest)
	return digest
}
