package forge_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lemnis/lemnis/pkg/events"

	"github.com/lemnis/lemnis/services/builder/forge"
)

const gitea = `{"number": %d, "state": "open", "head": {"sha": "` + head + `", "ref": "find", "repo_id": 1}, "base": {"ref": "main", "repo_id": 1}}`

// lists are what the forges document: where open changes are, how a page is asked for, and how one is written.
var lists = map[string]struct{ url, path, query, size, one string }{
	"github": {"/acme/web.git", "/api/v3/repos/acme/web/pulls", "state=open&sort=created&direction=desc", "per_page",
		`{"number": %d, "state": "open", "head": {"sha": "` + head + `", "ref": "find", "repo": {"full_name": "acme/web"}}, "base": {"ref": "main", "repo": {"full_name": "acme/web"}}}`},
	"gitlab": {"/acme/group/web.git", "/api/v4/projects/acme%2Fgroup%2Fweb/merge_requests", "state=opened&order_by=created_at&sort=desc", "per_page",
		`{"iid": %d, "state": "opened", "sha": "` + head + `", "source_branch": "find", "source_project_id": 1, "target_branch": "main", "target_project_id": 1}`},
	"gitea":   {"/acme/web.git", "/api/v1/repos/acme/web/pulls", "state=open", "limit", gitea},
	"forgejo": {"/acme/web.git", "/api/v1/repos/acme/web/pulls", "state=open", "limit", gitea},
}

// Each forge is asked for its open changes as it documents, page by page, and for one by its number; a page that has not changed is not told again.
func TestLists(t *testing.T) {
	t.Parallel()
	for kind, is := range lists {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			open := 120
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get(fakes[kind].header) != fakes[kind].proof || r.Method != http.MethodGet {
					w.WriteHeader(http.StatusUnauthorized)
					return
				}
				if number, single := strings.CutPrefix(r.URL.EscapedPath(), is.path+"/"); single {
					n, err := strconv.Atoi(number)
					if err != nil || n > open {
						w.WriteHeader(http.StatusNotFound)
						return
					}
					fmt.Fprintf(w, is.one, n)
					return
				}
				q := r.URL.Query()
				page, _ := strconv.Atoi(q.Get("page"))
				size, _ := strconv.Atoi(q.Get(is.size))
				q.Del("page")
				q.Del(is.size)
				if r.URL.EscapedPath() != is.path || len(q) != strings.Count(is.query, "=") || page < 1 || size != 50 {
					w.WriteHeader(http.StatusBadRequest)
					return
				}
				for pair := range strings.SplitSeq(is.query, "&") {
					if name, value, _ := strings.Cut(pair, "="); q.Get(name) != value {
						w.WriteHeader(http.StatusBadRequest)
						return
					}
				}
				tag := fmt.Sprintf(`W/"%d of %d"`, page, open)
				w.Header().Set("ETag", tag)
				if r.Header.Get("If-None-Match") == tag {
					w.WriteHeader(http.StatusNotModified)
					return
				}
				var all []string
				for n := open - (page-1)*size; n > max(open-page*size, 0); n-- {
					all = append(all, fmt.Sprintf(is.one, n))
				}
				if page*size < open {
					w.Header().Set("Link", fmt.Sprintf(`<https://elsewhere.example.org/?page=%d>; rel="next", <https://elsewhere.example.org/>; rel="last"`, page+1))
				}
				_, _ = io.WriteString(w, "["+strings.Join(all, ",")+"]")
			}))
			defer s.Close()
			p, err := forge.Locate(events.RepositoryRef{URL: s.URL + is.url, Forge: &events.Forge{Kind: events.ForgeKind(kind)}})
			if err != nil {
				t.Fatal(err)
			}
			c := forge.NewClient(loopback)
			var numbers []int64
			var tag string
			for page := 1; ; page++ {
				got, err := c.List(t.Context(), p, token, page, "")
				if err != nil || got.Same {
					t.Fatalf("page %d: %+v %v", page, got, err)
				}
				for _, one := range got.Proposals {
					if one.Head != head || one.Branch != "find" || one.Base != "main" {
						t.Errorf("%+v", one)
					}
					numbers = append(numbers, one.Number)
				}
				if tag = got.Tag; got.Last {
					if again, err := c.List(t.Context(), p, token, page, tag); err != nil || !again.Same || len(again.Proposals) > 0 {
						t.Errorf("again: %+v %v", again, err)
					}
					break
				}
			}
			if len(numbers) != 120 || numbers[0] != 120 || numbers[119] != 1 || !slices.IsSortedFunc(numbers, func(a, b int64) int { return int(b - a) }) {
				t.Errorf("%v", numbers)
			}
			one, there, err := c.Get(t.Context(), p, token, 7)
			if err != nil || !there || one.Number != 7 {
				t.Errorf("%+v %v %v", one, there, err)
			}
			if _, there, err := c.Get(t.Context(), p, token, 121); there || err != nil {
				t.Errorf("of a number that there is not: %v %v", there, err)
			}
			var no *forge.Refusal
			if _, err := c.List(t.Context(), p, "wr0ng", 1, ""); !errors.As(err, &no) || !strings.Contains(no.Reason, "401") || strings.Contains(no.Reason, "wr0ng") {
				t.Errorf("a wrong token: %v", err)
			}
		})
	}
}

