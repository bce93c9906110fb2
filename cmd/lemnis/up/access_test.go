package up_test

import (
	"crypto/tls"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lemnis/lemnis/cmd/lemnis/api"
	"github.com/lemnis/lemnis/cmd/lemnis/up/uptest"
	"github.com/lemnis/lemnis/internal/certs"
	"github.com/lemnis/lemnis/internal/certs/certstest"
	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/gateway/access"
)

// With authentication and TLS: the project file is applied by the installation itself, nobody else gets in without a
// token, and the first token makes the others.
func TestAuth(t *testing.T) {
	o := options(t.TempDir())
	o.Auth, o.TLS = true, certstest.Write(t, t.TempDir())
	o.Config = filepath.Join(t.TempDir(), "project.yaml")
	if err := os.WriteFile(o.Config, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	stack, stop := uptest.Run(t, o)
	roots, err := certs.Roots(o.TLS.CA)
	if err != nil {
		t.Fatal(err)
	}
	trust := api.TLS(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12})
	as := func(token string) *api.Client {
		c := api.New(stack.URL(), trust, api.Token(token))
		t.Cleanup(c.Close)
		return c
	}
	file := filepath.Join(o.Data, access.AdminFile)
	if stack.AdminToken() != file {
		t.Errorf("the first token is in %q", stack.AdminToken())
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	admin := strings.TrimSpace(string(text))

	configured := api.Query{Project: "shop", Type: "project.configured"}
	if _, err := as("").Events(t.Context(), configured); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("nobody: %v", err)
	}
	found, err := as(admin).Events(t.Context(), configured)
	if err != nil || len(found) != 2 || found[0].Principal != "lemnis" {
		t.Fatalf("%d events, %v", len(found), err)
	}
	made, err := as(admin).CreateToken(t.Context(), "ann", []string{"read@shop"}, time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := as(made.Text).Events(t.Context(), configured); err != nil {
		t.Errorf("ann: %v", err)
	}
	e := events.New("shop", "x", events.ApprovalGiven{Environment: "prod", Service: "api"})
	e.Source = "/test"
	if _, err := as(made.Text).Publish(t.Context(), e); err == nil || !strings.Contains(err.Error(), "decide:prod@shop") {
		t.Errorf("ann decides: %v", err)
	}
	stop()

	// Another start has the same tokens; without the file it writes another first one.
	o.Config = ""
	stack, stop = uptest.Run(t, o)
	if stack.AdminToken() != "" {
		t.Error("another first token")
	}
	if _, _, err := as(admin).Tokens(t.Context()); err != nil {
		t.Error(err)
	}
	stop()
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	stack, stop = uptest.Run(t, o)
	defer stop()
	if _, _, err := as(admin).Tokens(t.Context()); err == nil {
		t.Error("the lost one is still good")
	}
	if text, err = os.ReadFile(file); err != nil {
		t.Fatal(err)
	}
	if _, _, err := as(strings.TrimSpace(string(text))).Tokens(t.Context()); err != nil {
		t.Error(err)
	}
}

// The first questions of clients that have no token are answered so that they know what to do.
func TestAuthAsks(t *testing.T) {
	o := options(t.TempDir())
	o.Auth = true
	stack, stop := uptest.Run(t, o)
	defer stop()
	for path, want := range map[string]int{"/readyz": 200, "/": 200, "/events?project=shop": 401, "/v2/": 401} {
		resp, err := http.Get(stack.URL() + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want || want == 401 && resp.Header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s: %d %v", path, resp.StatusCode, resp.Header)
		}
	}
}
