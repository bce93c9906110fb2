package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lemnis/lemnis/internal/executor"
	"github.com/lemnis/lemnis/internal/executor/executortest"
	"github.com/lemnis/lemnis/services/builder/pipeline"
)

// An image is built of the commit's files and of what steps say that they leave; its log is the step's, with secrets masked.
func TestAnImageIsOfTheCommitAndOfOutputs(t *testing.T) {
	t.Parallel()
	base := executortest.Image(t)
	dir := project(t, map[string]string{
		"committed": "x",
		"deploy/Dockerfile": fmt.Sprintf(`FROM %s
ARG SOURCE_DATE_EPOCH
ARG WORD=none
COPY . /app
RUN echo at $SOURCE_DATE_EPOCH, $WORD; cat /app/out/key; ls /app
`, base),
		".lemnis.yaml": `
steps:
  - name: make
    run: mkdir out; echo "it is $KEY" >out/key; echo x >report.xml; mkdir .cache; echo x >.cache/x
    outputs: [out]
    secrets: {KEY: "secret:key"}
package: {dockerfile: deploy/Dockerfile, args: {WORD: hello}}
`})
	spec := pipeline.Spec{Dir: dir, Image: executor.NewDocker(filepath.Join(t.TempDir(), "engine")), Created: time.Unix(1700000000, 0),
		Files:  map[string]string{"committed": "1", "deploy/Dockerfile": "2", ".lemnis.yaml": "3", "removed": "4"},
		Secret: func(string) (string, error) { return "hunter2", nil }}
	r := run(t, spec)
	if !r.Succeeded() || outcomes(r) != "make success, packaging success" || filepath.Base(r.Image) != "image.tar" || r.Packaged() != r.Image || r.Executable != "" || !strings.HasPrefix(r.Bases[base], "sha256:") {
		t.Fatalf("%+v\n%s", r, r.LogTail)
	}
	for _, line := range []string{"at 1700000000, hello\n", "it is ***\n", "committed\ndeploy\nout\n", r.Digest} {
		if !strings.Contains(r.LogTail, line) {
			t.Errorf("no %q in\n%s", line, r.LogTail)
		}
	}
	if strings.Contains(r.LogTail, "hunter2") || strings.Contains(r.LogTail, "report.xml\n") {
		t.Errorf("a secret, or what no commit has:\n%s", r.LogTail)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(r.LogFile), ".image-*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestWhyThereIsNoImageIsSaid(t *testing.T) {
	t.Parallel()
	step := "steps: [{name: a, run: ':'}]\n"
	for name, c := range map[string]struct{ text, want string }{
		"no engine":            {step + "package: {dockerfile: Dockerfile}", "packaging failure engine an image is to be packaged, and there is no container engine here"},
		"a step has failed":    {"steps: [{name: a, run: exit 1}]\npackage: {dockerfile: Dockerfile}", "a failure exit exit status 1"},
		"no Dockerfile":        {step + "package: {dockerfile: none}", "packaging failure package the context: "},
		"it fetches":           {step + "package: {dockerfile: fetch}", "packaging failure build the Dockerfile: ADD of"},
		"a link out":           {step + "package: {dockerfile: link}", "packaging failure package the context: "},
		"a context that is no": {step + "package: {dockerfile: Dockerfile, context: none}", "packaging failure package the context: none is no folder of the checkout"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := project(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY . /\n", "fetch": "FROM scratch\nADD http://localhost:1/a /\n", ".lemnis.yaml": c.text})
			if err := os.Symlink("/etc/passwd", filepath.Join(dir, "link")); err != nil {
				t.Fatal(err)
			}
			spec := pipeline.Spec{Dir: dir}
			if name != "no engine" {
				spec.Image = executor.NewDocker(filepath.Join(t.TempDir(), "engine"))
			}
			r := run(t, spec)
			failed, _ := r.Failed()
			if got := fmt.Sprint(failed.Name, " ", failed.Outcome, " ", failed.Cause, " ", failed.Reason); !strings.HasPrefix(got, c.want) || r.Packaged() != "" {
				t.Errorf("%s\n%s", got, r.LogTail)
			}
		})
	}
}

// A step that is not run again changes nothing: an image has what it changes in the commit's files where it is said alone.
func TestAStepSaysWhatItChangesOfTheCommit(t *testing.T) {
	t.Parallel()
	base := executortest.Image(t)
	const refused = " is not as it was before the steps: the step that changes it has to name it under outputs"
	for name, c := range map[string]struct{ step, want, prints string }{
		"changed":             {"{name: a, run: sed -i s/old/new/ app/version}", "app/version" + refused, ""},
		"changed, and said":   {"{name: a, run: sed -i s/old/new/ app/version, outputs: [app/version]}", "", "it is here\nnew version\n"},
		"changed, of another": {"{name: a, run: sed -i s/old/new/ app/version, outputs: [app/gone]}", "app/version" + refused, ""},
		"its folder is said":  {"{name: a, run: sed -i s/old/new/ app/version, outputs: [app]}", "", "it is here\nnew version\n"},
		"removed":             {"{name: a, run: rm app/gone}", "app/gone" + refused, ""},
		"removed, and said":   {"{name: a, run: rm app/gone, outputs: [app/version, 'app/g*']}", "", "old version\n"},
		"changed back":        {"{name: a, run: sed -i s/old/new/ app/version; sed -i s/new/old/ app/version}", "", "it is here\nold version\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files := map[string]string{"app/version": "old version\n", "app/gone": "it is here\n", "Dockerfile": "FROM " + base + "\nCOPY app /app\nRUN cat /app/*\n",
				".lemnis.yaml": "steps: [" + c.step + "]\npackage: {dockerfile: Dockerfile}\n"}
			spec := pipeline.Spec{Dir: project(t, files), Image: executor.NewDocker(filepath.Join(t.TempDir(), "engine")), Files: map[string]string{}}
			for name := range files {
				spec.Files[name] = ""
			}
			r := run(t, spec)
			failed, _ := r.Failed()
			if c.want == "" && (!r.Succeeded() || !strings.Contains(r.LogTail, c.prints) || strings.Contains(c.prints, "it is here") != strings.Contains(r.LogTail, "it is here")) {
				t.Errorf("%+v\n%s", r.Steps, r.LogTail)
			}
			if c.want != "" && (failed.Name != pipeline.StepPackage || failed.Cause != pipeline.CausePackage || !strings.Contains(failed.Reason, c.want) || r.Packaged() != "") {
				t.Errorf("%+v\n%s", r.Steps, r.LogTail)
			}
		})
	}
}

// What was refused is refused again: the result of the step that changes what it does not say is neither kept nor shared.
func TestAStepThatDoesNotSayWhatItChangesIsRunAgain(t *testing.T) {
	t.Parallel()
	executortest.Engine(t)
	kept := t.TempDir()
	for range 2 {
		files := map[string]string{"version": "old", "Dockerfile": "FROM scratch\nCOPY version /\n", ".lemnis.yaml": "steps: [{name: a, run: sed -i s/old/new/ version; echo x >made, outputs: [made]}]\npackage: {dockerfile: Dockerfile}\n"}
		r := run(t, pipeline.Spec{Dir: project(t, files), At: "/work", Image: executor.NewDocker(filepath.Join(t.TempDir(), "engine")), Files: files, Kept: kept, Tree: "tree", Name: "before", Shared: nothing{}})
		if failed, _ := r.Failed(); failed.Cause != pipeline.CausePackage || !strings.Contains(failed.Reason, "version is not as it was") || len(r.Reused())+len(r.Fresh) > 0 {
			t.Errorf("%+v, fresh %+v\n%s", r.Steps, r.Fresh, r.LogTail)
		}
	}
}

// Nor is it where no file is named: what an image is made of is gone as a whole.
func TestAStepThatRemovesTheContextIsRunAgain(t *testing.T) {
	t.Parallel()
	kept := t.TempDir()
	for range 2 {
		files := map[string]string{"app/version": "old", "Dockerfile": "FROM scratch\nCOPY version /\n", ".lemnis.yaml": "steps: [{name: a, run: rm -r app}]\npackage: {dockerfile: Dockerfile, context: app}\n"}
		engine := &noEngine{}
		r := run(t, pipeline.Spec{Dir: project(t, files), At: "/work", Image: engine, Files: files, Kept: kept, Tree: "tree", Name: "before"})
		if failed, _ := r.Failed(); failed.Cause != pipeline.CausePackage || engine.asked || len(r.Reused()) > 0 {
			t.Errorf("asked: %v, %+v\n%s", engine.asked, r.Steps, r.LogTail)
		}
	}
}

// nothing is a store that has nothing.
type nothing struct{ pipeline.Shared }

func (nothing) Entry(context.Context, string, string) ([]byte, error) { return nil, nil }

// noEngine is asked for nothing.
type noEngine struct {
	executor.Executor
	asked bool
}

func (e *noEngine) Build(context.Context, executor.Build, io.Writer) (executor.Result, error) {
	e.asked = true
	return executor.Result{Cause: executor.CauseBuild, Reason: "it was asked"}, nil
}

// The time of an image's build is that of all of it, also of what is done before an engine is asked.
func TestTheTimeOfAnImageIsThatOfItsContextToo(t *testing.T) {
	t.Parallel()
	dir := project(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n", ".lemnis.yaml": "steps: [{name: a, run: ':'}]\npackage: {dockerfile: Dockerfile, timeout: 1ns}"})
	engine := &noEngine{}
	r := run(t, pipeline.Spec{Dir: dir, Image: engine})
	if failed, _ := r.Failed(); failed.Name != pipeline.StepPackage || failed.Cause != executor.CauseTimeLimit || failed.Reason != "not done after 1ns" || engine.asked {
		t.Errorf("asked: %v, %+v\n%s", engine.asked, r.Steps, r.LogTail)
	}
}

// Git allows times that nothing of an image can say.
func TestAnImageOfACommitOfAFarTime(t *testing.T) {
	t.Parallel()
	executortest.Engine(t)
	dir := project(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n", ".lemnis.yaml": "steps: [{name: a, run: ':'}]\npackage: {dockerfile: Dockerfile}"})
	r := run(t, pipeline.Spec{Dir: dir, Image: executor.NewDocker(filepath.Join(t.TempDir(), "engine")), Created: time.Unix(253402300800, 0)})
	text, err := os.ReadFile(r.Image)
	if !r.Succeeded() || err != nil || !strings.Contains(string(text), `"created":"9999-12-31T23:59:59Z"`) {
		t.Errorf("%v, %+v\n%s", err, r.Steps, r.LogTail)
	}
}

// What RUN is told is the project's to read: no password of the builder's.
func TestAProxyWithAPasswordIsNotGivenAway(t *testing.T) {
	executortest.Engine(t)
	t.Setenv("HTTPS_PROXY", "http://me:hunter2@localhost:1")
	dir := project(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n", ".lemnis.yaml": "steps: [{name: a, run: ':'}]\npackage: {dockerfile: Dockerfile, network: true}"})
	r := run(t, pipeline.Spec{Dir: dir, Image: executor.NewDocker(filepath.Join(t.TempDir(), "engine"))})
	failed, _ := r.Failed()
	if failed.Cause != executor.CauseBuild || !strings.Contains(failed.Reason, "HTTPS_PROXY") || strings.Contains(failed.Reason+r.LogTail, "hunter2") {
		t.Errorf("%+v\n%s", failed, r.LogTail)
	}
}

// What a build prints is not kept where it is not known what to mask in it.
func TestWithoutItsSecretsNoImageIsBuilt(t *testing.T) {
	t.Parallel()
	executortest.Engine(t)
	dir := project(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n", ".lemnis.yaml": "steps: [{name: a, run: ':', secrets: {KEY: 'secret:key'}}]\npackage: {dockerfile: Dockerfile}"})
	asked := 0
	r, err := pipeline.Run(t.Context(), pipeline.Spec{Dir: dir, Output: t.TempDir(), Image: executor.NewDocker(filepath.Join(t.TempDir(), "engine")), Secret: func(string) (string, error) {
		if asked++; asked > 1 {
			return "", errors.New("the secrets are gone")
		}
		return "hunter2", nil
	}})
	if failed, _ := r.Failed(); failed.Name != pipeline.StepPackage || !strings.Contains(failed.Reason, "the secrets are gone") {
		t.Errorf("%+v, %v\n%s", failed, err, r.LogTail)
	}
}

// A Dockerfile alone needs no file of ours, and the image of a working copy is that of its commit's time.
func TestADockerfileAloneIsEnough(t *testing.T) {
	t.Parallel()
	executortest.Engine(t)
	dir := project(t, map[string]string{"go.mod": "", "Dockerfile": "FROM scratch\nCOPY a /\nCMD [\"/a\"]\n", "a": "x"})
	digests := map[string]bool{}
	for range 2 {
		r := run(t, pipeline.Spec{Dir: dir, Image: executor.NewDocker(filepath.Join(t.TempDir(), "engine")), Created: time.Unix(1700000000, 0)})
		if !r.Succeeded() {
			t.Fatalf("%+v\n%s", r.Steps, r.LogTail)
		}
		digests[r.Digest+fileDigest(t, r.Image)] = true
	}
	if len(digests) != 1 {
		t.Errorf("two builds: %v", digests)
	}
}

func TestAnImageIsCancelledWithItsRun(t *testing.T) {
	t.Parallel()
	base := executortest.Image(t)
	dir := project(t, map[string]string{"go.mod": "", "Dockerfile": "FROM " + base + "\nRUN echo be''gun; sleep 1000\n"})
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	enough := errors.New("enough")
	r, err := pipeline.Run(ctx, pipeline.Spec{Dir: dir, Output: t.TempDir(), Image: executor.NewDocker(filepath.Join(t.TempDir(), "engine")), Live: when("begun", func() { cancel(enough) })})
	if failed, _ := r.Failed(); !errors.Is(err, enough) || failed.Cause != pipeline.CauseCancelled {
		t.Errorf("%v, %+v", err, r.Steps)
	}
}

// when calls once a text is written.
func when(text string, call func()) writerFunc {
	return func(p []byte) (int, error) {
		if strings.Contains(string(p), text) {
			call()
		}
		return len(p), nil
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
