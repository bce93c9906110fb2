package proposal

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/lemnis/lemnis/internal/excerpt"
	"github.com/lemnis/lemnis/pkg/events"
)

// Read reads a proposal as its forge writes it: GitHub's and Gitea's pull request, which is the same in a webhook and in an answer of the API,
// and GitLab's merge request, of either. A member of another type than the forge documents is left out, as if it were not there.
func Read(kind events.ForgeKind, text []byte) (Proposal, error) {
	read := readPull
	if kind == events.ForgeGitLab {
		read = readMerge
	}
	p, err := read(text)
	if err != nil {
		return Proposal{}, err
	}
	if p.Number <= 0 {
		return Proposal{}, errors.New("it has no number")
	}
	p.Ticket, p.Description = ticket(p.Title, p.Description), excerpt.Of(p.Description, longestDescription)
	return p, nil
}

func decode(text []byte, into any) error {
	var other *json.UnmarshalTypeError
	if err := json.Unmarshal(text, into); err != nil && !errors.As(err, &other) {
		return err
	}
	return nil
}

// fork says that the proposal comes from another repository. Its branch is named owner:branch as GitHub does, so that nobody takes it for a
// branch of the same name here.
func (p *Proposal) fork(owner, kind string) {
	p.Branch = cmp.Or(owner, "unknown") + ":" + p.Branch
	p.Ref = "refs/" + kind + "/" + strconv.FormatInt(p.Number, 10) + "/head"
}

// end is one side of a pull request.
type end struct {
	Label, Ref, SHA string
	RepoID          int64 `json:"repo_id"` // Gitea's
	Repo            *struct {
		FullName string `json:"full_name"`
		HTMLURL  string `json:"html_url"`
		Owner    struct{ Login string }
	}
}

// pull is GitHub's pull request, and Gitea's, which is made after it.
type pull struct {
	Number         int64
	HTMLURL        string `json:"html_url"`
	Title, Body    string
	State          string
	User           struct{ Login string }
	Head, Base     *end
	Updated        string  `json:"updated_at"`
	Merged         bool    `json:"merged"` // not in GitHub's lists
	MergedAt       *string `json:"merged_at"`
	MergeCommitSHA string  `json:"merge_commit_sha"` // GitHub's: while it is open, of a merge that was tried
}

func readPull(text []byte) (Proposal, error) {
	var w pull
	if err := decode(text, &w); err != nil {
		return Proposal{}, err
	}
	if w.Head == nil || w.Base == nil {
		return Proposal{}, errors.New("it has no head or no base")
	}
	p := Proposal{
		Number: w.Number, Page: w.HTMLURL, Title: w.Title, Description: w.Body, Branch: w.Head.Ref, Base: w.Base.Ref, Head: w.Head.SHA,
		Author: cmp.Or(w.User.Login, Nobody), At: Time(w.Updated),
	}
	if w.Base.Repo != nil {
		p.Project = strings.TrimRight(w.Base.Repo.HTMLURL, "/")
	}
	owner, label, named := strings.Cut(w.Head.Label, ":") // Gitea's has no owner
	if !named {
		owner, label = "", w.Head.Label
	}
	gone := events.IsPullRef(p.Branch) // Gitea's ref stands in for a branch that is gone, or never was
	if gone && label != "" {
		p.Branch = label
	}
	switch {
	case w.foreign():
		if owner == "" && w.Head.Repo != nil {
			owner = w.Head.Repo.Owner.Login
		}
		p.fork(owner, "pull")
	case gone && label == "": // pushed to refs/for (AGit): by anybody who may read, and to no branch
		p.fork(p.Author, "pull")
	}
	switch {
	case w.Merged || w.MergedAt != nil && *w.MergedAt != "":
		p.State, p.Merge = Merged, w.MergeCommitSHA
		if w.MergedAt != nil {
			if at := Time(*w.MergedAt); !at.IsZero() {
				p.At = at
			}
		}
	case w.State == "open":
		p.State = Open
	case w.State == "closed":
		p.State = Closed
	}
	return p, nil
}

