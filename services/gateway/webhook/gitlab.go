package webhook

import (
	"cmp"
	"encoding/json"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	gl "gitlab.com/gitlab-org/api/client-go"

	"github.com/lemnis/lemnis/internal/proposal"
	"github.com/lemnis/lemnis/pkg/events"
)

// gitlabKinds are GitLab's events by header, with what object_kind their bodies state.
var gitlabKinds = map[string]string{
	"Push Hook": "push", "Tag Push Hook": "tag_push", "Merge Request Hook": "merge_request", "Issue Hook": "issue",
	"Confidential Issue Hook": "issue", "Pipeline Hook": "pipeline", "Deployment Hook": "deployment", "Release Hook": "release",
}

var gitlabEvents = map[string]func(*delivery, repository) error{
	"push": gitlabPush, "tag_push": gitlabPush, "merge_request": gitlabMergeRequest, "issue": gitlabIssue, "pipeline": gitlabPipeline,
	"deployment": gitlabDeployment, "release": gitlabRelease,
}

func gitlab(d *delivery) error {
	var p struct {
		Kind    string `json:"object_kind"`
		Project struct {
			Path    string `json:"path_with_namespace"`
			WebURL  string `json:"web_url"`
			HTTPURL string `json:"git_http_url"`
			SSHURL  string `json:"git_ssh_url"`
		} `json:"project"`
	}
	if err := d.decode(&p); err != nil {
		return err
	}
	if kind := gitlabKinds[d.event]; kind != p.Kind && (kind != "" || gitlabEvents[p.Kind] != nil) {
		return fmt.Errorf("%w: the header says %q, and object_kind %q", ErrMismatch, d.event, p.Kind)
	}
	translate := gitlabEvents[p.Kind]
	if translate == nil {
		return &UnknownError{Event: d.event}
	}
	r, err := d.find(p.Project.WebURL, p.Project.Path, p.Project.HTTPURL, p.Project.SSHURL)
	if err != nil {
		return err
	}
	r.commits, r.issues, r.changes = r.page+"/-/commit/", r.page+"/-/issues/", r.page+"/-/merge_requests/"
	return translate(d, r)
}

func gitlabPush(d *delivery, r repository) error {
	var e gl.PushEvent
	if err := d.decode(&e); err != nil {
		return err
	}
	return d.push(r, push{ref: e.Ref, before: e.Before, after: e.After, by: e.UserUsername})
}

// gitlabMergeRequest reads who wrote a merge request from its opening only: later deliveries have the author's number,
// and the name of whoever acts.
func gitlabMergeRequest(d *delivery, r repository) error {
	var e gl.MergeEvent
	if err := d.decode(&e); err != nil {
		return err
	}
	a := e.ObjectAttributes
	actor := actorOf(e.User)
	c, err := d.read(events.ForgeGitLab, d.members["object_attributes"])
	if err != nil {
		return err
	}
	c.Author = gitlabUser(a.AuthorID, e.User)
	switch a.Action {
	case "open", "reopen":
		d.changeCreated(r, c)
	case "update":
		switch {
		case d.changed("target_branch"):
			d.changeRetargeted(r, c)
		case a.OldRev != "":
			d.changeUpdated(r, c, actor)
		case d.changed("title", "description"):
			d.changeUpdated(r, c, "")
		}
	case "close":
		d.changeAbandoned(r, c)
	case "merge":
		d.changeMerged(r, c)
	case "approval", "approved", "unapproval", "unapproved":
		review := events.Review{Reviewer: actor, Head: c.Head, Verdict: events.Approved}
		switch {
		case strings.HasPrefix(a.Action, "un"):
			// Taking an approval back is a word against the change: nothing else keeps it from counting.
			review.Verdict, review.Comment = events.ChangesRequested, "the approval was taken back"
		case e.User != nil && e.User.ID != 0 && e.User.ID == a.AuthorID:
			// The author may be known here by number only, so that nobody else could tell.
			review.Verdict, review.Comment = events.Commented, "the author approved; that does not count"
		}
		d.changeReviewed(r, c, c.At, review)
	}
	return nil
}

// changed reports whether an update names one of the fields.
func (d *delivery) changed(fields ...string) bool {
	var all map[string]json.RawMessage
	if json.Unmarshal(d.members["changes"], &all) != nil {
		return false
	}
	for _, f := range fields {
		if v, ok := all[f]; ok && string(v) != "null" {
			return true
		}
	}
	return false
}

