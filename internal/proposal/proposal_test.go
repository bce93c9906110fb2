package proposal_test

import (
	"strings"
	"testing"
	"time"

	"github.com/lemnis/lemnis/internal/proposal"
	"github.com/lemnis/lemnis/pkg/events"
)

const head = "b7c8d9e0f1a2b3c4d5e6f708192a3b4c5d6e7f80"

// Answers of the APIs, with what each forge has beside a webhook's payload.
const (
	github = `{"number": 42, "state": "open", "html_url": "https://github.com/acme/web/pull/42", "title": "Find", "body": "Fixes #7", "user": {"login": "ann"},
		"updated_at": "2026-11-24T07:30:00Z", "merged_at": null, "merge_commit_sha": "c0ffee", "head": {"label": "acme:find", "ref": "find", "sha": "` + head + `",
		"repo": {"full_name": "acme/web"}}, "base": {"label": "acme:main", "ref": "main", "repo": {"full_name": "acme/web", "html_url": "https://github.com/acme/web"}}}`
	gitea = `{"number": 5, "state": "open", "html_url": "https://git.example.org/acme/search/pulls/5", "title": "Names", "body": "", "user": {"login": "ann"},
		"updated_at": "2026-11-24T07:30:00Z", "merged": false, "merged_at": null, "merge_commit_sha": null, "head": {"label": "names", "ref": "names", "sha": "` + head + `",
		"repo_id": 21}, "base": {"label": "main", "ref": "main", "repo_id": 21, "repo": {"html_url": "https://git.example.org/acme/search"}}}`
	gitlab = `{"iid": 3, "state": "opened", "web_url": "https://gitlab.example.org/acme/platform/cart/-/merge_requests/3", "title": "Keep", "description": "Closes #8",
		"author": {"id": 4, "username": "ann"}, "source_branch": "keep", "target_branch": "main", "source_project_id": 15, "target_project_id": 15, "sha": "` + head + `",
		"updated_at": "2026-11-24T07:30:00.123Z", "merged_at": null, "merge_commit_sha": null}`
)