// foreign reports whether the head is another repository's. One that is gone is, and one that is not told: the steps of what is taken for the
// repository's own get its secrets.
func (w pull) foreign() bool {
	if w.Head.RepoID != 0 || w.Base.RepoID != 0 {
		return w.Head.RepoID < 0 || w.Head.RepoID != w.Base.RepoID
	}
	var from, into string
	if w.Head.Repo != nil {
		from = w.Head.Repo.FullName
	}
	if w.Base.Repo != nil {
		into = w.Base.Repo.FullName
	}
	return from == "" || from != into
}

// merge is GitLab's merge request, in a webhook and in an answer of the API.
type merge struct {
	IID                int64
	URL                string // of a webhook
	WebURL             string `json:"web_url"` // of the API
	Title, Description string
	SourceBranch       string `json:"source_branch"`
	TargetBranch       string `json:"target_branch"`
	SourceProject      int64  `json:"source_project_id"`
	TargetProject      int64  `json:"target_project_id"`
	Source             struct {
		Path string `json:"path_with_namespace"`
	}
	SHA        string
	LastCommit struct{ ID string }       `json:"last_commit"`
	AuthorID   int64                     `json:"author_id"`
	Author     struct{ Username string } // of the API
	State      string                    // opened, closed, merged; locked while it merges
	Updated    string                    `json:"updated_at"`
	MergedAt   string                    `json:"merged_at"`
	Merge      string                    `json:"merge_commit_sha"`
}

func readMerge(text []byte) (Proposal, error) {
	var w merge
	if err := decode(text, &w); err != nil {
		return Proposal{}, err
	}
	p := Proposal{
		Number: w.IID, Page: cmp.Or(w.WebURL, w.URL), Title: w.Title, Description: w.Description, Branch: w.SourceBranch, Base: w.TargetBranch,
		Head: cmp.Or(w.LastCommit.ID, w.SHA), Author: w.Author.Username, Merge: w.Merge, At: Time(w.Updated),
	}
	if p.Author == "" { // a webhook's has a number
		p.Author = "user-" + strconv.FormatInt(w.AuthorID, 10)
	}
	p.Project, _, _ = strings.Cut(p.Page, "/-/merge_requests/")
	if w.SourceProject <= 0 || w.SourceProject != w.TargetProject { // also where it is not told, see [pull.foreign]
		owner := ""
		if w.Source.Path != "" {
			owner = path.Dir(w.Source.Path)
		}
		p.fork(owner, "merge-requests")
	}
	switch w.State {
	case "opened":
		p.State = Open
	case "closed":
		p.State = Closed
	case "merged":
		p.State = Merged
		if at := Time(w.MergedAt); !at.IsZero() {
			p.At = at
		}
	}
	return p, nil
}

// Time reads the forms that forges write times in; zero for none of them.
func Time(s string) time.Time {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02 15:04:05 MST", "2006-01-02 15:04:05 -0700"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t
		}
	}
	return time.Time{}
}

// Repository of a proposal that the API gave: the addresses of its issues and changes are found by its own.
func (p Proposal) Repository(kind events.ForgeKind, name string) (Repository, error) {
	if p.Project == "" {
		return Repository{}, fmt.Errorf("proposal %d does not say where its repository is", p.Number)
	}
	return RepositoryAt(kind, name, p.Project), nil
}

// RepositoryAt is a repository by its address for people.
func RepositoryAt(kind events.ForgeKind, name, page string) Repository {
	r := Repository{Name: name, Issues: page + "/issues/", Changes: page + "/pulls/"}
	switch kind {
	case events.ForgeGitHub:
		r.Changes = page + "/pull/"
	case events.ForgeGitLab:
		r.Issues, r.Changes = page+"/-/issues/", page+"/-/merge_requests/"
	}
	return r
}
