// Package hostgo asks the host's go command where it keeps modules, and where they come from.
package hostgo

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Names are the variables that a build shares with the host: where modules come from and are kept, and which toolchain.
var Names = []string{
	"GOMODCACHE", "GOCACHE", "GOPROXY", "GOSUMDB", "GOPRIVATE", "GONOPROXY", "GONOSUMDB", "GOINSECURE", "GOVCS", toolchain,
}

const toolchain = "GOTOOLCHAIN"

// patience is how long the go command may take to answer, which takes milliseconds.
const patience = 30 * time.Second

var known struct {
	mu  sync.Mutex
	env map[string]string
}

// Env returns the values of Names, as `go env` prints them: by the environment, by what `go env -w` has written, or by default. An
// answer is kept. An error wraps [exec.ErrNotFound] where there is no go command; it is one too where that has no place for its caches.
func Env(ctx context.Context) (map[string]string, error) {
	known.mu.Lock()
	defer known.mu.Unlock()
	if known.env == nil {
		env, err := ask(ctx)
		if err != nil {
			return nil, fmt.Errorf("go env: %w", err)
		}
		known.env = env
	}
	return maps.Clone(known.env), nil
}

func ask(ctx context.Context) (map[string]string, error) {
	// This one question is answered without the toolchain that it names; the others would have it fetched first.
	named, err := run(ctx, "", toolchain)
	if err != nil {
		return nil, err
	}
	text, err := run(ctx, "local", append([]string{"-json"}, Names...)...)
	if err != nil {
		return nil, err
	}
	env := map[string]string{}
	if err := json.Unmarshal(text, &env); err != nil {
		return nil, err
	}
	env[toolchain] = strings.TrimSpace(string(named))
	for _, name := range Names[:2] {
		if !filepath.IsAbs(env[name]) { // without a home
			return nil, fmt.Errorf("%s is %q, which is no folder's whole path", name, env[name])
		}
	}
	return env, nil
}

// run has a toolchain print variables; empty: the one that the host names.
func run(ctx context.Context, by string, words ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", append([]string{"env"}, words...)...)
	cmd.Dir = "/" // nobody's checkout: its go.mod would choose the toolchain that answers
	cmd.Env = append(os.Environ(), "GOWORK=off")
	if by != "" {
		cmd.Env = append(cmd.Env, toolchain+"="+by)
	}
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", cmp.Or(ctx.Err(), err), bytes.TrimSpace(exit.Stderr))
	}
	return out, err
}
