package command_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/lemnis/lemnis/cmd/lemnis/command"
)

// The help shows what the environment says, but no password.
func TestHelpHidesPasswords(t *testing.T) {
	t.Setenv("LEMNIS_REDIS_URL", "redis://:cret@redis:6379")
	t.Setenv("LEMNIS_NATS_URL", "nats://a:cret@bus:4222")
	t.Setenv("LEMNIS_SERVER", "https://a:cret@gateway")
	for _, args := range [][]string{{"up", "--help"}, {"doctor", "--help"}, {"restore", "--help"}} {
		var out, complaint bytes.Buffer
		if code := command.Run(t.Context(), args, strings.NewReader(""), &out, &complaint); code != 0 {
			t.Errorf("%v: %d %s", args, code, complaint.String())
		}
		if text := out.String() + complaint.String(); strings.Contains(text, "cret") || !strings.Contains(text, "xxxxx") {
			t.Errorf("%v:\n%s", args, text)
		}
	}
}