// gitlabIssue keeps confidential issues to GitLab: everybody reads the stream.
func gitlabIssue(d *delivery, r repository) error {
	var e gl.IssueEvent
	if err := d.decode(&e); err != nil {
		return err
	}
	a := e.ObjectAttributes
	if a.Confidential || d.event == "Confidential Issue Hook" {
		return nil
	}
	if a.IID <= 0 {
		return malformed("object_attributes.iid is missing")
	}
	t := ticket{number: a.IID, by: actorOf(e.User), at: proposal.Time(a.UpdatedAt)}
	for _, l := range e.Labels {
		if l != nil {
			t.Labels = append(t.Labels, l.Title)
		}
	}
	if e.Assignees != nil {
		for _, u := range *e.Assignees {
			t.Assignees = append(t.Assignees, u.Username)
		}
	}
	t.Summary, t.Creator, t.URI, t.TicketType = a.Title, gitlabUser(a.AuthorID, e.User), a.URL, ticketType(t.Labels)
	switch a.Action {
	case "open":
		d.ticketCreated(r, t)
	case "update", "reopen":
		d.ticketUpdated(r, t)
	case "close":
		switch {
		case a.DuplicatedToID != 0:
			d.ticketClosed(r, t, "duplicate")
		case a.MovedToID != 0:
			d.ticketClosed(r, t, "withdrawn")
		default:
			d.ticketClosed(r, t, "completed")
		}
	}
	return nil
}

func gitlabPipeline(d *delivery, r repository) error {
	var e gl.PipelineEvent
	if err := d.decode(&e); err != nil {
		return err
	}
	a := e.ObjectAttributes
	if a.ID <= 0 {
		return malformed("object_attributes.id is missing")
	}
	id := strconv.FormatInt(a.ID, 10)
	x := run{
		id: id, name: cmp.Or(a.Name, "pipeline"), page: cmp.Or(a.URL, r.page+"/-/pipelines/"+id), branch: a.Ref, commit: a.SHA,
		change: e.MergeRequest.IID, at: proposal.Time(a.CreatedAt), seconds: float64(a.Duration),
	}
	switch a.Status {
	case "created", "waiting_for_resource", "preparing", "pending":
	case "running":
		x.state, x.at = started, time.Time{} // it is not said when
	case "success":
		x.state, x.outcome = finished, events.Success
	case "failed":
		x.state, x.outcome, x.reason = finished, events.Failure, "the pipeline failed"
	case "canceled", "skipped":
		x.state, x.outcome, x.reason = finished, events.Cancelled, "the pipeline was "+a.Status
	default: // manual, scheduled: it waits for a person, or for its time
		return nil
	}
	if x.state == finished {
		x.at = proposal.Time(a.FinishedAt)
	}
	d.run(r, x)
	return nil
}

func gitlabDeployment(d *delivery, r repository) error {
	var e gl.DeploymentEvent
	if err := d.decode(&e); err != nil {
		return err
	}
	if e.DeploymentID <= 0 {
		return malformed("deployment_id is missing")
	}
	commit := path.Base(e.CommitURL) // the body has the whole id nowhere else
	if !strings.HasPrefix(commit, e.ShortSHA) || e.ShortSHA == "" {
		commit = e.ShortSHA
	}
	if commit == "" {
		return malformed("short_sha is missing")
	}
	x := deployment{
		id: strconv.FormatInt(e.DeploymentID, 10), environment: e.Environment, commit: commit, artifact: r.purl("gitlab", commit), by: actorOf(e.User),
		url: e.EnvironmentExternalURL, page: e.DeployableURL, at: proposal.Time(e.StatusChangedAt),
	}
	switch e.Status {
	case "running":
		x.state = deploying
	case "success":
		x.state = deployed
	case "failed", "canceled":
		x.state, x.reason = failed, "the deployment was "+e.Status
		if e.Status == "failed" {
			x.reason = "the deployment failed"
		}
	default: // created, blocked, skipped: nothing has happened yet, or nothing will
		return nil
	}
	return d.deployment(r, x)
}

func gitlabRelease(d *delivery, r repository) error {
	var e gl.ReleaseEvent
	if err := d.decode(&e); err != nil {
		return err
	}
	if e.Tag == "" {
		return malformed("tag is missing")
	}
	if e.Action != "create" && e.Action != "delete" {
		return nil
	}
	d.released(cmp.Or(e.URL, r.page+"/-/releases/"+e.Tag), events.ArtifactDetail{
		ID: r.purl("gitlab", e.Tag), Service: r.ref.Name, Repository: r.ref.Name, Reference: e.URL, Commit: e.Commit.ID, Title: cmp.Or(e.Name, e.Tag),
	}, "", proposal.Time(e.ReleasedAt), e.Action == "delete")
	return nil
}

func actorOf(u *gl.EventUser) string {
	if u == nil || u.Username == "" {
		return nobody
	}
	return u.Username
}

// gitlabUser is a name for a number: the name of whoever acts, if it is theirs.
func gitlabUser(id int64, acts *gl.EventUser) string {
	if acts != nil && acts.Username != "" && (acts.ID == id || id == 0) {
		return acts.Username
	}
	return "user-" + strconv.FormatInt(id, 10)
}
