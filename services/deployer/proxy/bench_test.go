package proxy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// The front is measured beside the least that net/http offers and beside nginx, all before the same backend (nginx too),
// with the same load: 64 connections of wrk, small answers. Rounds alternate, figures are medians. What the front adds to
// the p99 is measured at half of its throughput, against the backend asked at the same rate by the same client in the same round:
// what a pause of the machine adds is in one round, and seldom in the middle one.
const (
	benchRounds      = 5
	benchRound       = 2 * time.Second
	pacedRounds      = 15
	pacedRound       = time.Second
	benchConnections = 64
)

func BenchmarkProxy(b *testing.B) {
	for _, program := range []string{"nginx", "wrk"} {
		if _, err := exec.LookPath(program); err != nil {
			b.Skipf("SKIPPED: the proxy was NOT measured: %s is not on the PATH", program)
		}
	}
	backend, through := nginx(b)
	addresses := measured(b, backend)
	addresses["nginx"], addresses["none"] = through, backend
	for range b.N {
		rates, p99s := map[string][]float64{}, map[string][]float64{}
		for range benchRounds {
			for _, name := range []string{"bare", "nginx", "front"} {
				rates[name] = append(rates[name], load(b, addresses[name]))
			}
		}
		half := middle(rates["front"]) / 2
		for i := range pacedRounds {
			for _, name := range []string{"none", "nginx", "front"} {
				p99s[name] = append(p99s[name], paced(b, addresses[name], half))
			}
			for _, name := range []string{"nginx", "front"} {
				p99s[name][i] -= p99s["none"][i]
			}
		}
		for name, all := range rates {
			b.ReportMetric(middle(all), name+"/s")
		}
		ofBare, ofNginx := middle(rates["front"])/middle(rates["bare"]), middle(rates["front"])/middle(rates["nginx"])
		added, byNginx := middle(p99s["front"]), middle(p99s["nginx"])
		b.ReportMetric(ofBare, "of-bare")
		b.ReportMetric(ofNginx, "of-nginx")
		b.ReportMetric(added, "p99-added-ms")
		b.ReportMetric(byNginx, "p99-added-by-nginx-ms")
		b.ReportMetric(0, "ns/op")
		fmt.Printf("proxy, requests a second of the bare one's: %.2f, asked for: 3%s\n", ofBare, verdict(ofBare >= 3))
		fmt.Printf("proxy, requests a second of nginx's: %.2f, asked for: 0.75%s\n", ofNginx, verdict(ofNginx >= 0.75))
		fmt.Printf("proxy, p99 added at %.0f requests a second: %.2f ms, asked for: under 1 ms%s (nginx adds %.2f ms; without either it is %.2f ms)\n",
			half, added, verdict(added < 1), byNginx, middle(p99s["none"]))
	}
}

// TestMain is also the process of what is measured: a front is a process of its own, and shares neither scheduler nor memory
// with who asks it.
func TestMain(m *testing.M) {
	if backend := os.Getenv(benchBackend); backend != "" {
		if err := serveMeasured(backend); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if backend := os.Getenv(fewFiles); backend != "" {
		if err := serveWithFewFiles(backend); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

const benchBackend = "LEMNIS_BENCH_BACKEND"

// serveMeasured is a front and a bare proxy, until the standard input ends; it prints their addresses.
func serveMeasured(backend string) error {
	to, err := url.Parse("http://" + backend)
	if err != nil {
		return err
	}
	reverse := httputil.NewSingleHostReverseProxy(to)
	reverse.ErrorLog = log.New(io.Discard, "", 0) // wrk leaves in the middle of its last requests
	bare := &http.Server{Handler: reverse, ReadHeaderTimeout: time.Minute}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() { _ = bare.Serve(listener) }()
	f, err := New(Config{Service: "api"})
	if err != nil {
		return err
	}
	if err := f.SetRoutes(Routes{Stable: Upstream{"v1", "http://" + backend}}); err != nil {
		return err
	}
	fmt.Println(listener.Addr(), f.Addr())
	_, _ = io.Copy(io.Discard, os.Stdin)
	if counts := f.Snapshot().Versions["v1"]; counts.Errors > 0 {
		return fmt.Errorf("%d of %d requests failed", counts.Errors, counts.Requests)
	}
	return nil
}

// measured starts serveMeasured.
func measured(b *testing.B, backend string) map[string]string {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), benchBackend+"="+backend)
	cmd.Stderr = os.Stderr
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
	b.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			b.Errorf("the front: %v", err)
		}
	})
	bare, front := "", ""
	if _, err := fmt.Fscanln(out, &bare, &front); err != nil {
		b.Fatal(err)
	}
	return map[string]string{"bare": bare, "front": front}
}

