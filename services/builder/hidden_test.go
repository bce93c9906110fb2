package builder

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lemnis/lemnis/internal/executor"
	"github.com/lemnis/lemnis/internal/service"
)

// A step reads none of the builder's own credentials, though they lie where it may look.
func TestStepsReadNoCredentialsOfTheBuilder(t *testing.T) {
	t.Parallel()
	host := executor.NewProcess(executor.Auto)
	if isolated, why, err := host.Isolated(t.Context()); err != nil || !isolated {
		t.Skipf("SKIPPED: that steps read no credentials of the builder was NOT shown: %s (%v)", why, err)
	}
	keys := t.TempDir()
	file := func(name string) string {
		at := filepath.Join(keys, name)
		if err := os.WriteFile(at, []byte("hunter2"), 0o644); err != nil {
			t.Fatal(err)
		}
		return at
	}
	signing, nats, other := file("signing"), file("nats"), file("other")
	b := &builder{options: Options{Data: t.TempDir(), SigningKey: signing, Private: service.KeyFiles([]string{"LEMNIS_NATS_KEY_FILE=" + nats, "LEMNIS_HTTP=:1"})}}
	for key, readable := range map[string]bool{signing: false, nats: false, other: true} {
		var out strings.Builder
		got, err := host.Run(t.Context(), executor.Step{Name: "look", Dir: t.TempDir(), Script: fmt.Sprintf("cat %s", key), ReadOnly: []string{keys}, Hidden: b.hidden()}, &out)
		if err != nil || strings.Contains(out.String(), "hunter2") != readable {
			t.Errorf("%s: %+v %v %q", key, got, err, out.String())
		}
	}
}
