package chaos

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// Programs are the files that a stack runs.
type Programs struct {
	Service, Gateway, NATS string
	Redis                  string // empty where there is no redis-server on the PATH
}

// Build builds what a stack runs into a folder: the services of the proof with the tag chaos, the gateway as it is, and
// nats-server from its module.
func Build(dir string) (Programs, error) {
	p := Programs{Service: filepath.Join(dir, "service"), Gateway: filepath.Join(dir, "lemnis-gateway"), NATS: filepath.Join(dir, "nats-server")}
	_, here, _, _ := runtime.Caller(0)
	for file, pkg := range map[string]string{
		p.Service: "./cmd/service", p.Gateway: "github.com/lemnis/lemnis/services/gateway/cmd/lemnis-gateway", p.NATS: "github.com/nats-io/nats-server/v2",
	} {
		args := []string{"build", "-trimpath", "-o", file}
		if file == p.Service {
			args = append(args, "-tags", "chaos")
		}
		build := exec.Command("go", append(args, pkg)...)
		build.Dir = filepath.Dir(here)
		if _, err := os.Stat(build.Dir); err != nil { // built with -trimpath, or moved
			build.Dir = "."
		}
		if out, err := build.CombinedOutput(); err != nil {
			return p, fmt.Errorf("build %s: %w\n%s", pkg, err, out)
		}
	}
	if path, err := exec.LookPath("redis-server"); err == nil {
		p.Redis = path
	}
	return p, nil
}
