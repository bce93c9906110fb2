package pipeline

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lemnis/lemnis/internal/testreport"
)

// What failed within another is told in its place, however many there are, and however they are named.
func TestManyFailures(t *testing.T) {
	var f findings
	fail := func(name string) {
		f.cases = append(f.cases, testreport.Case{Suite: "s", Name: name, Outcome: testreport.Failed})
	}
	const n = 100_000
	fail("a")
	for i := range n {
		fail(fmt.Sprintf("a/%d", i))
	}
	fail(strings.Repeat("/", 1<<20))
	fail("b")
	began := time.Now()
	if got := f.failed(); !strings.HasPrefix(got, "100002 failed: a/0, a/1, ") || !strings.HasSuffix(got, "a/9, and 99992 more") {
		t.Errorf("failed: %.200s", got)
	}
	f.quarantine(func(test string) string {
		if test == "s.a" {
			return "of bo"
		}
		return ""
	})
	if len(f.spared) != n+1 || f.cases[0].Outcome != testreport.Skipped || !slices.Contains(f.spared, "s.a") {
		t.Errorf("%d are in quarantine, of a %v", len(f.spared), f.cases[0].Outcome)
	}
	if got := f.failed(); !strings.HasPrefix(got, "2 failed: ") || !strings.HasSuffix(got, ", b") {
		t.Errorf("failed beside those in quarantine: %d bytes", len(got))
	}
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("it took %v", took)
	}
}