func TestAnswersOfAPIs(t *testing.T) {
	at := time.Date(2026, 11, 24, 7, 30, 0, 0, time.UTC)
	for name, tt := range map[string]struct {
		kind    events.ForgeKind
		text    string
		changes []string
		state   proposal.State
		branch  string
		ref     string
		chain   string // address
		merge   string
	}{
		"GitHub": {events.ForgeGitHub, github, nil, proposal.Open, "find", "", "https://github.com/acme/web/issues/7", ""},
		"GitHub, of a fork": {events.ForgeGitHub, github, []string{`"label": "acme:find"`, `"label": "bo:find"`, `"sha": "` + head + `",
		"repo": {"full_name": "acme/web"}`, `"sha": "` + head + `", "repo": {"full_name": "bo/web"}`}, proposal.Open, "bo:find", "refs/pull/42/head", "https://github.com/acme/web/issues/7", ""},
		"GitHub, of a fork that is gone": {events.ForgeGitHub, github, []string{`"label": "acme:find"`, `"label": "unknown"`, `"sha": "` + head + `",
		"repo": {"full_name": "acme/web"}`, `"sha": "` + head + `", "repo": null`}, proposal.Open, "unknown:find", "refs/pull/42/head", "https://github.com/acme/web/issues/7", ""},
		"GitHub, closed": {events.ForgeGitHub, github, []string{`"open"`, `"closed"`}, proposal.Closed, "find", "", "https://github.com/acme/web/issues/7", ""},
		"GitHub, merged": {events.ForgeGitHub, github, []string{`"open"`, `"closed"`, `"merged_at": null`, `"merged_at": "2026-11-24T07:30:00Z"`}, proposal.Merged, "find", "", "https://github.com/acme/web/issues/7", "c0ffee"},
		"Gitea":          {events.ForgeGitea, gitea, nil, proposal.Open, "names", "", "https://git.example.org/acme/search/pulls/5", ""},
		"Gitea, of a fork": {events.ForgeForgejo, gitea, []string{`"repo_id": 21}`, `"repo_id": 22, "repo": {"owner": {"login": "bo"}}}`}, proposal.Open, "bo:names", "refs/pull/5/head",
			"https://git.example.org/acme/search/pulls/5", ""},
		"Gitea, merged":     {events.ForgeGitea, gitea, []string{`"open"`, `"closed"`, `"merged": false`, `"merged": true`, `"merge_commit_sha": null`, `"merge_commit_sha": "c0ffee"`}, proposal.Merged, "names", "", "https://git.example.org/acme/search/pulls/5", "c0ffee"},
		"GitLab":            {events.ForgeGitLab, gitlab, nil, proposal.Open, "keep", "", "https://gitlab.example.org/acme/platform/cart/-/issues/8", ""},
		"GitLab, of a fork": {events.ForgeGitLab, gitlab, []string{`"source_project_id": 15`, `"source_project_id": 16`}, proposal.Open, "unknown:keep", "refs/merge-requests/3/head", "https://gitlab.example.org/acme/platform/cart/-/issues/8", ""},
		"GitLab, merging":   {events.ForgeGitLab, gitlab, []string{`"opened"`, `"locked"`}, "", "keep", "", "https://gitlab.example.org/acme/platform/cart/-/issues/8", ""},
		"GitLab, merged":    {events.ForgeGitLab, gitlab, []string{`"opened"`, `"merged"`, `"merge_commit_sha": null`, `"merge_commit_sha": "c0ffee"`}, proposal.Merged, "keep", "", "https://gitlab.example.org/acme/platform/cart/-/issues/8", "c0ffee"},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.NewReplacer(tt.changes...).Replace(tt.text)
			if len(tt.changes) > 0 && text == tt.text {
				t.Fatal("nothing was changed")
			}
			p, err := proposal.Read(tt.kind, []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			r, err := p.Repository(tt.kind, "web")
			if err != nil {
				t.Fatal(err)
			}
			chain, _, _ := p.Turn(r)
			d := p.Created(r).Lemnis
			if p.State != tt.state || p.Branch != tt.branch || p.Ref != tt.ref || chain != tt.chain || p.Merge != tt.merge || p.Head != head || p.Base != "main" || p.Author != "ann" || !p.At.Truncate(time.Second).Equal(at) || d.URL != p.Page {
				t.Errorf("%+v, chain %s", p, chain)
			}
		})
	}
	for _, bad := range []string{"", "[]", "{}", `{"number": 1}`, `{"iid": -3}`} {
		for _, kind := range []events.ForgeKind{events.ForgeGitHub, events.ForgeGitLab, events.ForgeGitea} {
			if p, err := proposal.Read(kind, []byte(bad)); err == nil {
				t.Errorf("%s: %s was read as %+v", kind, bad, p)
			}
		}
	}
}

