package git_test

import (
	"errors"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/lemnis/lemnis/services/builder/git"
)

// forge serves a repository over HTTP to who knows the password, and says who asked.
func forge(t *testing.T, dir string, knows func(user, password string) bool) string {
	t.Helper()
	host(t, dir, "", "config", "http.receivepack", "true")
	exec := strings.TrimSpace(host(t, dir, "", "--exec-path"))
	backend := &cgi.Handler{Path: filepath.Join(exec, "git-http-backend"), Env: []string{"GIT_PROJECT_ROOT=" + filepath.Dir(dir), "GIT_HTTP_EXPORT_ALL=1", "REMOTE_USER=ann", "GIT_CONFIG_GLOBAL=/dev/null"}}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); !knows(user, password) {
			w.Header().Set("WWW-Authenticate", `Basic realm="forge"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		backend.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL + "/" + filepath.Base(dir)
}

func says(secret string) git.Secret { return func() (string, error) { return secret, nil } }

func TestOriginThatAsksForAPassword(t *testing.T) {
	f := newFixture(t)
	const password = "hunter2 'and' $more"
	var known atomic.Value // the password of today
	known.Store(password)
	url := forge(t, f.dir, func(user, given string) bool { return user == "ann" && given == known.Load() })
	mirror := filepath.Join(t.TempDir(), "mirror.git")
	if _, err := git.Open(t.Context(), mirror, url); err == nil {
		t.Fatal("without a secret it is open")
	}
	if _, err := git.OpenWith(t.Context(), mirror, url, says("ann:wrong")); err == nil || strings.Contains(err.Error(), "wrong") {
		t.Fatalf("with a wrong one: %v", err)
	}
	r, err := git.OpenWith(t.Context(), mirror, url, says("ann:"+password))
	if err != nil {
		t.Fatal(err)
	}
	merged := merge(t, r, f.ids["main"], f.ids["clean"])
	if err := r.Advance(t.Context(), "main", f.ids["main"], merged); err != nil {
		t.Fatal(err)
	}
	if at := host(t, f.dir, "", "rev-parse", "main"); at != merged {
		t.Errorf("main stands at %s", at)
	}
	found := false
	_ = filepath.WalkDir(mirror, func(path string, entry os.DirEntry, _ error) error {
		if text, err := os.ReadFile(path); err == nil && !entry.IsDir() && strings.Contains(string(text), "hunter2") {
			found = true
		}
		return nil
	})
	if found {
		t.Error("the mirror's files have the password")
	}
	known.Store("hunter3")
	if _, err := r.Head(t.Context(), "main"); err == nil {
		t.Error("the old password is taken")
	}
	r.Authorize(says("ann:hunter3"))
	if _, err := r.Head(t.Context(), "main"); err != nil {
		t.Error(err)
	}
}

func TestOriginThatAsksForAToken(t *testing.T) {
	f := newFixture(t)
	url := forge(t, f.dir, func(user, given string) bool { return user != "" && given == "t0ken" })
	if _, err := git.OpenWith(t.Context(), filepath.Join(t.TempDir(), "mirror.git"), url, says("t0ken")); err != nil {
		t.Error(err)
	}
}

// The password is one host's: where that sends git elsewhere, it is not told.
func TestPasswordStaysWithItsHost(t *testing.T) {
	var heard string
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		heard += r.Header.Get("Authorization")
		w.Header().Set("WWW-Authenticate", `Basic realm="other"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	t.Cleanup(other.Close)
	away := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL+r.URL.String(), http.StatusFound)
	}))
	t.Cleanup(away.Close)
	if _, err := git.OpenWith(t.Context(), filepath.Join(t.TempDir(), "mirror.git"), away.URL+"/a.git", says("ann:hunter2")); err == nil || heard != "" {
		t.Errorf("the other host was told %q (%v)", heard, err)
	}
}

func TestOriginThatAsksForAKey(t *testing.T) {
	f := newFixture(t)
	bin, used := t.TempDir(), filepath.Join(t.TempDir(), "used")
	script := `#!/bin/sh
case "$*" in *-oBatchMode=yes*-oIdentitiesOnly=yes*git@git.example.org*) ;; *) echo "$*" >&2; exit 1 ;; esac
while [ "$1" != -i ]; do shift; done
stat -c %a "$2" >` + used + `; cat "$2" >>` + used + `
for last; do :; done
eval "$last"
`
	if err := os.WriteFile(filepath.Join(bin, "ssh"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	const key = "-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n-----END OPENSSH PRIVATE KEY-----"
	for _, url := range []string{"ssh://git@git.example.org" + f.dir, "git@git.example.org:" + f.dir} {
		mirror := filepath.Join(t.TempDir(), "it's a mirror.git")
		r, err := git.OpenWith(t.Context(), mirror, url, says(key))
		if err != nil {
			t.Fatalf("%s: %v", url, err)
		}
		if id, err := r.Head(t.Context(), "main"); err != nil || id != f.ids["main"] {
			t.Errorf("%s: %s, %v", url, id, err)
		}
		if text, err := os.ReadFile(used); err != nil || string(text) != "600\n"+key+"\n" {
			t.Errorf("%s: the key was %q, %v", url, text, err)
		}
		if left, _ := filepath.Glob(filepath.Join(filepath.Dir(mirror), "*", "key-*")); len(left) > 0 {
			t.Errorf("%s: left %v", url, left)
		}
	}
}

func TestSecretsThatAreNone(t *testing.T) {
	none := errors.New("not there")
	for _, c := range []struct {
		url    string
		secret git.Secret
		want   string
	}{
		{"https://git.example.invalid/a.git", func() (string, error) { return "", none }, "not there"},
		{"https://git.example.invalid/a.git", says("a\nb"), "one line"},
		{"https://git.example.invalid/a.git", says("ann:"), "one line"},
		{"ssh://git@git.example.invalid/a.git", says("t0ken"), "private key"},
		{far(newFixture(t).dir), says("t0ken"), "takes none"},
	} {
		_, err := git.OpenWith(t.Context(), filepath.Join(t.TempDir(), "mirror.git"), c.url, c.secret)
		if !errors.Is(err, git.ErrNoSecret) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.url, err, c.want)
		}
	}
}
