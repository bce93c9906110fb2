package service

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/lemnis/lemnis/internal/natsd"
)

// freeAddress is one that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// A process that is started before what it needs answers that it lives, says what it waits for, and goes on by itself.
func TestAProcessWaitsForWhatItNeeds(t *testing.T) {
	bus, redis, address, dir := freeAddress(t), freeAddress(t), freeAddress(t), t.TempDir()
	begin := func() *natsd.Server {
		s, err := natsd.Start(natsd.Options{Dir: dir, Listen: bus})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	begin().Stop() // it leaves the services' key
	env := Environment{NATS: "nats://" + bus, Key: filepath.Join(dir, "services.nk"), Redis: "redis://:secret@" + redis, HTTP: address, Replicas: 1}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, "test", env, testLog(), func(Environment, Host) ([]Definition, error) { return []Definition{proofDefinition()}, nil })
	}()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	ask := func(path string) (int, string, http.Header) {
		r, err := client.Get("http://" + address + path)
		if err != nil {
			return 0, err.Error(), nil
		}
		defer func() { _ = r.Body.Close() }()
		text, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return r.StatusCode, strings.TrimSpace(string(text)), r.Header
	}
	await := func(path string, status int, text string) {
		t.Helper()
		var got int
		var said string
		for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-time.After(10 * time.Millisecond) {
			if got, said, _ = ask(path); got == status && said == text {
				return
			}
		}
		t.Fatalf("%s: %d %q, not %d %q", path, got, said, status, text)
	}
	await("/healthz", http.StatusOK, "ok")
	await("/readyz", http.StatusServiceUnavailable, busAway+"\n"+foldsAway)
	if _, _, h := ask("/readyz"); h.Get("Retry-After") == "" {
		t.Error("it does not say when to come back")
	}
	store := miniredis.NewMiniRedis()
	store.RequireAuth("secret")
	if err := store.StartAddr(redis); err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	await("/readyz", http.StatusServiceUnavailable, busAway)
	await("/healthz", http.StatusOK, "ok")
	server := begin()
	defer server.Stop()
	await("/readyz", http.StatusOK, "ready")
	cancel()
	if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// What waiting does not mend ends it, and names no password.
func TestAProcessDoesNotWaitForAMistake(t *testing.T) {
	for _, env := range []Environment{{NATS: "nats://127.0.0.1:1", Redis: "redis://:se/cret@redis"}, {NATS: "nats://a:se/cret@bus"}} {
		_, _, err := env.Connect(t.Context(), testLog(), nil)
		if err == nil || strings.Contains(err.Error(), "cret@") || strings.Contains(err.Error(), ":se") {
			t.Errorf("%v", err)
		}
	}
}
