package pipeline

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lemnis/lemnis/internal/hostgo"
)

// passed are the host's own variables that a step gets: how to reach the network.
var passed = []string{
	"SSL_CERT_FILE", "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
}

// proxies are those that hold in an image too, where the files of the others are not.
var proxies = passed[2:]

// environment is what all steps of a run have.
type environment struct {
	variables        []string
	anywhere         []string          // those that mean the same in an image
	shared, readOnly []string          // folders
	caches           map[string]string // of Go: what the host has them in, by variable
	telemetry        string            // folder in which Go is told not to count its use; empty: without Go
}

// newEnvironment finds what the steps of a checkout need of the host. output is the run's own folder. With an error it is what there is
// without the host's settings of Go.
func newEnvironment(ctx context.Context, root *os.Root, output string) (environment, error) {
	e := environment{variables: []string{"GIT_CONFIG_GLOBAL=/dev/null", "GIT_TERMINAL_PROMPT=0"}} // tools fetch modules over git too
	e.anywhere = e.variables[:len(e.variables):len(e.variables)]
	for _, name := range passed {
		if value, ok := os.LookupEnv(name); ok {
			e.variables = append(e.variables, name+"="+value)
			if slices.Contains(proxies, name) {
				e.anywhere = append(e.anywhere, name+"="+value)
			}
		}
	}
	e.toolchains()
	has := func(name string) bool { _, err := root.Stat(name); return err == nil }
	work := has("go.work")
	if !work && !has("go.mod") {
		return e, nil
	}
	host, err := hostgo.Env(ctx)
	if errors.Is(err, exec.ErrNotFound) {
		return e, nil // the step that needs it will say so
	}
	if err != nil {
		return e, err
	}
	for _, name := range hostgo.Names {
		e.variables = append(e.variables, name+"="+host[name])
		if !strings.HasPrefix(host[name], "/") && name != "GOTOOLCHAIN" {
			e.anywhere = append(e.anywhere, name+"="+host[name])
		}
	}
	e.variables = append(e.variables, "GOENV=off")
	if !work {
		e.variables = append(e.variables, "GOWORK=off") // a go.work above the checkout is none of its business
	}
	e.caches = map[string]string{}
	for _, name := range goCaches {
		e.caches[name] = host[name]
	}
	config := filepath.Join(output, ".config")
	e.telemetry = filepath.Join(config, "go", "telemetry")
	e.shared = append(e.shared, config)
	e.variables = append(e.variables, "XDG_CONFIG_HOME="+config)
	return e, nil
}

// make makes the folders that steps are given.
func (e environment) make() error {
	if e.telemetry == "" {
		return nil
	}
	for _, folder := range e.caches {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
	}
	// Go counts its use in the configuration folder, by a process of its own, unless told not to.
	if err := os.MkdirAll(e.telemetry, 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(e.telemetry, "mode"), []byte("off"), 0o600)
}

// toolchains that people install below their home. Of those homes nothing else is shown: credentials lie there too.
func (e *environment) toolchains() {
	home, err := os.UserHomeDir()
	if err != nil {
		return
	}
	for variable, folder := range map[string]string{"RUSTUP_HOME": ".rustup", "PYENV_ROOT": ".pyenv", "VOLTA_HOME": ".volta", "NVM_DIR": ".nvm"} {
		at := os.Getenv(variable)
		if at == "" {
			at = filepath.Join(home, folder)
		}
		if info, err := os.Stat(at); err == nil && info.IsDir() { //nolint:gosec // the host's own variables
			e.variables = append(e.variables, variable+"="+at)
			e.readOnly = append(e.readOnly, at)
		}
	}
}