func middle(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

func verdict(reached bool) string {
	if reached {
		return ""
	}
	return "  NOT REACHED"
}

var ratePattern = regexp.MustCompile(`Requests/sec:\s+([0-9.]+)`)

// load is requests a second.
func load(b *testing.B, address string) float64 {
	b.Helper()
	out, err := exec.Command("wrk", "-t1", "-c"+strconv.Itoa(benchConnections), "-d"+benchRound.String(), "-H", UserHeader+": ann", "http://"+address+"/").CombinedOutput()
	found := ratePattern.FindSubmatch(out)
	if err != nil || found == nil || regexp.MustCompile(`Non-2xx`).Match(out) {
		b.Fatalf("wrk: %v\n%s", err, out)
	}
	rate, _ := strconv.ParseFloat(string(found[1]), 64)
	return rate
}

// paced asks at a steady rate and returns the latency that 99 of 100 answers keep, in ms: until the kernel had the answer, so
// that what the asker waits for a processor is not in it, but for the crowd that it sends then. What a request had to wait for the answer before it is: a pause is
// seen by all whom it hits. One thread asks on all connections: a goroutine for each would take more of the machine than what is
// measured.
func paced(b *testing.B, address string, rate float64) float64 {
	b.Helper()
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		b.Fatal(err)
	}
	poll, err := syscall.EpollCreate1(0)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = syscall.Close(poll) }()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	type asking struct {
		fd        int
		due, sent time.Time
		late      time.Duration // for the answer before
		waits     bool          // for an answer
	}
	all := make([]asking, benchConnections)
	defer func() {
		for _, c := range all {
			if c.fd > 0 {
				_ = syscall.Close(c.fd)
			}
		}
	}()
	for i := range all {
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
		if err == nil {
			all[i].fd = fd
			err = syscall.Connect(fd, &syscall.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()})
		}
		if err == nil {
			err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_TIMESTAMPNS, 1)
		}
		if err == nil {
			err = syscall.EpollCtl(poll, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(i)})
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	request := []byte("GET / HTTP/1.1\r\nHost: " + address + "\r\n" + UserHeader + ": ann\r\n\r\n")
	answer, stamp := make([]byte, 64<<10), make([]byte, 64) // small answers come whole
	events := make([]syscall.EpollEvent, benchConnections)
	took := make([]float64, 0, 2*int(rate*pacedRound.Seconds()))
	every, began, open := time.Duration(float64(time.Second)*benchConnections/rate), time.Now(), 0
	for i := range all {
		all[i].due = began.Add(every * time.Duration(i) / benchConnections)
	}
	for now := began; now.Sub(began) < pacedRound || open > 0; now = time.Now() {
		next := time.Millisecond
		for i := range all {
			c := &all[i]
			if c.waits || now.Sub(began) >= pacedRound {
				continue
			}
			if rest := c.due.Sub(now); rest > 0 {
				next = min(next, rest)
				continue
			}
			c.sent, c.waits = time.Now(), true
			if _, err := syscall.Write(c.fd, request); err != nil {
				b.Fatal(err)
			}
			open++
		}
		// Without a pause it would take a processor of its own; answers wake it more often than that.
		n, err := syscall.EpollWait(poll, events, max(1, int(next/time.Millisecond)))
		if err != nil && !errors.Is(err, syscall.EINTR) {
			b.Fatal(err)
		}
		for _, e := range events[:max(n, 0)] {
			c := &all[e.Fd]
			size, stamped, _, _, err := syscall.Recvmsg(c.fd, answer, stamp, 0)
			came := time.Now()
			if err != nil || !bytes.HasPrefix(answer[:size], []byte("HTTP/1.1 200")) {
				b.Fatalf("%q %v", answer[:max(size, 0)], err)
			}
			if at := stamp[syscall.CmsgLen(0):]; stamped >= syscall.CmsgSpace(16) { // the first may have none
				came = time.Unix(int64(binary.NativeEndian.Uint64(at)), int64(binary.NativeEndian.Uint64(at[8:])))
			}
			latency := c.late + came.Sub(c.sent)
			took = append(took, float64(latency)/float64(time.Millisecond))
			c.late, c.due, c.waits = max(latency-every, 0), c.due.Add(every), false
			open--
		}
	}
	slices.Sort(took)
	return took[len(took)*99/100]
}

// nginx runs as the backend, and as a proxy before it.
func nginx(b *testing.B) (backend, through string) {
	b.Helper()
	dir := b.TempDir()
	backend, through = free(b), free(b)
	config := fmt.Sprintf(`daemon off; worker_processes 2; pid %[1]s/pid; error_log %[1]s/error.log;
events { worker_connections 1024; }
http {
	access_log off; keepalive_requests 100000000; client_body_temp_path %[1]s/a; proxy_temp_path %[1]s/b; fastcgi_temp_path %[1]s/c; uwsgi_temp_path %[1]s/d; scgi_temp_path %[1]s/e;
	upstream backend { server %[2]s; keepalive 128; keepalive_requests 100000000; }
	server { listen %[2]s; location / { return 200 "hello, this is a small answer\n"; } }
	server { listen %[3]s; location / { proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr; } }
}`, dir, backend, through)
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command("nginx", "-c", file, "-p", dir)
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	})
	for deadline := time.Now().Add(10 * time.Second); ; <-time.After(20 * time.Millisecond) {
		if response, err := http.Get("http://" + through); err == nil {
			_ = response.Body.Close()
			return backend, through
		}
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(filepath.Join(dir, "error.log"))
			b.Fatalf("nginx does not answer: %s", text)
		}
	}
}

func free(b *testing.B) string {
	b.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}
