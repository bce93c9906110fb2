package pipeline_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lemnis/lemnis/internal/executor"
	"github.com/lemnis/lemnis/internal/executor/executortest"
	"github.com/lemnis/lemnis/services/builder/pipeline"
)

// TestGreet is run in containers, as what listens to GREET, and as what comes to CALL.
func TestGreet(t *testing.T) {
	if at := os.Getenv("GREET"); at != "" {
		listener, err := net.Listen("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		for {
			c, err := listener.Accept()
			if err != nil {
				t.Fatal(err)
			}
			_, _ = fmt.Fprintln(c, "greetings")
			_ = c.Close()
		}
	}
	if at := os.Getenv("CALL"); at != "" {
		c, err := net.Dial("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		said, err := io.ReadAll(c)
		fmt.Println(string(said), err)
	}
}

// A step in an image is as one on the host: secrets are masked, reports read, outputs go on to steps on the host, caches come back.
func TestStepsInImages(t *testing.T) {
	t.Parallel()
	image := executortest.Image(t, `CMD ["/test", "-test.run=^TestGreet$"]`, "EXPOSE 7000")
	dir := defined(t, fmt.Sprintf(`
steps:
  - name: make
    image: %[1]s
    run: |
      echo the secret is $KEY
      ls .cache 2>/dev/null || echo no cache
      mkdir -p out .cache; echo made >out/a; touch .cache/kept
      test -z "$GOCACHE$XDG_CONFIG_HOME"
      CALL=db:7000 /test -test.run='^TestGreet$'
      echo '<testsuite name="s"><testcase name="a"/></testsuite>' >r.xml
    secrets: {KEY: "secret:key"}
    services: [{name: db, image: "%[1]s", environment: {GREET: ":7000"}}]
    cache: [.cache]
    outputs: [out]
    reports: {tests: [r.xml]}
    always: true
  - {name: use, run: cat out/a}
`, image))
	kept := t.TempDir()
	for _, cached := range []string{"no cache\n", "kept\n"} {
		r := run(t, pipeline.Spec{Dir: dir, At: "/work", Image: executor.NewDocker(t.TempDir()), Kept: kept, Tree: "tree", Name: "before", Secret: func(string) (string, error) { return "hunter2", nil }})
		if !r.Succeeded() || len(r.Tests) != 1 || !strings.HasPrefix(r.Images[image], "sha256:") {
			t.Fatalf("%+v, in %v\n%s", r.Steps, r.Images, r.LogTail)
		}
		for _, line := range []string{"the secret is ***\n", "greetings", "made\n", cached} {
			if !strings.Contains(r.LogTail, line) {
				t.Errorf("no %q in\n%s", line, r.LogTail)
			}
		}
	}
	// A failure says the last line, as on the host; what there is no image for, says which.
	for script, want := range map[string]string{"echo oh; exit 3": "exit status 3: oh", "image": "image localhost:1/none:1 is not here, and can not be pulled: "} {
		of := image
		if script == "image" {
			of, script = "localhost:1/none:1", ":"
		}
		failed, _ := run(t, pipeline.Spec{Image: executor.NewDocker(t.TempDir()), Dir: defined(t, fmt.Sprintf("steps: [{name: a, run: '%s', image: '%s'}]", script, of))}).Failed()
		if !strings.HasPrefix(failed.Reason, want) || failed.Outcome != pipeline.Failure {
			t.Errorf("want %q: %+v", want, failed)
		}
	}
}

// A result of an image is taken for that image only, whatever its name means by now.
func TestAResultIsOfAnImageNotOfItsName(t *testing.T) {
	t.Parallel()
	image := executortest.Image(t)
	dir, kept := defined(t, "steps: [{name: a, image: '"+image+"', run: ':'}, {name: b, run: ':', services: [{name: db, image: '"+image+"'}]}]"), filepath.Join(t.TempDir(), "steps")
	step := func() string {
		r := run(t, pipeline.Spec{Dir: dir, Image: executor.NewDocker(t.TempDir()), Kept: kept, Tree: "tree", Name: "before", Only: []string{"a"}})
		return fmt.Sprint(r.Succeeded(), len(r.Reused()))
	}
	if got := step() + ", " + step(); got != "true 0, true 1" {
		t.Error(got)
	}
	executortest.Replace(t, image)
	if got := step() + ", " + step(); got != "true 0, true 1" {
		t.Errorf("another image of the name: %s", got)
	}
}
