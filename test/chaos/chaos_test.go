package chaos

import (
	"context"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestChaos is the short form of the proof. CHAOS_SEED plays a seed again, which the test prints; `make chaos` is the full form.
func TestChaos(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: takes half a minute, so nothing was killed")
	}
	seed := rand.Uint64N(1 << 32)
	if text := os.Getenv("CHAOS_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("CHAOS_SEED=%d", seed)
	dir := t.TempDir()
	programs, err := Build(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	defer cancel()
	sc, err := (&Scene{Programs: programs, Dir: dir, Seed: seed, Short: true}).On("brief")
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	row, ledger, err := Brief(ctx, sc)
	if err != nil {
		t.Fatal(err)
	}
	var report strings.Builder
	Report(&report, seed, began, []Row{row})
	t.Log("\n" + report.String())
	if len(row.Findings) > 0 {
		t.Fatalf("%d promises were broken", len(row.Findings))
	}
	t.Run("the model notices what is wrong", func(t *testing.T) { notices(t, ledger) })
	if programs.Redis == "" {
		t.Skip("SKIPPED: there is no redis-server on the PATH, so folds were NOT compared and nothing was emptied")
	}
}
