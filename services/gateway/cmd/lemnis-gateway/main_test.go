package main

import (
	"context"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lemnis/lemnis/internal/natsd"
)

func TestRun(t *testing.T) {
	dir := t.TempDir()
	server, err := natsd.Start(natsd.Options{Dir: dir, Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{
		"LEMNIS_NATS_URL": server.URL(), "LEMNIS_NATS_KEY_FILE": filepath.Join(dir, "services.nk"), "LEMNIS_DATA": t.TempDir(),
		"LEMNIS_HTTP": address, "LEMNIS_LOG": "error",
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- run(ctx, func(name string) string { return env[name] }) }()
	for _, path := range []string{"/readyz", "/v2/", "/", "/events"} {
		status := 0
		for deadline := time.Now().Add(20 * time.Second); status != http.StatusOK && time.Now().Before(deadline); {
			resp, err := http.Get("http://" + address + path)
			if err != nil {
				<-time.After(10 * time.Millisecond)
				continue
			}
			status = resp.StatusCode
			_ = resp.Body.Close()
		}
		if status != http.StatusOK {
			t.Errorf("%s: %d", path, status)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	env["LEMNIS_HTTP"] = "0.0.0.0:0"
	if err := run(t.Context(), func(name string) string { return env[name] }); err == nil || !strings.Contains(err.Error(), "nobody is authenticated") {
		t.Errorf("an address of everybody: %v", err)
	}
}
