package hostgo

import (
	"errors"
	"os/exec"
	"strings"
	"testing"
)

// The answer is that of `go env`, whichever toolchain it names: that one is not fetched for it.
func TestToolchain(t *testing.T) {
	t.Setenv("GOTOOLCHAIN", "go1.99.0")
	t.Setenv("GOPROXY", "off")
	env, err := ask(t.Context())
	if err != nil || env["GOTOOLCHAIN"] != "go1.99.0" || env["GOPROXY"] != "off" || len(env) != len(Names) {
		t.Errorf("%v, %v", env, err)
	}
}

// What is no answer says why.
func TestRefused(t *testing.T) {
	for name, tc := range map[string]struct{ variable, value, want string }{
		"no cache":             {"GOCACHE", "off", `GOCACHE is "off"`},
		"no whole path":        {"GOMODCACHE", "modules", `GOMODCACHE is "modules"`},
		"the command's reason": {"GOPATH", "modules", "GOPATH entry is relative"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(tc.variable, tc.value)
			if env, err := ask(t.Context()); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v, %v; want %s", env, err, tc.want)
			}
		})
	}
	t.Setenv("PATH", "")
	if env, err := Env(t.Context()); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("%v, %v", env, err)
	}
}
