package executor_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/lemnis/lemnis/internal/executor"
	"github.com/lemnis/lemnis/internal/executor/executortest"
	"github.com/lemnis/lemnis/internal/image"
)

// archived is a context with one Dockerfile and a file.
func archived(t *testing.T, dockerfile string) io.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, text := range map[string]string{"Dockerfile": dockerfile, "a": t.Name()} {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

// nameless are the images without a name that hold the text of a test among what they were made by, and containers of such images.
func nameless(t *testing.T, api *client.Client, text string) (left []string) {
	t.Helper()
	all, err := api.ImageList(context.WithoutCancel(t.Context()), client.ImageListOptions{All: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, image := range all.Items {
		if about, err := api.ImageInspect(context.WithoutCancel(t.Context()), image.ID); err == nil && about.Config != nil && about.Config.Labels["test"] == text {
			left = append(left, image.ID)
		}
	}
	containers, err := api.ContainerList(context.WithoutCancel(t.Context()), client.ContainerListOptions{All: true, Filters: client.Filters{}.Add("label", "test="+text)})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range containers.Items {
		left = append(left, c.ID)
	}
	return left
}

// built builds, and makes sure that the engine has nothing of it any more.
func built(t *testing.T, ctx func() context.Context, dockerfile string, b executor.Build, watch io.Writer) (executor.Result, string, error) {
	t.Helper()
	api := executortest.Engine(t)
	label := strings.ReplaceAll(t.Name(), "/", "-")
	b.Name, b.Context, b.Dockerfile, b.Saved = t.Name(), archived(t, strings.ReplaceAll(dockerfile, "LABELLED", `LABEL test="`+label+`"`)), "Dockerfile", filepath.Join(t.TempDir(), "saved.tar")
	if b.Image == 0 {
		b.Image = 1 << 30
	}
	if b.Bases == nil {
		b.Bases = image.Read([]byte(dockerfile), nil, "").Bases
	}
	var out bytes.Buffer
	folder := filepath.Join(t.TempDir(), "engine")
	got, err := executor.NewDocker(folder).Build(ctx(), b, io.MultiWriter(&out, watch))
	if left := nameless(t, api, label); len(left) > 0 {
		t.Errorf("left on the engine: %v\n%s", left, out.String())
	}
	if notes, _ := os.ReadDir(folder + "-built"); len(notes) > 0 {
		t.Errorf("notes are left: %v", notes)
	}
	if info, missing := os.Stat(b.Saved); err == nil && got.Succeeded() && (missing != nil || info.Size() == 0) {
		t.Errorf("nothing is saved: %v", missing)
	}
	return got, out.String(), err
}

func TestAnImageIsBuiltAndNothingOfItStays(t *testing.T) {
	t.Parallel()
	base := executortest.Image(t)
	got, out, err := built(t, t.Context, fmt.Sprintf(`
FROM %s AS one
LABELLED
ARG WORD
RUN echo the word is $WORD; cat /proc/net/dev; echo made >/made
FROM scratch AS two
LABELLED
COPY --from=one /made /made
COPY a /a
CMD ["/a"]
FROM scratch AS never
COPY none /
`, base), executor.Build{Target: "two", Bases: []string{base}, Args: map[string]string{"WORD": "hello"}}, io.Discard)
	if err != nil || !got.Succeeded() || got.Began.IsZero() {
		t.Fatalf("%+v, %v\n%s", got, err, out)
	}
	if !strings.Contains(out, "the word is hello") || !strings.HasPrefix(got.Images[base], "sha256:") {
		t.Errorf("%v\n%s", got.Images, out)
	}
	if strings.Contains(out, "eth0:") || !strings.Contains(out, "lo:") {
		t.Errorf("it has a network that it did not ask for:\n%s", out)
	}
}

func TestWhatAnImageCanNotBeBuiltOfIsSaid(t *testing.T) {
	t.Parallel()
	base := executortest.Image(t)
	fetchesNot := executortest.Empty(t)
	fetches := executortest.Image(t, "ONBUILD ADD http://localhost:1/a /")
	for name, c := range map[string]struct {
		dockerfile string
		build      executor.Build
		want       executor.Result
	}{
		"a script fails":       {"FROM " + base + "\nLABELLED\nRUN echo oh; exit 3", executor.Build{}, executor.Result{Exit: 3, Cause: executor.CauseExit, Reason: "returned a non-zero code: 3"}},
		"no such instruction":  {"FROM scratch\nBUILD all", executor.Build{}, executor.Result{Exit: 125, Cause: executor.CauseBuild, Reason: "unknown instruction"}},
		"no such stage":        {"FROM scratch\nCOPY a /", executor.Build{Target: "none"}, executor.Result{Exit: 125, Cause: executor.CauseBuild, Reason: "none"}},
		"no such base":         {"FROM localhost:1/none:1", executor.Build{Bases: []string{"localhost:1/none:1"}}, executor.Result{Exit: 125, Cause: executor.CauseImage, Reason: "localhost:1/none:1 is not here"}},
		"the builder's own":    {"FROM lemnis/nothing", executor.Build{Bases: []string{"lemnis/nothing"}}, executor.Result{Exit: 125, Cause: executor.CauseImage, Reason: "builder's own"}},
		"more than it may":     {"FROM " + base + "\nLABELLED\nRUN yes", executor.Build{Limits: executor.Limits{Output: 1 << 20}}, executor.Result{Exit: 137, Cause: executor.CauseOutputLimit, Reason: "printed more than"}},
		"longer than it may":   {"FROM " + base + "\nLABELLED\nRUN sleep 1000", executor.Build{Limits: executor.Limits{Time: 3 * time.Second}}, executor.Result{Exit: 137, Cause: executor.CauseTimeLimit, Reason: "not done after 3s"}},
		"more processes":       {"FROM " + base + "\nLABELLED\nRUN for i in $(seq 30); do sleep 1000 & done; wait", executor.Build{Limits: executor.Limits{Processes: 20}}, executor.Result{Exit: 137, Cause: executor.CauseProcessLimit, Reason: "more than 20"}},
		"a larger image":       {"FROM " + base + "\nLABELLED\nRUN head -c 20000000 /dev/zero >/big", executor.Build{Image: 10 << 20}, executor.Result{Exit: 125, Cause: executor.CauseBuild, Reason: "more than 10485760 bytes"}},
		"a base that fetches":  {"FROM " + fetches, executor.Build{Bases: []string{fetches}}, executor.Result{Exit: 125, Cause: executor.CauseBuild, Reason: "ADD of"}},
		"another base":         {"FROM " + base + "\nLABELLED", executor.Build{Bases: []string{fetchesNot}}, executor.Result{Exit: 125, Cause: executor.CauseBuild, Reason: "which is none that its Dockerfile names"}},
		"no such file":         {"FROM scratch\nLABELLED\nCOPY none /", executor.Build{}, executor.Result{Exit: 125, Cause: executor.CauseBuild, Reason: "none"}},
		"a file that is large": {"FROM " + base + "\nLABELLED\nRUN head -c 30000000 /dev/zero >/big", executor.Build{Limits: executor.Limits{File: 1 << 20}}, executor.Result{Exit: -1, Cause: executor.CauseExit, Reason: "non-zero"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, out, err := built(t, t.Context, c.dockerfile, c.build, io.Discard)
			if err != nil || got.Cause != c.want.Cause || got.Exit != c.want.Exit && c.want.Exit >= 0 || !strings.Contains(got.Reason, c.want.Reason) {
				t.Errorf("%+v, %v\n%s", got, err, out[:min(len(out), 2000)])
			}
		})
	}
}

// notice calls once when a text is written.
type notice struct {
	text string
	call func()
}

func (n *notice) Write(p []byte) (int, error) {
	if strings.Contains(string(p), n.text) {
		n.call()
	}
	return len(p), nil
}

func TestACancelledBuildLeavesNothing(t *testing.T) {
	t.Parallel()
	base := executortest.Image(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	enough := errors.New("enough")
	got, out, err := built(t, func() context.Context { return ctx }, "FROM "+base+"\nLABELLED\nRUN echo be''gun; sleep 1000", executor.Build{}, &notice{"begun", func() { cancel(enough) }})
	if !errors.Is(err, enough) {
		t.Errorf("%+v, %v\n%s", got, err, out)
	}
}

// What a process that was killed has noted is removed by the next one on the folder, but for what somebody has given a name.
func TestWhatAKilledProcessBuiltIsRemoved(t *testing.T) {
	t.Parallel()
	api := executortest.Engine(t)
	folder := filepath.Join(t.TempDir(), "engine")
	named := executortest.Image(t)
	about, err := api.ImageInspect(t.Context(), named)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := api.ImageBuild(t.Context(), archived(t, "FROM scratch\nLABEL test="+t.Name()+"\nCOPY a /"), client.ImageBuildOptions{Version: "1", NoCache: true, Remove: true})
	if err != nil {
		t.Fatal(err)
	}
	said, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	ids := nameless(t, api, t.Name())
	if len(ids) == 0 {
		t.Fatalf("%s", said)
	}
	slices.Reverse(ids) // the oldest first
	note := strings.TrimPrefix(about.ID, "sha256:")[:12] + "\n"
	for _, id := range ids {
		note += strings.TrimPrefix(id, "sha256:")[:12] + "\n"
	}
	for at, text := range map[string]string{folder + "/lock": "", folder + "/dead": "", folder + "-built/dead-1": note} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o700), os.WriteFile(at, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := executor.NewDocker(folder).Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := nameless(t, api, t.Name()); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if _, err := api.ImageInspect(t.Context(), named); err != nil {
		t.Errorf("an image with a name is gone: %v", err)
	}
	if notes, _ := os.ReadDir(folder + "-built"); len(notes) > 0 {
		t.Errorf("notes are left: %v", notes)
	}
}

// A process that was killed has noted how its containers are told; an image that nobody read of is one upon those that were noted. What
// somebody uses is tried again.
func TestWhatAKilledProcessDidNotReadOfIsRemoved(t *testing.T) {
	t.Parallel()
	api := executortest.Engine(t)
	base := executortest.Image(t)
	folder := filepath.Join(t.TempDir(), "engine")
	const mark = 8<<30 + 4711
	ulimits := []*container.Ulimit{{Name: "fsize", Soft: mark, Hard: mark}}
	there, err := api.ImageList(t.Context(), client.ImageListOptions{All: true})
	if err != nil {
		t.Fatal(err)
	}
	before := "before"
	for _, i := range there.Items {
		before += " " + strings.TrimPrefix(i.ID, "sha256:")[:12]
	}
	answer, err := api.ImageBuild(t.Context(), archived(t, "FROM scratch\nLABEL test="+t.Name()+"\nCOPY a /\nCOPY a /b"), client.ImageBuildOptions{Version: "1", NoCache: true, Remove: true})
	if err != nil {
		t.Fatal(err)
	}
	said, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	first := regexp.MustCompile(` ---\\u003e ([0-9a-f]{12})`).FindSubmatch(said) // the only one of which the process had read
	if first == nil {
		t.Fatalf("%s", said)
	}
	run := func(o *container.HostConfig, of string) string {
		c, err := api.ContainerCreate(t.Context(), client.ContainerCreateOptions{Config: &container.Config{Image: of, Cmd: []string{"/bin/sleep", "1000"}}, HostConfig: o})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_, _ = api.ContainerRemove(context.WithoutCancel(t.Context()), c.ID, client.ContainerRemoveOptions{Force: true})
		})
		return c.ID
	}
	killed := run(&container.HostConfig{Resources: container.Resources{Ulimits: ulimits}}, base)
	user := run(&container.HostConfig{}, nameless(t, api, t.Name())[0])
	for at, text := range map[string]string{folder + "/lock": "", folder + "/dead": "", folder + "-built/dead-1": fmt.Sprintf("mark %d\n%s\n%s\n", mark, before, first[1])} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o700), os.WriteFile(at, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := executor.NewDocker(folder).Sweep(t.Context()); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("an image in use: %v", err)
	}
	if _, err := api.ContainerInspect(t.Context(), killed, client.ContainerInspectOptions{}); !errdefs.IsNotFound(err) {
		t.Errorf("its container is there: %v", err)
	}
	if notes, _ := os.ReadDir(folder + "-built"); len(notes) != 1 {
		t.Errorf("of an image in use nothing is noted: %v", notes)
	}
	if _, err := api.ContainerRemove(t.Context(), user, client.ContainerRemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	if err := executor.NewDocker(folder).Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := nameless(t, api, t.Name()); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if notes, _ := os.ReadDir(folder + "-built"); len(notes) > 0 {
		t.Errorf("notes are left: %v", notes)
	}
}

// The time of a build holds for saving it too, and is told as such.
func TestSavingAnImageIsOfItsTime(t *testing.T) {
	done := make(chan struct{})
	slow := executortest.Through(t, func(_ http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/get") {
			return false
		}
		select {
		case <-r.Context().Done():
		case <-done:
		}
		panic(http.ErrAbortHandler)
	})
	defer close(done)
	t.Setenv("DOCKER_HOST", slow)
	began := time.Now()
	got, out, err := built(t, t.Context, "FROM scratch\nLABELLED\nCOPY a /", executor.Build{Limits: executor.Limits{Time: 6 * time.Second}}, io.Discard)
	if took := time.Since(began); err != nil || got.Cause != executor.CauseTimeLimit || took > 30*time.Second {
		t.Errorf("%+v, %v after %s\n%s", got, err, took, out)
	}
}

// That an engine does not answer, or goes away, is nobody's fault who asked for an image.
func TestAnImageNeedsAnEngine(t *testing.T) {
	gone := executortest.Through(t, func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/build") {
			panic(http.ErrAbortHandler)
		}
		return false
	})
	for at, want := range map[string]string{"unix:///nowhere/docker.sock": "it asks for an image built by Dockerfile, and the container engine does not answer", gone: "build the image: "} {
		t.Setenv("DOCKER_HOST", at)
		b := executor.Build{Name: "a", Dockerfile: "Dockerfile", Context: archived(t, "FROM scratch\nCOPY a /"), Saved: filepath.Join(t.TempDir(), "saved")}
		if got, err := executor.NewDocker(filepath.Join(t.TempDir(), "engine")).Build(t.Context(), b, io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v, %v", at, got, err)
		}
	}
}
