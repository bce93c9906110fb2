package forge_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/lemnis/lemnis/internal/outward"
	"github.com/lemnis/lemnis/pkg/events"

	"github.com/lemnis/lemnis/services/builder/forge"
)

const head = "0123456789abcdef0123456789abcdef01234567"

var loopback = outward.Allowed{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

func TestLocate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ kind, url, api, want string }{
		{"github", "https://github.com/acme/web.git", "", "https://api.github.com"},
		{"github", "git@github.com:acme/web.git", "", "https://api.github.com"},
		{"github", "ssh://git@ssh.github.com:443/acme/web.git", "", "https://api.github.com"},
		{"github", "https://acme.ghe.com/acme/web", "", "https://api.acme.ghe.com"},
		{"github", "https://git.example.org:8443/acme/web.git", "", "https://git.example.org:8443/api/v3"},
		{"gitlab", "git@gitlab.com:acme/group/web.git", "", "https://gitlab.com/api/v4"},
		{"gitlab", "https://git.example.org/gitlab/acme/web.git", "https://git.example.org/gitlab/api/v4/", "https://git.example.org/gitlab/api/v4"},
		{"gitea", "ssh://git@git.example.org:2222/acme/web.git", "", "https://git.example.org/api/v1"},
		{"forgejo", "http://git.example.org:3000/acme/web", "", "http://git.example.org:3000/api/v1"},
		{"gitea", "https://git.example.org/acme/web.git", "https://api.example.org/v1", "https://api.example.org/v1"},
		{"gitea", "https://git.example.org/a/group/web.git", "", ""},
		{"gitea", "https://git.example.org/web.git", "", ""},
		{"gitea", "/srv/git/acme/web.git", "", ""},
		{"svn", "https://git.example.org/acme/web.git", "", ""},
	} {
		p, err := forge.Locate(events.RepositoryRef{URL: c.url, Forge: &events.Forge{Kind: events.ForgeKind(c.kind), API: c.api}})
		if (err != nil) != (c.want == "") || err == nil && p.API() != c.want {
			t.Errorf("%s %s: %v, %v", c.kind, c.url, p, err)
		}
	}
}

// fake is a forge: it answers as the real ones do to what they document, and with 400 to anything else.
type fake struct {
	*httptest.Server
	kind string
	told []map[string]string
}

const token = "t0ken-of-the-forge"

func newFake(t *testing.T, kind string) *fake {
	t.Helper()
	f := &fake{kind: kind}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

var fakes = map[string]struct {
	path, header, proof string
	states              []string
	longest             int
}{
	"github":  {"/api/v3/repos/acme/web/statuses/" + head, "Authorization", "Bearer " + token, []string{"error", "failure", "pending", "success"}, 140},
	"gitlab":  {"/api/v4/projects/acme%2Fweb/statuses/" + head, "Private-Token", token, []string{"pending", "running", "success", "failed", "canceled"}, 255},
	"gitea":   {"/api/v1/repos/acme/web/statuses/" + head, "Authorization", "token " + token, []string{"error", "failure", "pending", "success"}, 255},
	"forgejo": {"/api/v1/repos/acme/web/statuses/" + head, "Authorization", "token " + token, []string{"error", "failure", "pending", "success"}, 255},
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	is := fakes[f.kind]
	answer := func(status int, text string) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]string{"message": text})
	}
	var body map[string]string
	text, _ := io.ReadAll(r.Body)
	switch {
	case r.Header.Get(is.header) != is.proof:
		answer(http.StatusUnauthorized, "Bad credentials of "+r.Header.Get(is.header))
	case r.Method != http.MethodPost || r.URL.EscapedPath() != is.path:
		answer(http.StatusNotFound, "Not Found")
	case json.Unmarshal(text, &body) != nil || r.Header.Get("Content-Type") != "application/json" ||
		utf8.RuneCountInString(body["description"]) > is.longest || !strings.Contains(strings.Join(is.states, " ")+" ", body["state"]+" ") || body["state"] == "":
		answer(http.StatusUnprocessableEntity, "Validation Failed")
	case f.kind == "gitlab" && len(f.told) > 0 && f.told[len(f.told)-1]["state"] == body["state"] && body["state"] == "pending":
		answer(http.StatusBadRequest, `Cannot transition status via :enqueue from :pending (Reason(s): Status cannot transition via "enqueue")`)
	default:
		f.told = append(f.told, body)
		answer(http.StatusCreated, "")
	}
}