// Whose the branch is has to be said, by both sides, for the change to be of the repository itself: steps of that get secrets.
func TestWhoseBranchItIsHasToBeSaid(t *testing.T) {
	for name, tt := range map[string]struct {
		kind      events.ForgeKind
		text, ref string
	}{
		"GitHub":                    {events.ForgeGitHub, `{"number": 1, "head": {"ref": "b", "repo": {"full_name": "a/b"}}, "base": {"ref": "main", "repo": {"full_name": "a/b"}}}`, ""},
		"GitHub, no repositories":   {events.ForgeGitHub, `{"number": 1, "head": {"ref": "b"}, "base": {"ref": "main"}}`, "refs/pull/1/head"},
		"GitHub, both mistyped":     {events.ForgeGitHub, `{"number": 1, "head": {"ref": "b", "repo": {"full_name": 7}}, "base": {"ref": "main", "repo": {"full_name": 7}}}`, "refs/pull/1/head"},
		"GitHub, one mistyped":      {events.ForgeGitHub, `{"number": 1, "head": {"ref": "b", "repo": {"full_name": "a/b"}}, "base": {"ref": "main", "repo": {"full_name": 7}}}`, "refs/pull/1/head"},
		"Gitea":                     {events.ForgeGitea, `{"number": 1, "head": {"ref": "b", "repo_id": 3}, "base": {"ref": "main", "repo_id": 3}}`, ""},
		"Gitea, both mistyped":      {events.ForgeGitea, `{"number": 1, "head": {"ref": "b", "repo_id": "3"}, "base": {"ref": "main", "repo_id": "3"}}`, "refs/pull/1/head"},
		"Gitea, one mistyped":       {events.ForgeGitea, `{"number": 1, "head": {"ref": "b", "repo_id": "3"}, "base": {"ref": "main", "repo_id": 3}}`, "refs/pull/1/head"},
		"Gitea, both gone":          {events.ForgeGitea, `{"number": 1, "head": {"ref": "b", "repo_id": -1}, "base": {"ref": "main", "repo_id": -1}}`, "refs/pull/1/head"},
		"GitLab":                    {events.ForgeGitLab, `{"iid": 1, "source_branch": "b", "source_project_id": 3, "target_project_id": 3}`, ""},
		"GitLab, no projects":       {events.ForgeGitLab, `{"iid": 1, "source_branch": "b"}`, "refs/merge-requests/1/head"},
		"GitLab, source is deleted": {events.ForgeGitLab, `{"iid": 1, "source_branch": "b", "source_project_id": null, "target_project_id": 3}`, "refs/merge-requests/1/head"},
		"GitLab, both mistyped":     {events.ForgeGitLab, `{"iid": 1, "source_branch": "b", "source_project_id": "3", "target_project_id": "3"}`, "refs/merge-requests/1/head"},
		"GitLab, none is negative":  {events.ForgeGitLab, `{"iid": 1, "source_branch": "b", "source_project_id": -1, "target_project_id": -1}`, "refs/merge-requests/1/head"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := proposal.Read(tt.kind, []byte(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			want := "b"
			if tt.ref != "" {
				want = "unknown:b"
			}
			if p.Ref != tt.ref || p.Branch != want {
				t.Errorf("branch %q, ref %q", p.Branch, p.Ref)
			}
		})
	}
}

func TestKeys(t *testing.T) {
	r := proposal.Repository{Name: "web"}
	if n, ok := r.Number(r.Numbered(42)); n != 42 || !ok {
		t.Error(n, ok)
	}
	for _, key := range []string{"42", "web#0", "web#-1", "web#+1", "web#01", "web#", "webs#1", "web#1x"} {
		if n, ok := r.Number(key); ok {
			t.Errorf("%s is %d", key, n)
		}
	}
}

// A description that is too long is cut between two characters, and the ticket that stands behind the cut is found.
func TestLongDescription(t *testing.T) {
	p, err := proposal.Read(events.ForgeGitLab, []byte(`{"iid": 1, "description": "`+strings.Repeat("é", 10000)+` fixes #9"}`))
	if err != nil || len(p.Description) > 17<<10 || !strings.HasSuffix(p.Description, "é…") || p.Ticket != 9 {
		t.Errorf("%d bytes, ticket %d, %v", len(p.Description), p.Ticket, err)
	}
}

func FuzzRead(f *testing.F) {
	for _, text := range []string{github, gitea, gitlab} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, kind := range []events.ForgeKind{events.ForgeGitHub, events.ForgeGitLab, events.ForgeGitea} {
			p, err := proposal.Read(kind, text)
			if err != nil {
				continue
			}
			r := proposal.RepositoryAt(kind, "web", p.Project)
			if n, ok := r.Number(r.Numbered(p.Number)); !ok || n != p.Number {
				t.Errorf("%d became %d", p.Number, n)
			}
		}
	})
}
