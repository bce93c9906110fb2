package webhook

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	gt "github.com/go-playground/webhooks/v6/gitea"

	"github.com/lemnis/lemnis/internal/proposal"
	"github.com/lemnis/lemnis/pkg/events"
)

// giteaShapes tell the events of Gitea and Forgejo apart by the members of their bodies. A review comes under a name of
// its verdict, with the same body.
var giteaShapes = map[string]shape{
	"push":                  {has: []string{"ref", "before", "after", "repository"}, lacks: []string{"action", "ref_type"}},
	"create":                {has: []string{"ref", "ref_type", "repository", "sha"}},
	"delete":                {has: []string{"ref", "ref_type", "repository"}, lacks: []string{"sha"}},
	"pull_request":          {has: []string{"action", "pull_request"}, lacks: []string{"issue", "comment", "review"}},
	"pull_request_approved": {has: []string{"action", "pull_request", "review"}},
	"pull_request_rejected": {has: []string{"action", "pull_request", "review"}},
	"pull_request_comment":  {has: []string{"action", "pull_request", "review"}},
	"issues":                {has: []string{"action", "issue"}, lacks: []string{"comment", "pull_request"}},
	"release":               {has: []string{"action", "release"}},
}

// giteaReviews are verdicts by header, with the word that the type of the review has for each: the body alone is signed,
// so a verdict counts only if it says the same.
var giteaReviews = map[string]struct{ word, verdict string }{
	"pull_request_approved": {"approved", events.Approved},
	"pull_request_rejected": {"rejected", events.ChangesRequested},
	"pull_request_comment":  {"comment", events.Commented},
}

func gitea(d *delivery) error {
	if _, known := giteaShapes[d.event]; !known {
		return &UnknownError{Event: d.event}
	}
	if err := d.check(giteaShapes); err != nil {
		return err
	}
	var p struct {
		Repository gt.Repository `json:"repository"`
	}
	if err := d.decode(&p); err != nil {
		return err
	}
	r, err := d.find(p.Repository.HTMLURL, p.Repository.FullName, p.Repository.CloneURL, p.Repository.SSHURL)
	if err != nil {
		return err
	}
	r.changes = r.page + "/pulls/"
	switch d.event {
	case "push":
		return giteaPush(d, r)
	case "delete":
		return giteaDelete(d, r)
	case "issues":
		return giteaIssue(d, r)
	case "release":
		return giteaRelease(d, r)
	case "create":
		return nil // the push that comes with it says so too
	}
	return giteaPullRequest(d, r)
}

func giteaPush(d *delivery, r repository) error {
	var e gt.PushPayload
	if err := d.decode(&e); err != nil {
		return err
	}
	return d.push(r, push{ref: e.Ref, before: e.Before, after: e.After, by: login(e.Pusher)})
}

// giteaDelete says that a branch is gone: no push does.
func giteaDelete(d *delivery, r repository) error {
	var e gt.DeletePayload
	if err := d.decode(&e); err != nil {
		return err
	}
	branch := strings.TrimPrefix(e.Ref, "refs/heads/")
	if e.RefType == "branch" && branch != "" {
		d.claim(claim{subject: branch, content: events.BranchDeleted{Repository: r.reference()}, chain: r.page + "/tree/" + branch})
	}
	return nil
}

func giteaPullRequest(d *delivery, r repository) error {
	var e gt.PullRequestPayload
	if err := d.decode(&e); err != nil {
		return err
	}
	c, err := d.read(events.ForgeGitea, d.members["pull_request"])
	if err != nil {
		return err
	}
	if of, ok := giteaReviews[d.event]; ok {
		if e.Review == nil || !strings.HasSuffix(e.Review.Type, of.word) {
			return fmt.Errorf("%w: the header says %q, and the type of the review does not", ErrMismatch, d.event)
		}
		d.changeReviewed(r, c, c.At, events.Review{Reviewer: login(e.Sender), Head: c.Head, Verdict: of.verdict, Comment: e.Review.Content})
		return nil
	}
	switch e.Action {
	case "opened", "reopened":
		d.changeCreated(r, c)
	case "synchronized":
		d.changeUpdated(r, c, login(e.Sender))
	case "edited":
		if d.changed("ref") { // the base of before
			d.changeRetargeted(r, c)
			break
		}
		d.changeUpdated(r, c, "")
	case "closed":
		if c.State != proposal.Merged {
			d.changeAbandoned(r, c)
			break
		}
		d.changeMerged(r, c)
	}
	return nil
}

func giteaIssue(d *delivery, r repository) error {
	var e gt.IssuePayload
	if err := d.decode(&e); err != nil {
		return err
	}
	i := e.Issue
	if i == nil || cmp.Or(i.Index, e.Index) <= 0 {
		return malformed("issue.number is missing")
	}
	t := ticket{number: cmp.Or(i.Index, e.Index), by: login(e.Sender), at: i.Updated}
	for _, l := range i.Labels {
		if l != nil {
			t.Labels = append(t.Labels, l.Name)
		}
	}
	for _, a := range i.Assignees {
		t.Assignees = append(t.Assignees, login(a))
	}
	if i.Milestone != nil {
		t.Milestone = i.Milestone.Title
	}
	t.Summary, t.Creator, t.URI, t.TicketType = i.Title, login(i.Poster), cmp.Or(i.HTMLURL, i.URL), ticketType(t.Labels)
	switch e.Action {
	case "opened":
		d.ticketCreated(r, t)
	case "edited", "reopened", "assigned", "unassigned", "label_updated", "label_cleared", "milestoned", "demilestoned":
		d.ticketUpdated(r, t)
	case "closed":
		t.at = cmpTime(moment(i.Closed), t.at)
		d.ticketClosed(r, t, "completed")
	case "deleted":
		d.ticketClosed(r, t, "withdrawn")
	}
	return nil
}

func giteaRelease(d *delivery, r repository) error {
	var e gt.ReleasePayload
	if err := d.decode(&e); err != nil {
		return err
	}
	said := e.Release
	if said == nil || said.TagName == "" {
		return malformed("release.tag_name is missing")
	}
	if said.IsDraft || e.Action != "published" && e.Action != "deleted" {
		return nil
	}
	page := cmp.Or(said.HTMLURL, r.page+"/releases/tag/"+said.TagName)
	// The package URLs have no type for either forge; a generic one says where it is by its name space.
	d.released(page, events.ArtifactDetail{
		ID: r.purl("generic", said.TagName), Service: r.ref.Name, Repository: r.ref.Name, Reference: page, Title: cmp.Or(said.Title, said.TagName), Author: login(said.Publisher),
	}, login(e.Sender), said.PublishedAt, e.Action == "deleted")
	return nil
}

func login(u *gt.User) string {
	if u == nil || u.UserName == "" {
		return nobody
	}
	return u.UserName
}

func moment(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

func cmpTime(t, otherwise time.Time) time.Time {
	if t.IsZero() {
		return otherwise
	}
	return t
}
