package executor

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/lemnis/lemnis/services/builder/executor/executortest"
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
