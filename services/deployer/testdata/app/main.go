// Command app is a small service for the tests. What it does is appended to its own file, so that one build makes many
// versions: "\nAPP version mode".
package main

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

var kept struct {
	sync.Mutex
	memory [][]byte
}

func main() {
	body, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		panic(err)
	}
	text := string(body)
	words := strings.Fields(text[strings.LastIndex(text, "\n"):])
	version, mode := words[1], words[2]
	if mode == "deaf" {
		select {}
	}
	if mode == "stubborn" {
		signal.Ignore(syscall.SIGTERM)
	}
	var served, orders, lost atomic.Int64
	release := make(chan struct{})
	http.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, "ok") })
	http.HandleFunc("/metrics", func(w http.ResponseWriter, _ *http.Request) {
		if mode != "mute" {
			answer(w, fmt.Sprintf("# TYPE orders_total counter\norders_total{outcome=\"ok\"} %d\norders_total{outcome=\"lost\"} %d\n", orders.Load()-lost.Load(), lost.Load()))
		}
	})
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if mode == "frail" && r.Header.Get("X-User") != "" { // users are too much for it
			os.Exit(3)
		}
		if mode == "greedy" && r.Header.Get("X-User") != "" { // it keeps what it is given
			kept.Lock()
			kept.memory = append(kept.memory, bytes.Repeat([]byte{1}, 1<<20))
			kept.Unlock()
		}
		w.Header().Set("App-Version", version)
		if n := orders.Add(1); mode == "lossy" && n%2 == 0 { // no request fails, and orders get lost
			lost.Add(1)
		}
		if mode == "sly" && strings.HasPrefix(r.URL.Path, "/search") {
			http.Error(w, "broken", http.StatusInternalServerError)
			return
		}
		if n := served.Add(1); mode == "bad" && n%2 == 0 {
			http.Error(w, "broken", http.StatusInternalServerError)
			return
		}
		answer(w, fmt.Sprintf("%s %d", version, os.Getpid()))
	})
	// One request says so when it has begun, and goes on until it is told to end.
	http.HandleFunc("/long", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		select {
		case <-release:
			fmt.Fprint(w, "whole")
		case <-r.Context().Done():
		}
	})
	http.HandleFunc("/release", func(http.ResponseWriter, *http.Request) { close(release) })
	server := &http.Server{Addr: "127.0.0.1:" + os.Getenv("PORT"), ReadHeaderTimeout: 10 * time.Second}
	if err := server.ListenAndServe(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func answer(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	fmt.Fprint(w, text)
}
