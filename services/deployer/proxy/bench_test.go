package proxy

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"
)

// The front is measured beside the least that net/http offers and beside nginx, all before the same backend (nginx too),
// with the same load: 64 connections of wrk, small answers. Rounds alternate, figures are medians.
const (
	benchRounds      = 5
	benchRound       = "2s"
	benchConnections = "64"
)

func BenchmarkProxy(b *testing.B) {
	for _, program := range []string{"nginx", "wrk"} {
		if _, err := exec.LookPath(program); err != nil {
			b.Skipf("SKIPPED: the proxy was NOT measured: %s is not on the PATH", program)
		}
	}
	backend, through := nginx(b)
	to, err := url.Parse("http://" + backend)
	if err != nil {
		b.Fatal(err)
	}
	bare := &http.Server{Handler: httputil.NewSingleHostReverseProxy(to), ReadHeaderTimeout: time.Minute}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	go func() { _ = bare.Serve(listener) }()
	b.Cleanup(func() { _ = bare.Close() })
	f, err := New(Config{Service: "api"})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = f.Close(context.Background()) })
	if err := f.SetRoutes(Routes{Stable: Upstream{"v1", "http://" + backend}}); err != nil {
		b.Fatal(err)
	}
	addresses := map[string]string{"bare": listener.Addr().String(), "nginx": through, "front": f.Addr(), "none": backend}
	for range b.N {
		rates, p99s := map[string][]float64{}, map[string][]float64{}
		for range benchRounds {
			for _, name := range []string{"bare", "nginx", "front"} {
				rate, _ := load(b, addresses[name], benchConnections)
				rates[name] = append(rates[name], rate)
			}
			for _, name := range []string{"none", "front"} { // few connections: far from what either can do
				_, p99 := load(b, addresses[name], "4")
				p99s[name] = append(p99s[name], p99)
			}
		}
		for name, all := range rates {
			b.ReportMetric(middle(all), name+"/s")
		}
		b.ReportMetric(middle(rates["front"])/middle(rates["bare"]), "of-bare")
		b.ReportMetric(middle(rates["front"])/middle(rates["nginx"]), "of-nginx")
		b.ReportMetric(middle(p99s["front"])-middle(p99s["none"]), "p99-added-ms")
		b.ReportMetric(0, "ns/op")
	}
	if snapshot := f.Snapshot().Versions["v1"]; snapshot.Errors > 0 {
		b.Errorf("%d of %d requests failed", snapshot.Errors, snapshot.Requests)
	}
}

func middle(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

var (
	ratePattern = regexp.MustCompile(`Requests/sec:\s+([0-9.]+)`)
	p99Pattern  = regexp.MustCompile(`99%\s+([0-9.]+)(us|ms|s)`)
)

// load is requests a second, and the latency that 99 of 100 keep, in ms.
func load(b *testing.B, address, connections string) (rate, p99 float64) {
	b.Helper()
	out, err := exec.Command("wrk", "-t1", "-c"+connections, "-d"+benchRound, "--latency", "-H", UserHeader+": ann", "http://"+address+"/").CombinedOutput()
	r, l := ratePattern.FindSubmatch(out), p99Pattern.FindSubmatch(out)
	if err != nil || r == nil || l == nil || regexp.MustCompile(`Non-2xx`).Match(out) {
		b.Fatalf("wrk: %v\n%s", err, out)
	}
	rate, _ = strconv.ParseFloat(string(r[1]), 64)
	p99, _ = strconv.ParseFloat(string(l[1]), 64)
	return rate, p99 * map[string]float64{"us": 1e-3, "ms": 1, "s": 1e3}[string(l[2])]
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
