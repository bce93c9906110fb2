package pipeline

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lemnis/lemnis/internal/executor"
	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/internal/runlog"
)

const (
	printed  = 2_000_000_000 // bytes
	piece    = 20_000_000    // bytes of the file that is printed again and again: farther apart than any compression looks back
	mostLog  = 4.0           // times the bare pipe
	mostHeld = 64 << 20      // bytes of memory above idle
)

// BenchmarkLog has a step print 2 GB in lines of 100 bytes, which are masked, hashed, compressed and stored on a bus of another process,
// beside the same through a bare pipe into a file; then the log is searched. It fails where the row is not reached.
func BenchmarkLog(b *testing.B) {
	for range b.N {
		missed := 0
		for _, kind := range []struct {
			name string
			line func(*rand.Rand, int) string
		}{
			{"lines like a build's", buildLine},
			{"lines of random hexadecimal digits", hexLine},
			{"lines that begin with ten bytes of each secret", func(r *rand.Rand, n int) string { return "tok_8f1c0a" + buildLine(r, n)[10:] }},
		} {
			missed += logOf(b, kind.name, kind.line)
		}
		if missed > 0 {
			b.Errorf("%d goals are missed", missed)
		}
		b.ReportMetric(float64(missed), "missed")
	}
}

func buildLine(r *rand.Rand, n int) string {
	words := []string{"ok", "compile", "github.com/acme/shop/internal/", "cached", "PASS", "func", "downloading", "/usr/lib/", "warning:", "test", "server", "took"}
	line := fmt.Sprintf("%08d ", n)
	for len(line) < 99 {
		line += words[r.IntN(len(words))] + strconv.Itoa(r.IntN(10_000)) + " "
	}
	return line[:99] + "\n"
}

func hexLine(r *rand.Rand, _ int) string {
	line := ""
	for len(line) < 99 {
		line += fmt.Sprintf("%016x", r.Uint64())
	}
	return line[:99] + "\n"
}

func logOf(b *testing.B, name string, line func(*rand.Rand, int) string) (missed int) {
	b.Helper()
	dir := b.TempDir()
	writeLines(b, filepath.Join(dir, "lines"), line)
	script := fmt.Sprintf("for i in $(seq %d); do cat lines; done", printed/piece)
	definition := fmt.Sprintf("steps: [{name: a, run: %q, secrets: {A: 'secret:a', B: 'secret:b'}, limits: {output: 4GiB}}]\n", script)
	if err := os.WriteFile(filepath.Join(dir, ".lemnis.yaml"), []byte(definition), 0o600); err != nil {
		b.Fatal(err)
	}
	bare := barePipe(b, dir, script)
	logs, bus := elsewhere(b)
	run := runlog.Run{Project: "bench", Kind: runlog.Pipeline, Key: "1"}
	highest, ofBus := watchMemory(os.Getpid()), watchMemory(bus)
	began := time.Now()
	log := logs.Write(b.Context(), run, 1)
	r, err := Run(b.Context(), Spec{Dir: dir, Output: b.TempDir(), Host: executor.NewProcess(executor.Auto), Log: log,
		Secret: func(name string) (string, error) { return "tok_8f1c0a7e5d" + name, nil }})
	kept := log.Close(true)
	took, held, heldByBus := time.Since(began), highest(), ofBus()
	if err != nil || !r.Succeeded() || kept.Size < printed || kept.Dropped > 0 {
		b.Fatalf("%v %+v: %+v", err, r.Steps, kept)
	}
	last, err := logs.Find(b.Context(), run)
	if err != nil {
		b.Fatal(err)
	}
	began = time.Now()
	filter := runlog.NewFilter(io.Discard, "", "no line has this")
	read := int64(0)
	if err := logs.Read(b.Context(), last, false, func(step string, text []byte) error {
		read += int64(len(text))
		return filter.Print(step, text)
	}); err != nil || read != kept.Size {
		b.Fatalf("read %d of %d bytes: %v", read, kept.Size, err)
	}
	searched := time.Since(began)
	ratio := took.Seconds() / bare.Seconds()
	say := func(reached bool) string {
		if reached {
			return ""
		}
		missed++
		return "  NOT REACHED"
	}
	fmt.Printf("\na step that prints 2 GB in lines of 100 bytes, %s: bare pipe into a file %.1f s; masked and stored %.1f s: %.2f times (asked for: ≤ %.0f%s); memory %d MiB above idle (≤ %d%s), the bus %d MiB; searched in %.1f s\n",
		name, bare.Seconds(), took.Seconds(), ratio, mostLog, say(ratio <= mostLog), held>>20, mostHeld>>20, say(held <= mostHeld), heldByBus>>20, searched.Seconds())
	return missed
}

func writeLines(b *testing.B, path string, line func(*rand.Rand, int) string) {
	b.Helper()
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	w, r := bufio.NewWriter(f), rand.New(rand.NewPCG(1, 2)) // the same lines each time
	for n := range piece / 100 {
		_, _ = w.WriteString(line(r, n))
	}
	if err := w.Flush(); err != nil {
		b.Fatal(err)
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
}

// busVariable has this program be a bus, in the folder that it names, until its input ends.
const busVariable = "LEMNIS_BENCH_BUS"

func init() {
	folder := os.Getenv(busVariable)
	if folder == "" {
		return
	}
	s, err := natsd.Start(natsd.Options{Dir: folder, Listen: "127.0.0.1:0"})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(s.URL())
	_, _ = io.Copy(io.Discard, os.Stdin)
	s.Stop()
	os.Exit(0)
}

// elsewhere is a store on the bus of another process, and that process.
func elsewhere(b *testing.B) (logs *runlog.Store, process int) {
	b.Helper()
	folder := b.TempDir()
	cmd := exec.Command(os.Args[0])
	cmd.Env, cmd.Stderr = append(os.Environ(), busVariable+"="+folder), os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	url, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	options, err := natsd.ServiceOptionsFromFile(filepath.Join(folder, natsd.KeyFile))
	if err != nil {
		b.Fatal(err)
	}
	nc, err := nats.Connect(strings.TrimSpace(url), options...)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := natsd.EnsureStreams(b.Context(), js, 1); err != nil {
		b.Fatal(err)
	}
	return runlog.New(js), cmd.Process.Pid
}

func barePipe(b *testing.B, dir, script string) time.Duration {
	b.Helper()
	file, err := os.Create(filepath.Join(b.TempDir(), "log"))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	began := time.Now()
	cmd := exec.Command("sh", "-c", script)
	cmd.Dir = dir
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

// watchMemory follows the resident memory of a process; what it returns ends that, and says how far it rose.
func watchMemory(process int) func() int64 {
	idle := resident(process)
	end, rose, watched := make(chan struct{}), int64(0), sync.WaitGroup{}
	watched.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-end:
				return
			case <-tick.C:
				rose = max(rose, resident(process)-idle)
			}
		}
	})
	return func() int64 { close(end); watched.Wait(); return rose }
}

func resident(process int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", process))
	if err != nil {
		return 0
	}
	pages, _ := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	return pages * int64(os.Getpagesize())
}