func place(t *testing.T, kind, host string) forge.Place {
	t.Helper()
	p, err := forge.Locate(events.RepositoryRef{URL: host + "/acme/web.git", Forge: &events.Forge{Kind: events.ForgeKind(kind)}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Each forge gets what it documents, told twice it is no harm, and a wrong token is a no in words that hold no token.
func TestDialects(t *testing.T) {
	t.Parallel()
	for kind, is := range fakes {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, kind)
			c := forge.NewClient(loopback)
			for _, state := range []forge.State{forge.Pending, forge.Pending, forge.Running, forge.Success, forge.Failure, forge.Error} {
				s := forge.Status{Commit: head, State: state, Description: strings.Repeat("é\n", 300), Target: "https://lemnis.example.org/?chain=1", Branch: "find"}
				if err := c.Tell(t.Context(), place(t, kind, f.URL), token, s); err != nil {
					t.Fatalf("%s: %v", state, err)
				}
			}
			last := f.told[len(f.told)-1]
			if name := last["context"] + last["name"]; name != forge.Context || utf8.RuneCountInString(last["description"]) != is.longest || last["target_url"] != "https://lemnis.example.org/?chain=1" {
				t.Errorf("%v", last)
			}
			if (last["ref"] == "find") != (kind == "gitlab") {
				t.Errorf("ref: %v", last)
			}
			wrong := token + "x"
			err := c.Tell(t.Context(), place(t, kind, f.URL), wrong, forge.Status{Commit: head, State: forge.Success})
			var no *forge.Refusal
			if !errors.As(err, &no) || !no.Token || !strings.Contains(no.Reason, "401") || strings.Contains(no.Reason, wrong) || !strings.Contains(no.Reason, "Bad credentials of") {
				t.Errorf("a wrong token: %v", err)
			}
		})
	}
}

// What answers mean: a no is not asked again, a busy forge is left alone for as long as it says within bounds, and the rest may help later.
func TestAnswers(t *testing.T) {
	t.Parallel()
	in := func(d time.Duration) string { return strconv.FormatInt(time.Now().Add(d).Unix(), 10) }
	for name, c := range map[string]struct {
		status int
		header map[string]string
		no     bool
		after  time.Duration // that it is left alone, at least; 0: it does not say
	}{
		"none of its commits":        {404, nil, true, 0},
		"no right":                   {403, nil, true, 0},
		"not valid":                  {422, nil, true, 0},
		"not understood":             {400, nil, true, 0},
		"too many":                   {429, map[string]string{"Retry-After": "30"}, false, 30 * time.Second},
		"too many, for ever":         {429, map[string]string{"Retry-After": "999999999"}, false, time.Hour},
		"too many, without a time":   {429, nil, false, time.Second},
		"too many, by a date":        {429, map[string]string{"Retry-After": time.Now().Add(time.Minute).UTC().Format(http.TimeFormat)}, false, 50 * time.Second},
		"GitHub's first limit":       {403, map[string]string{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": in(time.Minute)}, false, 50 * time.Second},
		"GitHub's second limit":      {403, map[string]string{"Retry-After": "60", "X-RateLimit-Remaining": "4000"}, false, 60 * time.Second},
		"GitLab's limit":             {429, map[string]string{"RateLimit-Remaining": "0", "RateLimit-Reset": in(time.Minute)}, false, 50 * time.Second},
		"a fault":                    {500, nil, false, 0},
		"away":                       {503, map[string]string{"Retry-After": "5"}, false, 5 * time.Second},
		"a right, and calls to come": {403, map[string]string{"X-RateLimit-Remaining": "10"}, true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				for key, value := range c.header {
					w.Header().Set(key, value)
				}
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, `{"message":{"state":["is wrong"]}}`)
			}))
			defer s.Close()
			err := forge.NewClient(loopback).Tell(t.Context(), place(t, "github", s.URL), token, forge.Status{Commit: head, State: forge.Success})
			var no *forge.Refusal
			var busy *forge.Busy
			if err == nil || errors.As(err, &no) != c.no || errors.As(err, &busy) != (c.after > 0) || !strings.Contains(err.Error(), "is wrong") {
				t.Fatalf("%T %v", err, err)
			}
			if c.after > 0 && (busy.After < c.after || busy.After > time.Hour) {
				t.Errorf("left alone for %s", busy.After)
			}
		})
	}
}

