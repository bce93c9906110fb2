package integration_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/testcontainers/testcontainers-go"
)

// engine skips the test, loudly, where no container engine answers.
func engine(t *testing.T) {
	t.Helper()
	// The reaper is an image that would have to be pulled; each container ends with its test.
	t.Setenv("TESTCONTAINERS_RYUK_DISABLED", "true")
	if os.Getenv("DOCKER_HOST") == "" && os.Getenv("TESTCONTAINERS_HOST_OVERRIDE") == "" {
		// An engine that is reached by its socket is on this machine. In a machine that looks like a container the library would
		// take the default gateway for it.
		t.Setenv("TESTCONTAINERS_HOST_OVERRIDE", "127.0.0.1")
	}
	if err := engineAnswers(t.Context()); err != nil {
		t.Skipf("SKIPPED: no container engine answers (%v): the images were NOT tried. The same laps ran with the programs as processes", err)
	}
}

func engineAnswers(ctx context.Context) (err error) {
	defer func() { // the library panics where it finds no engine to speak to
		if why := recover(); why != nil {
			err = fmt.Errorf("%v", why)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	provider, err := testcontainers.NewDockerProvider()
	if err != nil {
		return err
	}
	defer func() { _ = provider.Close() }()
	return provider.Health(ctx)
}

// images are what make images has made of this tree.
type images struct{ prefix, tag, nats, redis string }

func (i images) of(service string) string { return i.prefix + service + ":" + i.tag }

// buildImages makes them once a test run. What has not changed since the last time is not made again; the first time on a
// machine that can pull nothing takes some minutes.
var buildImages = sync.OnceValues(func() (images, error) {
	cmd := exec.Command("../../deploy/images/build.sh")
	cmd.Env = append(os.Environ(), "LEMNIS_TAG=test")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return images{}, fmt.Errorf("build the images: %w\n%s", err, out)
	}
	env, err := readEnv("../../bin/images/images.env")
	return images{prefix: env["LEMNIS_IMAGE_PREFIX"], tag: env["LEMNIS_TAG"], nats: env["NATS_IMAGE"], redis: env["REDIS_IMAGE"]}, err
})

// readEnv reads a file of NAME=value lines.
func readEnv(file string) (map[string]string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	env := map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		env[name] = value
	}
	return env, nil
}

// stackSecrets makes a stack's secrets in a folder of the test's, as make stack-secrets does, and returns the folder and the
// user that they can be read by.
func stackSecrets(t *testing.T) (dir, user string) {
	t.Helper()
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(t.TempDir(), "secrets")
	cmd := exec.Command("../../deploy/compose/secrets.sh", dir)
	cmd.Env = append(os.Environ(), "LEMNIS="+filepath.Join(bin, "lemnis"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make the secrets: %v\n%s", err, out)
	}
	env, err := readEnv(filepath.Join(dir, "stack.env"))
	if err != nil {
		t.Fatal(err)
	}
	return dir, env["LEMNIS_UID"] + ":" + env["LEMNIS_GID"]
}

// Every image says what it is, is not root's, and names a bill of materials; those on the small base are small.
func TestImagesSayWhatTheyAre(t *testing.T) {
	engine(t)
	made, err := buildImages()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"planner", "builder", "deployer", "monitor", "feedback", "gateway", "tools"} {
		out, err := exec.Command("docker", "image", "inspect", made.of(name)).Output()
		if err != nil {
			t.Fatal(err)
		}
		var all []struct {
			Size   int64
			Config struct {
				User       string
				Entrypoint []string
				Labels     map[string]string
			}
		}
		if err := json.Unmarshal(out, &all); err != nil || len(all) != 1 {
			t.Fatalf("%s: %d images, %v", name, len(all), err)
		}
		image, labels := all[0], all[0].Config.Labels
		const oci = "org.opencontainers.image."
		for _, label := range []string{"description", "source", "licenses", "version", "revision", "created"} {
			if v := labels[oci+label]; v == "" || v == "unknown" {
				t.Errorf("%s: its label %s is %q", name, label, v)
			}
		}
		if labels[oci+"title"] != "lemnis-"+name || labels["io.lemnis.sbom"] != "/usr/share/lemnis/sbom.cdx.json" {
			t.Errorf("%s: labels %v", name, labels)
		}
		if image.Config.User != "65532:65532" || len(image.Config.Entrypoint) != 1 {
			t.Errorf("%s runs %v as %q", name, image.Config.Entrypoint, image.Config.User)
		}
		if image.Size >= 40_000_000 && name != "builder" && name != "tools" { // these hold git and toolchains
			t.Errorf("%s has %d bytes; 40 MB are allowed", name, image.Size)
		}
	}
}

// The same source gives the same layers: nothing of an image depends on when or how often it was built.
func TestImagesBuildReproducibly(t *testing.T) {
	engine(t)
	if _, err := buildImages(); err != nil {
		t.Fatal(err)
	}
	layers := map[string]string{}
	for _, tag := range []string{"first", "second"} {
		cmd := exec.Command("../../deploy/images/build.sh", "planner")
		cmd.Env = append(os.Environ(), "LEMNIS_TAG=test-"+tag, "NO_CACHE=1", "ENV_FILE="+filepath.Join(t.TempDir(), "images.env"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		image := "lemnis/planner:test-" + tag
		t.Cleanup(func() { _ = exec.Command("docker", "image", "rm", image).Run() })
		out, err := exec.Command("docker", "image", "inspect", "-f", "{{.RootFS.Layers}} user {{.Config.User}}", image).Output()
		if err != nil {
			t.Fatal(err)
		}
		layers[tag] = strings.TrimSpace(string(out))
		t.Log(tag, layers[tag])
	}
	if layers["first"] != layers["second"] || !strings.Contains(layers["first"], "sha256:") {
		t.Errorf("built twice: %s and %s", layers["first"], layers["second"])
	}
	if !strings.HasSuffix(layers["first"], "user 65532:65532") {
		t.Errorf("it runs as root: %s", layers["first"])
	}
}
