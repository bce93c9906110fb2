package pipeline

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lemnis/lemnis/services/builder/executor"
)

const (
	printed  = 2_000_000_000 // bytes
	mostLog  = 4.0           // times the bare pipe
	mostHeld = 64 << 20      // bytes of memory above idle
)

// BenchmarkLog has a step print 2 GB in lines of 100 bytes, which are masked, hashed and stored, beside the same through a bare
// pipe into a file, and fails where the row is not reached.
func BenchmarkLog(b *testing.B) {
	line := strings.Repeat("0123456789 ", 9)
	script := fmt.Sprintf("yes '%s' | head -c %d", line, printed)
	for range b.N {
		bare := barePipe(b, script)
		dir := b.TempDir()
		definition := fmt.Sprintf("steps: [{name: a, run: %q, secrets: {A: 'secret:a', B: 'secret:b'}, limits: {output: 4GiB}}]\n", script)
		if err := os.WriteFile(filepath.Join(dir, ".lemnis.yaml"), []byte(definition), 0o600); err != nil {
			b.Fatal(err)
		}
		highest := watchMemory()
		began := time.Now()
		r, err := Run(b.Context(), Spec{Dir: dir, Output: b.TempDir(), Host: executor.NewProcess(executor.Auto),
			Secret: func(name string) (string, error) { return "tok_8f1c0a7e5d" + name, nil }})
		took, held := time.Since(began), highest()
		if err != nil || !r.Succeeded() || r.LogSize < printed {
			b.Fatalf("%v %+v: %d bytes", err, r.Steps, r.LogSize)
		}
		ratio, missed := took.Seconds()/bare.Seconds(), 0
		say := func(reached bool) string {
			if reached {
				return ""
			}
			missed++
			return "  NOT REACHED"
		}
		fmt.Printf("\na step that prints 2 GB in lines of 100 bytes: bare pipe into a file %.1f s; masked, hashed and stored %.1f s: %.2f times (asked for: ≤ %.0f%s); memory %d MiB above idle (≤ %d%s)\n",
			bare.Seconds(), took.Seconds(), ratio, mostLog, say(ratio <= mostLog), held>>20, mostHeld>>20, say(held <= mostHeld))
		if missed > 0 {
			b.Errorf("%d goals are missed", missed)
		}
		b.ReportMetric(float64(missed), "missed")
	}
}

func barePipe(b *testing.B, script string) time.Duration {
	b.Helper()
	file, err := os.Create(filepath.Join(b.TempDir(), "log"))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	began := time.Now()
	cmd := exec.Command("sh", "-c", script)
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	if n, err := io.Copy(struct{ io.Writer }{file}, struct{ io.Reader }{out}); err != nil || n != printed {
		b.Fatalf("%d bytes, %v", n, err)
	}
	if err := cmd.Wait(); err != nil {
		b.Fatal(err)
	}
	return time.Since(began)
}

// watchMemory follows the resident memory of this process; what it returns ends that, and says how far it rose.
func watchMemory() func() int64 {
	idle := resident()
	end, rose, watched := make(chan struct{}), int64(0), sync.WaitGroup{}
	watched.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-end:
				return
			case <-tick.C:
				rose = max(rose, resident()-idle)
			}
		}
	})
	return func() int64 { close(end); watched.Wait(); return rose }
}

func resident() int64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	pages, _ := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	return pages * int64(os.Getpagesize())
}
