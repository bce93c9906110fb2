package pipeline_test

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/lemnis/lemnis/internal/executor"
	"github.com/lemnis/lemnis/services/builder/pipeline"
)

// builds is an engine that builds an image of one layer.
type builds struct {
	*executor.Docker
	layer []byte
}

func (e builds) Build(_ context.Context, b executor.Build, _ io.Writer) (executor.Result, error) {
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(e.layer)), nil })
	if err != nil {
		return executor.Result{}, err
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return executor.Result{}, err
	}
	tag, err := name.NewTag("test/image")
	if err != nil {
		return executor.Result{}, err
	}
	return executor.Result{}, tarball.WriteToFile(b.Saved, tag, image)
}

// A layer that can not be packaged is the image's fault: nothing is tried again.
func TestALayerThatIsRefusedIsThePackagesFault(t *testing.T) {
	t.Parallel()
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "etc/.wh.passwd"}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	dir := project(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY . /\n", ".lemnis.yaml": "steps: [{name: a, run: ':'}]\npackage: {dockerfile: Dockerfile}"})
	r := run(t, pipeline.Spec{Dir: dir, Image: builds{executor.NewDocker(filepath.Join(t.TempDir(), "engine")), layer.Bytes()}})
	failed, _ := r.Failed()
	if failed.Outcome != pipeline.Failure || failed.Cause != pipeline.CausePackage || !strings.Contains(failed.Reason, "etc/.wh.passwd") || r.Packaged() != "" {
		t.Errorf("%+v\n%s", failed, r.LogTail)
	}
}
