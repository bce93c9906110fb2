package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"
)

// natsServer is a plain nats-server, a process of its own.
type natsServer struct {
	pid     int
	url     string
	profile string // host:port of its own profiler
}

// natsProgram builds a nats-server, once.
var natsProgram = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "lemnis-bench-")
	if err != nil {
		return "", err
	}
	program := filepath.Join(dir, "nats-server")
	if out, err := exec.Command("go", "build", "-o", program, "github.com/nats-io/nats-server/v2").CombinedOutput(); err != nil {
		return program, fmt.Errorf("build nats-server: %w: %s", err, out)
	}
	return program, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if program, _ := natsProgram(); program != "" {
		_ = os.RemoveAll(filepath.Dir(program))
	}
	os.Exit(code)
}

// startNATS runs a nats-server until the benchmark ends.
func startNATS(b *testing.B) natsServer {
	b.Helper()
	program, err := natsProgram()
	if err != nil {
		b.Fatal(err)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	profile := free.Addr().(*net.TCPAddr)
	_ = free.Close()
	dir := b.TempDir()
	server := exec.Command(program, "-js", "-sd", filepath.Join(dir, "data"), "-a", "127.0.0.1", "-p", "-1",
		"--ports_file_dir", dir, "--profile", strconv.Itoa(profile.Port))
	if err := server.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = server.Process.Kill(); _ = server.Wait() })
	file := filepath.Join(dir, "nats-server_"+strconv.Itoa(server.Process.Pid)+".ports")
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); ; <-tick.C {
		text, err := os.ReadFile(file)
		var ports struct {
			NATS []string `json:"nats"`
		}
		if err == nil && json.Unmarshal(text, &ports) == nil && len(ports.NATS) > 0 {
			return natsServer{pid: server.Process.Pid, url: ports.NATS[0], profile: profile.String()}
		}
		if time.Now().After(deadline) {
			b.Fatalf("the nats-server does not say where it listens: %v", err)
		}
	}
}

// How long the server keeps a block of the stream in memory after it was written or read, and how long to wait for the
// memory that its collector has freed to go back to the machine.
const (
	blocksKept = 10 * time.Second
	givenBack  = time.Minute
	stands     = 5 * time.Second
)

// settledMiB is the memory of the server, in MiB, when it does without what it only has at hand: blocks that were just
// written, and what its collector, which runs again when the heap has doubled or after two minutes, has not looked at yet.
// What it remembers (message ids, for two minutes) is in it.
func (s natsServer) settledMiB(b *testing.B) float64 {
	b.Helper()
	<-time.After(blocksKept + 2*time.Second)
	// What was in a pool goes the second time; how much of the freed memory is held back for the next round, Go reckons from
	// the two rounds before. A server at rest does one every two minutes.
	for range 4 {
		s.collect(b)
	}
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	least, since := residentMiB(b, s.pid), time.Now()
	for began := since; time.Since(since) < stands && time.Since(began) < givenBack; <-tick.C {
		if now := residentMiB(b, s.pid); now < least-1 {
			least, since = now, time.Now()
		}
	}
	return residentMiB(b, s.pid)
}

// collect has the server's garbage collected, which its profiler does before it tells of the heap.
func (s natsServer) collect(b *testing.B) {
	b.Helper()
	ask, err := http.NewRequestWithContext(context.WithoutCancel(b.Context()), http.MethodGet, "http://"+s.profile+"/debug/pprof/heap?gc=1", nil)
	if err != nil {
		b.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(ask)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil || answer.StatusCode != http.StatusOK {
		b.Fatalf("the nats-server's profiler: %s, %v", answer.Status, err)
	}
}
