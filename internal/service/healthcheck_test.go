package service

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestHealthcheck(t *testing.T) {
	ready := false
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" || !ready {
			http.Error(w, "plan is not ready", http.StatusServiceUnavailable)
			return
		}
	}))
	defer server.Close()
	address := strings.TrimPrefix(server.URL, "http://")
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	if err := Healthcheck(t.Context(), address, nil); err == nil || !strings.Contains(err.Error(), "plan is not ready") {
		t.Errorf("not ready: %v", err)
	}
	ready = true
	for _, at := range []string{address, "0.0.0.0:" + port, ":" + port} {
		if err := Healthcheck(t.Context(), at, nil); err != nil {
			t.Errorf("%s: %v", at, err)
		}
	}
	server.Close()
	for _, at := range []string{"", "9090", address} {
		if err := Healthcheck(t.Context(), at, nil); err == nil {
			t.Errorf("%q is healthy", at)
		}
	}
}

func TestRedisPasswordFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "redis.password")
	if err := os.WriteFile(file, []byte("a/b@c\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"LEMNIS_REDIS_URL": "redis://redis:6379/2,redis://b:6380/2", "LEMNIS_REDIS_PASSWORD_FILE": file, "LEMNIS_DATA": t.TempDir()}
	got, err := ReadEnvironment(func(name string) string { return env[name] })
	if err != nil || got.Redis != "redis://:a%2Fb%40c@redis:6379/2,redis://:a%2Fb%40c@b:6380/2" {
		t.Errorf("%q, %v", got.Redis, err)
	}
	for name, value := range map[string]string{"LEMNIS_REDIS_PASSWORD_FILE": file + ".not", "LEMNIS_REDIS_URL": "redis"} {
		before := env[name]
		env[name] = value
		if _, err := ReadEnvironment(func(name string) string { return env[name] }); err == nil || !strings.Contains(err.Error(), "PASSWORD_FILE") {
			t.Errorf("%s=%s: %v", name, value, err)
		}
		env[name] = before
	}
}
