package deployer

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
)

// Disks do not fill with what ended: an executable stays while something may be gone back to it, a log for a week.
func TestWhatNothingNeedsIsRemoved(t *testing.T) {
	shelf, data := newShelf(t), t.TempDir()
	d := start(t, testProject("dev"), Options{Data: data, Look: time.Hour})
	var ids []string
	var all []events.ArtifactDetail
	for _, version := range []string{"v1", "v2"} {
		a := shelf.put(t, version, "good")
		all = append(all, a)
		d.publish(a)
		ids = append(ids, d.await(t, version, published("dev", a.Digest)).Content.(events.ServicePublished).Lemnis.Rollout.ID)
	}
	s, err := d.deployer.use(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	stray := filepath.Join(data, "executables", strings.Repeat("0", 64))
	for _, err := range []error{os.MkdirAll(stray, 0o700), os.WriteFile(filepath.Join(stray, "api"), nil, 0o700), os.WriteFile(s.logFile("shop", "old"), nil, 0o600), os.WriteFile(s.logFile("shop", "old")+".1", nil, 0o600)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	is := func(path string) bool { _, err := os.Stat(path); return err == nil }
	executable := func(a events.ArtifactDetail) string {
		return filepath.Join(data, "executables", strings.TrimPrefix(a.Digest, "sha256:"))
	}
	tidy := func(after time.Duration) {
		t.Helper()
		state, err := s.front.Now(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s.tidy(state, time.Now().Add(after))
	}
	tidy(time.Hour)
	if !is(stray) || !is(s.logFile("shop", "old")) {
		t.Error("what has just been put there is gone")
	}
	tidy(8 * 24 * time.Hour)
	if is(stray) || is(s.logFile("shop", "old")) || is(s.logFile("shop", "old")+".1") || is(s.logFile("shop", ids[0])) {
		t.Error("what nothing needs is there")
	}
	// One that is asked for again after long, and that no fact needs yet.
	a := shelf.put(t, "v3", "good")
	ask := func() {
		t.Helper()
		if _, err := s.executable(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	ask()
	old := time.Now().Add(-2 * keepExecutables)
	if err := os.Chtimes(executable(a), old, old); err != nil {
		t.Fatal(err)
	}
	ask()
	if tidy(0); !is(executable(a)) {
		t.Error("what has just been asked for is gone")
	}
	if !is(executable(all[0])) || !is(executable(all[1])) || !is(s.logFile("shop", ids[1])) {
		t.Error("what serves, or is the last good one, is gone")
	}
}
