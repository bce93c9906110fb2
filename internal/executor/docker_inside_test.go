package executor

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/lemnis/lemnis/internal/executor/executortest"
)

// podOf is the containers of a step, for what is tried of them alone; they go with the test.
func podOf(t *testing.T, step Step) *pod {
	t.Helper()
	step.Name, step.Limits = t.Name(), step.Limits.filled()
	p := &pod{engine: NewDocker(t.TempDir()), api: executortest.Engine(t), step: step, out: &meter{out: io.Discard, full: func() {}}, images: map[string]string{}}
	t.Cleanup(func() {
		if err := p.end(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return p
}

func TestAProgramOfAnImageCanNotFillTheBuildersMemory(t *testing.T) {
	t.Parallel()
	p, image := podOf(t, Step{}), executortest.Image(t)
	id, err := p.make(t.Context(), image, &container.Config{Image: image, Cmd: []string{"/bin/sleep", "600"}}, p.bounded())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.api.ContainerStart(t.Context(), id, client.ContainerStartOptions{}); err != nil {
		t.Fatal(err)
	}
	if said, err := p.print(t.Context(), id, "yes"); !errors.Is(err, errUnable) {
		t.Errorf("%d bytes, %v", len(said), err)
	}
	if said, err := p.print(t.Context(), id, "head", "-c", "65536", "/dev/zero"); err != nil || len(said) != 65536 {
		t.Errorf("%d bytes, %v", len(said), err)
	}
}

// That this machine was given no engine is a result: whoever asked for one has to do without.
func TestWithoutAnEngineThatIsTheResult(t *testing.T) {
	t.Setenv("DOCKER_HOST", "")
	d := NewDocker(t.TempDir())
	d.socket = filepath.Join(t.TempDir(), "nobody.sock")
	for _, step := range []Step{{Image: "golang:1.26"}, {Beside: []Service{{Name: "db", Image: "postgres:16"}}}} {
		step.Dir, step.Script = t.TempDir(), "echo began"
		var out bytes.Buffer
		if got, err := d.Run(t.Context(), step, &out); err != nil || got.Cause != CauseEngine || !strings.Contains(got.Reason, "no container engine here") || out.Len() > 0 {
			t.Errorf("%+v %v: %s", got, err, out.String())
		}
	}
}

// An engine that takes a request and never answers holds no step that is no longer wanted.
func TestAnEngineThatFallsSilentIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	image := executortest.Image(t)
	for _, call := range []string{"/containers/create", "/archive", "/attach", "/wait", "/start"} {
		t.Run(call, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancelCause(t.Context())
			api, err := client.New(client.WithHost(executortest.Through(t, func(_ http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, call) {
					return false
				}
				_, _ = io.Copy(io.Discard, r.Body)
				cancel(errors.New("no longer wanted"))
				<-t.Context().Done()
				return true
			})))
			if err != nil {
				t.Fatal(err)
			}
			d := NewDocker(t.TempDir())
			d.api, d.id = api, "test"
			done := make(chan error, 1)
			go func() {
				_, err := d.Run(ctx, Step{Name: t.Name(), Image: image, Dir: t.TempDir(), Script: ":"}, io.Discard)
				done <- err
			}()
			select {
			case err := <-done:
				if err == nil || err.Error() != "no longer wanted" {
					t.Error(err)
				}
			case <-time.After(answers / 2):
				t.Error("is still waiting")
			}
		})
	}
}

func TestTheFolderIsWaitedForAsLongAsWanted(t *testing.T) {
	t.Parallel()
	d := NewDocker(t.TempDir())
	leave, err := d.alone(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := d.alone(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	leave()
	if leave, err = d.alone(t.Context()); err != nil {
		t.Fatal(err)
	}
	leave()
}

func TestTheImageWithoutContentIsNotTrustedByItsName(t *testing.T) {
	t.Parallel()
	p := podOf(t, Step{})
	name := executortest.Image(t) // with content
	full, err := imageOf(t.Context(), p.api, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // it has lost its name
		_, _ = p.api.ImageRemove(context.WithoutCancel(t.Context()), full.ID, client.ImageRemoveOptions{Force: true})
	})
	id, err := p.empty(t.Context(), name)
	if err != nil || id == full.ID {
		t.Fatal(id, err)
	}
	if found, err := imageOf(t.Context(), p.api, id); err != nil || !isEmpty(found) || isEmpty(full) {
		t.Errorf("%+v %v", found.RootFS, err)
	}
	if again, err := p.empty(t.Context(), name); err != nil || again != id {
		t.Errorf("made again: %s, %v", again, err)
	}
	for _, name := range []string{nothing, "lemnis/nothing", "docker.io/lemnis/nothing:2", "lemnis/nothing@sha256:" + strings.Repeat("0", 64)} {
		var f failed
		if _, err := p.find(t.Context(), name); !errors.As(err, &f) || !strings.Contains(f.result.Reason, "builder's own") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if reserved("lemnis/nothing-else") || reserved("registry.local:5000/lemnis/nothing") {
		t.Error("the names of others are refused")
	}
}
