package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestAsk(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/well" {
			http.Error(w, "ill", http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("well"))
	}))
	t.Cleanup(server.Close)
	var out bytes.Buffer
	if err := ask(t.Context(), []string{"-q", "-O", "-", server.URL + "/well"}, &out); err != nil || out.String() != "well" {
		t.Errorf("well: %q, %v", out.String(), err)
	}
	out.Reset()
	if err := ask(t.Context(), []string{server.URL + "/ill"}, &out); err == nil || !strings.Contains(err.Error(), "503") || out.String() != "ill\n" {
		t.Errorf("ill: %q, %v", out.String(), err)
	}
	address := server.URL + "/well"
	server.Close()
	for _, args := range [][]string{nil, {"-q"}, {address}} {
		if err := ask(t.Context(), args, &out); err == nil {
			t.Errorf("%v is well", args)
		}
	}
}
