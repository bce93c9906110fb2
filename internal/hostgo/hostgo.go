// Package hostgo asks the host's go command where it keeps modules, and where they come from.
package hostgo

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"sync"
)

// Names are the variables that a build shares with the host: where modules come from and are kept, and which toolchain.
var Names = []string{
	"GOMODCACHE", "GOCACHE", "GOPROXY", "GOSUMDB", "GOPRIVATE", "GONOPROXY", "GONOSUMDB", "GOINSECURE", "GOVCS", "GOTOOLCHAIN",
}

// Env returns the values of Names, as `go env` prints them: by the environment, by what `go env -w` has written, or by default.
// The go command is asked once; where there is none, that is an error.
var Env = sync.OnceValues(func() (map[string]string, error) {
	cmd := exec.Command("go", append([]string{"env", "-json"}, Names...)...) //nolint:noctx // takes some milliseconds
	cmd.Dir = os.TempDir()                                                   // not the checkout: its go.mod must not choose what is asked here
	cmd.Env = append(os.Environ(), "GOWORK=off")
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go env: %w", err)
	}
	host := map[string]string{}
	if err := json.Unmarshal(out, &host); err != nil {
		return nil, fmt.Errorf("go env: %w", err)
	}
	return host, nil
})
