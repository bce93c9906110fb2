package builder_test

import (
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/lemnis/lemnis/services/builder"
)

// A builder begins though the engine says nothing, with what a killed one has left still there.
func TestABuilderDoesNotWaitForTheEngine(t *testing.T) {
	folder, err := os.MkdirTemp("", "") //nolint:usetesting // the test's own may be too long a name for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	silent, err := net.Listen("unix", filepath.Join(folder, "engine.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	t.Setenv("DOCKER_HOST", "unix://"+silent.Addr().String())
	if err := os.Mkdir(filepath.Join(folder, "engine"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, note := range []string{"lock", "killed"} {
		if err := os.WriteFile(filepath.Join(folder, "engine", note), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	told := 0
	began := time.Now()
	builder.New(builder.Options{Data: folder, Log: func(string, ...any) { told++ }})
	if took := time.Since(began); took > 8*time.Second || told != 1 {
		t.Errorf("took %s, told %d times", took, told)
	}
}
