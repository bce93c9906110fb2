package webhook_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/pkg/events/schema"
	"github.com/lemnis/lemnis/services/gateway/webhook"
)

var now = time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC)

// shop has the repository of every forge's payloads in testdata.
func shop() events.Project {
	p := events.DefaultProject("shop")
	p.Repositories = []events.RepositoryRef{
		{Name: "web", URL: "https://github.com/acme/web.git"},
		{Name: "api", URL: "git@github.com:Acme/Shop-API.git"},
		{Name: "cart", URL: "https://gitlab.example.org/acme/platform/cart.git"},
		{Name: "search", URL: "ssh://git@git.example.org:2222/acme/search.git"},
	}
	return p
}

// stored reads a payload of testdata; changes are pairs of what stands in it and what shall.
func stored(t testing.TB, file string, changes ...string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", file+".json"))
	if err != nil {
		t.Fatal(err)
	}
	s := string(text)
	for i := 0; i < len(changes); i += 2 {
		if !strings.Contains(s, changes[i]) {
			t.Fatalf("%s has no %s", file, changes[i])
		}
		s = strings.ReplaceAll(s, changes[i], changes[i+1])
	}
	if !json.Valid([]byte(s)) {
		t.Fatalf("%s is no JSON after %q", file, changes)
	}
	return []byte(s)
}

func headers(pairs ...string) http.Header {
	h := http.Header{"Content-Type": {"application/json"}}
	for i := 0; i < len(pairs); i += 2 {
		h.Set(pairs[i], pairs[i+1])
	}
	return h
}

func lookup(t testing.TB, kind events.WebhookKind) webhook.Sender {
	t.Helper()
	s, ok := webhook.Lookup(string(kind))
	if !ok {
		t.Fatalf("no sender %s", kind)
	}
	return s
}

// translate makes claims, and holds each to the schema of its type.
func translate(t testing.TB, kind events.WebhookKind, event string, body []byte) []events.Event {
	t.Helper()
	name := map[events.WebhookKind]string{
		events.GitHub: "X-GitHub-Event", events.GitLab: "X-Gitlab-Event", events.Gitea: "X-Gitea-Event", events.Forgejo: "X-Forgejo-Event", events.Alertmanager: "X-None",
	}[kind]
	claims, err := lookup(t, kind).Translate(headers(name, event), body, shop(), now)
	if err != nil {
		t.Fatal(err)
	}
	valid(t, claims)
	return claims
}

func valid(t testing.TB, claims []events.Event) {
	t.Helper()
	ids := map[string]bool{}
	for _, e := range claims {
		body, err := e.AppendBody(nil)
		if err != nil {
			t.Fatalf("%+v: %v", e, err)
		}
		if err := schema.Validate(body); err != nil {
			t.Fatalf("%s\n%v", body, err)
		}
		if e.Project != "shop" || e.Chain == "" || e.ID == "" || ids[e.ID] || e.Time.IsZero() {
			t.Fatalf("%+v", e)
		}
		ids[e.ID] = true
	}
}

func sign(secret string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	return hex.EncodeToString(mac.Sum(nil))
}