// Whether a page follows says the forge; where a proxy takes that away, how full the page is.
func TestTheLastPage(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		link string
		n    int
		last bool
	}{
		"one of few":          {"", 3, true},
		"full, and no word":   {"", 50, false},
		"empty":               {"", 0, true},
		"there is a next one": {`<x?page=2>; rel="next"`, 20, false},
		"full, and the last":  {`<x?page=1>; rel="prev"`, 50, true},
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if c.link != "" {
				w.Header().Set("Link", c.link)
			}
			_, _ = io.WriteString(w, "["+strings.TrimSuffix(strings.Repeat(fmt.Sprintf(lists["gitea"].one, 1)+",", c.n), ",")+"]")
		}))
		got, err := forge.NewClient(loopback).List(t.Context(), place(t, "gitea", s.URL), token, 1, "")
		s.Close()
		if err != nil || got.Last != c.last || len(got.Proposals) != c.n {
			t.Errorf("%s: %d, last %v, %v", name, len(got.Proposals), got.Last, err)
		}
	}
}

// What is no list, or one without an end, is an error that may pass; a no and a wish to be left alone are what they are to a status.
func TestListsThatAreNone(t *testing.T) {
	t.Parallel()
	one := fmt.Sprintf(lists["github"].one, 1)
	for name, c := range map[string]struct {
		status int
		header map[string]string
		body   string
		no     bool
		busy   time.Duration
		words  string
	}{
		"a page for people":     {200, nil, "<html>", false, 0, "no list"},
		"an object":             {200, nil, "{}", false, 0, "no list"},
		"one without a number":  {200, nil, "[" + one + `,{"head":{},"base":{}}]`, false, 0, "number 2 of a page: it has no number"},
		"one that breaks off":   {200, nil, "[" + one + ",", false, 0, "EOF"},
		"more than was asked":   {200, nil, "[" + strings.Repeat(one+",", 200) + one + "]", false, 0, "more than the 50"},
		"one without an end":    {200, nil, `[{"title":"` + strings.Repeat("x", 33<<20), false, 0, "more than 32 MiB"},
		"no tag was sent":       {304, nil, "", true, 0, "not followed"},
		"too many":              {429, map[string]string{"Retry-After": "30"}, `{"message":"slow down"}`, false, 30 * time.Second, "slow down"},
		"GitHub's limit":        {403, map[string]string{"X-RateLimit-Remaining": "0", "Retry-After": "60"}, "", false, time.Minute, "403"},
		"away":                  {503, map[string]string{"Retry-After": "5"}, "", false, 5 * time.Second, "503"},
		"a fault":               {502, nil, "", false, 0, "502"},
		"no right":              {403, nil, "", true, 0, "may not read changes"},
		"not seen":              {404, nil, "", true, 0, "does not see the repository"},
		"on to another address": {302, map[string]string{"Location": "https://elsewhere.example.org/"}, "", true, 0, "elsewhere.example.org"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				for key, value := range c.header {
					w.Header().Set(key, value)
				}
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			}))
			defer s.Close()
			_, err := forge.NewClient(loopback).List(t.Context(), place(t, "github", s.URL), token, 1, "")
			var no *forge.Refusal
			var busy *forge.Busy
			if err == nil || errors.As(err, &no) != c.no || errors.As(err, &busy) != (c.busy > 0) || !strings.Contains(err.Error(), c.words) || strings.Contains(err.Error(), token) {
				t.Fatalf("%T %v", err, err)
			}
			if busy != nil && busy.After != c.busy {
				t.Errorf("left alone for %s", busy.After)
			}
		})
	}
}

// A list is followed to where its repository is now, within the host; the token is told to no other, nor is a forge that hangs waited for.
func TestWhereListsLead(t *testing.T) {
	t.Parallel()
	heard := 0
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { heard++ }))
	defer other.Close()
	mux := http.NewServeMux()
	mux.HandleFunc("/api/v4/projects/", func(w http.ResponseWriter, r *http.Request) {
		to := other.URL + "/list"
		switch {
		case strings.Contains(r.URL.EscapedPath(), "hangs"):
			<-r.Context().Done()
			return
		case strings.Contains(r.URL.EscapedPath(), "renamed"):
			to = "/moved?" + r.URL.RawQuery
		}
		http.Redirect(w, r, to, http.StatusMovedPermanently)
	})
	mux.HandleFunc("GET /moved", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Private-Token") == token && r.URL.Query().Get("state") == "opened" {
			fmt.Fprintf(w, "["+lists["gitlab"].one+"]", 4)
		}
	})
	s := httptest.NewServer(mux)
	defer s.Close()
	c := forge.NewClient(loopback)
	at := func(name string) forge.Place {
		p, err := forge.Locate(events.RepositoryRef{URL: s.URL + "/acme/" + name, Forge: &events.Forge{Kind: events.ForgeGitLab}})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	if got, err := c.List(t.Context(), at("renamed"), token, 1, ""); err != nil || len(got.Proposals) != 1 {
		t.Errorf("renamed: %+v %v", got, err)
	}
	var no *forge.Refusal
	if _, err := c.List(t.Context(), at("elsewhere"), token, 1, ""); !errors.As(err, &no) || strings.Contains(err.Error(), token) {
		t.Errorf("elsewhere: %v", err)
	}
	if _, _, err := c.Get(t.Context(), at("elsewhere"), token, 1); !errors.As(err, &no) || heard > 0 {
		t.Errorf("elsewhere, one: %v; it was asked %d times", err, heard)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := c.List(ctx, at("hangs"), token, 1, ""); err == nil || errors.As(err, &no) {
		t.Errorf("hangs: %v", err)
	}
	if _, err := forge.NewClient(nil).List(t.Context(), at("renamed"), token, 1, ""); !errors.As(err, &no) {
		t.Errorf("an address that is not open: %v", err)
	}
}
