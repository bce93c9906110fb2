package builder_test

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/lemnis/lemnis/pkg/events"

	"github.com/lemnis/lemnis/internal/executor"
	"github.com/lemnis/lemnis/services/builder"
)

// BenchmarkCommit prints what the builder adds to the commands of a project, what an unchanged commit costs, and fails where a
// row is not reached.
func BenchmarkCommit(b *testing.B) {
	if granted, why, err := executor.NewProcess(executor.Auto).Isolated(b.Context()); err != nil || !granted {
		b.Logf("NOT ISOLATED: %s %v", why, err)
	}
	for range b.N {
		missed := 0
		w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintf(w, "\nmedians\tby hand\tbuilder\tratio\tasked for\tpackaging and evidence\tunchanged commit again\tpart of the full time\tasked for\t\n")
		for _, c := range []commitRow{
			{name: "build and tests of some 0.6 s", takes: 600 * time.Millisecond, rounds: 7, most: 1.10},
			{name: "build and tests of some 10 s", takes: 10 * time.Second, rounds: 2, most: 1.03},
		} {
			missed += c.measure(b, w)
		}
		_ = w.Flush()
		if missed > 0 {
			b.Errorf("%d goals are missed", missed)
		}
		b.ReportMetric(float64(missed), "missed")
	}
}

// commitRow is a project, whose tests work for some time beside what building and beginning them takes.
type commitRow struct {
	name   string
	takes  time.Duration // by hand, where the machine does not need longer without any work
	work   time.Duration // of the tests; found out
	rounds int
	most   float64 // of the builder's time, by the time of the same commands by hand
}

// The script of both: no round finds what another one compiled, since each is of a text of its own; nor what was compiled when this was
// run before, which the host's cache has by hand, and the builder's steps never write there.
const benchScript = "go build -trimpath -o bin/api . && go test -json -trimpath . > tests.json"

var benchBegan = time.Now().Format(time.RFC3339Nano)

func (c commitRow) files(round string) map[string]string {
	files := maps.Clone(module)
	files["find.go"] += fmt.Sprintf("\nvar round = %q\n", round+" of "+benchBegan)
	files["find_test.go"] += fmt.Sprintf(`
func TestRound(t *testing.T) {
	if round == "" {
		t.Fatal(round)
	}
	sum := [32]byte{}
	for range %d {
		sum = sha256.Sum256(sum[:])
	}
}
`, int(c.work/hashTime()))
	files["find_test.go"] = strings.Replace(files["find_test.go"], `import "testing"`, "import (\n\t\"crypto/sha256\"\n\t\"testing\"\n)", 1)
	files[".lemnis.yaml"] = fmt.Sprintf(`environment: {CGO_ENABLED: "0", GOFLAGS: "-buildvcs=false"}
steps: [{name: all, run: %q, outputs: [bin/api], reports: {tests: [tests.json]}, network: true}]
package: {executable: bin/api}
`, benchScript)
	return files
}

func (c commitRow) measure(b *testing.B, w *tabwriter.Writer) (missed int) {
	b.Helper()
	o := goOrigin(b)
	options := builder.Options{Data: b.TempDir(), Registry: ociRegistry(b)}
	s := newShift(b, options, project(o))
	c.byHand(b, "first "+c.name) // it compiles the standard library
	c.work = max(c.takes-min(c.byHand(b, "second "+c.name), c.byHand(b, "third "+c.name)), 0)
	var hand, ours, packing, again []time.Duration
	for round := range c.rounds + 1 {
		byHand := c.byHand(b, fmt.Sprintf("hand %s %d", c.name, round))
		m := find(o.commit(b, "find", c.files(fmt.Sprintf("builder %s %d", c.name, round))))
		began := time.Now()
		end := s.pipeline(b, m)
		through := time.Since(began)
		if end.Outcome != events.Success || end.Lemnis.Merge.Evidence.Tests != 2 || len(end.Lemnis.Merge.Evidence.Reused) > 0 {
			b.Fatalf("%+v", end)
		}
		began = time.Now()
		second := newShift(b, options, project(o)).pipeline(b, m) // another worker on the same data; it opens its mirror anew
		repeated := time.Since(began)
		began = time.Now()
		third := s.pipeline(b, m)
		repeated = min(repeated, time.Since(began))
		if len(second.Lemnis.Merge.Evidence.Reused) != 1 || len(third.Lemnis.Merge.Evidence.Reused) != 1 {
			b.Fatalf("%+v", second.Lemnis.Merge.Evidence)
		}
		began = time.Now()
		if _, err := s.work(b, "package", "7#1", 1, events.BuildQueued{Lemnis: events.BuildDetail{Service: "api", Merge: end.Lemnis.Merge}}); err != nil {
			b.Fatal(err)
		}
		shipped := time.Since(began)
		if round > 0 { // the first one compiles the standard library
			hand, ours, packing, again = append(hand, byHand), append(ours, through), append(packing, shipped), append(again, repeated)
		}
	}
	ratio, part := float64(median(ours))/float64(median(hand)), float64(median(again))/float64(median(ours))
	say := func(reached bool) string {
		if reached {
			return ""
		}
		missed++
		return "  NOT REACHED"
	}
	fmt.Fprintf(w, "%s\t%.0f ms\t%.0f ms\t%.3f\t≤ %.2f%s\t%.0f ms\t%.0f ms\t%.1f %%\t≤ 2 %%%s\t\n", c.name, ms(median(hand)), ms(median(ours)), ratio, c.most, say(ratio <= c.most),
		ms(median(packing)), ms(median(again)), 100*part, say(part <= 0.02))
	return missed
}

// byHand runs the commands in a folder that has the files, as somebody would who has just fetched the commit.
func (c commitRow) byHand(b *testing.B, round string) time.Duration {
	b.Helper()
	dir := b.TempDir()
	for name, text := range c.files(round) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	began := time.Now()
	cmd := exec.Command("sh", "-e", "-c", benchScript)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		tests, _ := os.ReadFile(filepath.Join(dir, "tests.json"))
		b.Fatalf("%v\n%s%s", err, out, tests)
	}
	return time.Since(began)
}

func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// hashTime is what one hash of the tests' work takes on this machine.
var hashTime = sync.OnceValue(func() time.Duration {
	const n = 2_000_000
	sum, began := [32]byte{}, time.Now()
	for range n {
		sum = sha256.Sum256(sum[:])
	}
	return max(time.Since(began)/n, 1)
})