// GitHub's secondary limits may say so in words only; a minute is what it asks for then.
func TestALimitInWords(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusForbidden, http.StatusTooManyRequests} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Ratelimit-Remaining", "4000")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, `{"message":"You have exceeded a secondary rate limit. Please wait a few minutes before you try again."}`)
		}))
		err := forge.NewClient(loopback).Tell(t.Context(), place(t, "github", s.URL), token, forge.Status{Commit: head, State: forge.Success})
		s.Close()
		var busy *forge.Busy
		if !errors.As(err, &busy) || busy.After != time.Minute {
			t.Errorf("%d: %#v", status, err)
		}
	}
}

// A repository that was renamed is found on its host; no other host is told anything.
func TestRedirects(t *testing.T) {
	t.Parallel()
	heard := 0
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { heard++ }))
	defer other.Close()
	taken := ""
	mux := http.NewServeMux()
	moved := func(to string, status int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Location", to); w.WriteHeader(status) }
	}
	mux.HandleFunc("/api/v3/repos/acme/web/", moved("/repositories/7/statuses", http.StatusTemporaryRedirect))
	mux.HandleFunc("/api/v3/repos/acme/gone/", moved(other.URL+"/repositories/7", http.StatusTemporaryRedirect))
	mux.HandleFunc("/api/v3/repos/acme/got/", moved("/repositories/7/statuses", http.StatusFound))
	mux.HandleFunc("/api/v3/repos/acme/loop/", moved("/api/v3/repos/acme/loop/x", http.StatusTemporaryRedirect))
	mux.HandleFunc("POST /repositories/7/statuses", func(_ http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		taken = r.Header.Get("Authorization") + string(text)
	})
	s := httptest.NewServer(mux)
	defer s.Close()
	for name, ok := range map[string]bool{"web": true, "gone": false, "got": false, "loop": false} {
		p, err := forge.Locate(events.RepositoryRef{URL: s.URL + "/acme/" + name, Forge: &events.Forge{Kind: events.ForgeGitHub}})
		if err != nil {
			t.Fatal(err)
		}
		err = forge.NewClient(loopback).Tell(t.Context(), p, token, forge.Status{Commit: head, State: forge.Success})
		var no *forge.Refusal
		if (err == nil) != ok || !ok && (!errors.As(err, &no) || strings.Contains(err.Error(), token)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if heard > 0 {
		t.Errorf("another host was asked %d times", heard)
	}
	if !strings.HasPrefix(taken, "Bearer "+token) || !strings.Contains(taken, `"state":"success"`) {
		t.Errorf("the renamed repository got %q", taken)
	}
}

// An address that is not open is not spoken to, a forge that hangs is given up, and what is no status or token is not sent.
func TestNothingIsSaid(t *testing.T) {
	t.Parallel()
	asked := 0
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked++
		_, _ = io.Copy(io.Discard, r.Body) // or the server does not see that nobody waits any more
		<-r.Context().Done()
	}))
	defer s.Close()
	good := forge.Status{Commit: head, State: forge.Success}
	var no *forge.Refusal
	if err := forge.NewClient(nil).Tell(t.Context(), place(t, "gitea", s.URL), token, good); !errors.As(err, &no) || !strings.Contains(err.Error(), outward.Variable) {
		t.Errorf("closed: %v", err)
	}
	for name, one := range map[string]struct {
		token string
		s     forge.Status
	}{
		"a short commit": {token, forge.Status{Commit: "0123abc", State: forge.Success}},
		"another path":   {token, forge.Status{Commit: "../../user", State: forge.Success}},
		"no token":       {"", good},
		"two lines":      {"a\nb", good},
	} {
		if err := forge.NewClient(loopback).Tell(t.Context(), place(t, "gitea", s.URL), one.token, one.s); !errors.As(err, &no) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if asked > 0 {
		t.Fatalf("asked %d times", asked)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := forge.NewClient(loopback).Tell(ctx, place(t, "gitea", s.URL), token, good); err == nil || errors.As(err, &no) || strings.Contains(err.Error(), token) {
		t.Errorf("hangs: %v", err)
	}
}
