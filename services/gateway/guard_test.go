package gateway_test

import (
	"context"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/lemnis/lemnis/services/gateway"
)

func TestForeignRequests(t *testing.T) {
	pulled := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	w := newWorld(t, func(o *gateway.Options) { o.Registry = pulled; o.AllowedHosts = []string{"lemnis.internal"} })
	own := strings.TrimPrefix(w.url, "http://")
	tests := []struct {
		name    string
		headers []string
		ok      bool
	}{
		{"own", nil, true},
		{"own by name", []string{"Host", "localhost:8080"}, true},
		{"own by IPv6", []string{"Host", "[::1]:8080"}, true},
		{"allowed", []string{"Host", "lemnis.internal:80"}, true},
		{"rebound name", []string{"Host", "evil.example:8080"}, false},
		{"name that begins like ours", []string{"Host", "localhost.evil.example"}, false},
		{"own origin", []string{"Origin", w.url}, true},
		{"foreign origin", []string{"Origin", "https://evil.example"}, false},
		{"another port's origin", []string{"Origin", "http://127.0.0.1:1"}, false},
		{"no origin to speak of", []string{"Origin", "null"}, false},
		{"two origins", []string{"Origin", w.url, "Origin", "https://evil.example"}, false},
		{"an image of a foreign page", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors"}, false},
		{"a link from a foreign page", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"}, true},
		{"own page", []string{"Sec-Fetch-Site", "same-origin", "Origin", "http://" + own}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, path := range []string{"/events", "/v2/", "/", "/healthz"} {
				resp, answer := w.send(http.MethodGet, path, "", tt.headers...)
				if want := map[bool]int{true: 200, false: 403}[tt.ok]; resp.StatusCode != want {
					t.Errorf("%s: %d, want %d: %s", path, resp.StatusCode, want, answer)
				}
				if resp.Header.Get("Access-Control-Allow-Origin") != "" {
					t.Error("grants another origin")
				}
			}
		})
	}
	for _, path := range []string{"/events/stream", "/feedback"} {
		if resp, _ := w.send(http.MethodGet, path, "", "Origin", "https://evil.example"); resp.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
	}
	// A form of a foreign page, from a browser that says nothing of itself.
	if resp, _ := w.send(http.MethodPost, "/feedback", `{"project":"shop","user":"ann","text":"x"}`, "Content-Type", "text/plain"); resp.StatusCode != http.StatusUnsupportedMediaType {
		t.Errorf("a form: %d", resp.StatusCode)
	}
}

func TestAddressOfOthers(t *testing.T) {
	w := newWorld(t)
	for address, ok := range map[string]bool{"127.0.0.1:0": true, "[::1]:80": true, "localhost:80": true, "0.0.0.0:80": false, ":80": false, "10.0.0.1:80": false, "example.org:80": false, "x": false} {
		if err := gateway.CheckAddress(address); (err == nil) != ok {
			t.Errorf("%s: %v", address, err)
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.gw.Serve(ctx, listener) }()
	resp, err := http.Get("http://" + listener.Addr().String() + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("ready: %d", resp.StatusCode)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
