package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
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

	"golang.org/x/sync/errgroup"
)

// The front is measured beside the least that net/http offers and beside nginx, all before the same backend (nginx too),
// with the same load: 64 connections of wrk, small answers. Rounds alternate, figures are medians. What the front adds to
// the p99 is measured at half of its throughput, against the backend asked at the same rate by the same client.
const (
	benchRounds      = 5
	benchRound       = 2 * time.Second
	benchConnections = 64
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
	reverse := httputil.NewSingleHostReverseProxy(to)
	reverse.ErrorLog = log.New(io.Discard, "", 0) // wrk leaves in the middle of its last requests
	bare := &http.Server{Handler: reverse, ReadHeaderTimeout: time.Minute}
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
				rates[name] = append(rates[name], load(b, addresses[name]))
			}
		}
		half := middle(rates["front"]) / 2
		for range benchRounds {
			for _, name := range []string{"none", "front"} {
				p99s[name] = append(p99s[name], paced(b, addresses[name], half))
			}
		}
		for name, all := range rates {
			b.ReportMetric(middle(all), name+"/s")
		}
		ofBare, ofNginx := middle(rates["front"])/middle(rates["bare"]), middle(rates["front"])/middle(rates["nginx"])
		added := middle(p99s["front"]) - middle(p99s["none"])
		b.ReportMetric(ofBare, "of-bare")
		b.ReportMetric(ofNginx, "of-nginx")
		b.ReportMetric(added, "p99-added-ms")
		b.ReportMetric(0, "ns/op")
		fmt.Printf("proxy, requests a second of the bare one's: %.2f, asked for: 3%s\n", ofBare, verdict(ofBare >= 3))
		fmt.Printf("proxy, requests a second of nginx's: %.2f, asked for: 0.75%s\n", ofNginx, verdict(ofNginx >= 0.75))
		fmt.Printf("proxy, p99 added at %.0f requests a second: %.2f ms, asked for: under 1 ms%s\n", half, added, verdict(added < 1))
	}
	if snapshot := f.Snapshot().Versions["v1"]; snapshot.Errors > 0 {
		b.Errorf("%d of %d requests failed", snapshot.Errors, snapshot.Requests)
	}
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

// paced asks at a steady rate and returns the latency that 99 of 100 answers keep, in ms. A request that had to wait for the
// answer before it counts from when it was due, so that a pause is seen by all whom it hits.
func paced(b *testing.B, address string, rate float64) float64 {
	b.Helper()
	every := time.Duration(float64(time.Second) * benchConnections / rate)
	took := make([][]float64, benchConnections)
	var asking errgroup.Group
	began := time.Now()
	for i := range took {
		asking.Go(func() error {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				return err
			}
			defer func() { _ = conn.Close() }()
			in := bufio.NewReader(conn)
			request := []byte("GET / HTTP/1.1\r\nHost: " + address + "\r\n" + UserHeader + ": ann\r\n\r\n")
			due := began.Add(every * time.Duration(i) / benchConnections)
			for ; due.Sub(began) < benchRound; due = due.Add(every) {
				from := due
				if rest := time.Until(due); rest > 0 {
					<-time.After(rest)
					from = time.Now() // what the timer overran is not the proxy's
				}
				if _, err := conn.Write(request); err != nil {
					return err
				}
				response, err := http.ReadResponse(in, nil)
				if err != nil {
					return err
				}
				if _, err := io.Copy(io.Discard, response.Body); err != nil {
					return err
				}
				_ = response.Body.Close()
				if response.StatusCode != http.StatusOK {
					return errors.New(response.Status)
				}
				took[i] = append(took[i], float64(time.Since(from))/float64(time.Millisecond))
			}
			return nil
		})
	}
	if err := asking.Wait(); err != nil {
		b.Fatal(err)
	}
	all := slices.Concat(took...)
	slices.Sort(all)
	return all[len(all)*99/100]
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
