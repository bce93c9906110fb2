package builder_test

import (
	"encoding/base64"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/lemnis/lemnis/pkg/events"

	"github.com/lemnis/lemnis/internal/executor"
	"github.com/lemnis/lemnis/services/builder"
)

func secretsOfShop(t *testing.T, all map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "shop"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range all {
		if err := os.WriteFile(filepath.Join(dir, "shop", name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// A repository that asks for a token is built with the one that the project names.
func TestRepositoryThatAsksForAToken(t *testing.T) {
	t.Parallel()
	o := emptyOrigin(t)
	o.commit(t, "main", map[string]string{".lemnis.yaml": "steps:\n  - name: test\n    run: \"true\"\n"})
	m := find(o.commit(t, "find", map[string]string{"more": "text\n"}))
	backend := &cgi.Handler{Path: filepath.Join(o.git(t, "", "--exec-path"), "git-http-backend"), Env: []string{"GIT_PROJECT_ROOT=" + filepath.Dir(o.dir), "GIT_HTTP_EXPORT_ALL=1"}}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Basic "+base64.StdEncoding.EncodeToString([]byte("x-access-token:t0ken")) {
			w.Header().Set("WWW-Authenticate", `Basic realm="forge"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		backend.ServeHTTP(w, r)
	}))
	defer s.Close()
	p := project(o)
	p.Repositories[0].URL = s.URL + "/" + filepath.Base(o.dir)
	p.Repositories[0].Credentials = "secret:git"
	secrets := secretsOfShop(t, map[string]string{"git": "t0ken\n"})
	if got := newShift(t, builder.Options{SecretsDir: secrets, Isolation: executor.None}, p).pipeline(t, m); got.Outcome != events.Success {
		t.Errorf("%s: %s", got.Outcome, got.Errors)
	}
}

// Whoever proposes a change writes its pipeline, and could have it tell what the services sign and ask with.
func TestStepsGetNoSecretOfTheServices(t *testing.T) {
	t.Parallel()
	secrets := secretsOfShop(t, map[string]string{"release.key": "hunter2", "signing.key": "hunter2", "hook": "hunter2", "proxy": "hunter2"})
	for name, given := range map[string]bool{"release.key": false, "signing.key": false, "hook": false, "proxy": true} {
		o := emptyOrigin(t)
		o.commit(t, "main", map[string]string{"README": "text\n"})
		m := find(o.commit(t, "find", map[string]string{".lemnis.yaml": "steps: [{name: steal, run: 'test \"$X\" = hunter2', secrets: {X: 'secret:" + name + "'}}]\n"}))
		p := project(o)
		p.Signing = &events.Signing{Key: "secret:release.key"}
		p.Webhooks = map[events.WebhookKind]events.Webhook{"github": {Secret: "secret:hook"}}
		got := newShift(t, builder.Options{SecretsDir: secrets, Isolation: executor.None}, p).pipeline(t, m)
		if given != (got.Outcome == events.Success) || !given && !has(got.Errors, "steal: secret:"+name+" is the services' own") {
			t.Errorf("%s: %s: %s", name, got.Outcome, got.Errors)
		}
	}
}
