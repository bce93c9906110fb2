package webhook

import (
	"cmp"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	gh "github.com/google/go-github/v88/github"

	"github.com/lemnis/lemnis/internal/proposal"
	"github.com/lemnis/lemnis/pkg/events"
)

// githubShapes tell GitHub's events apart by the members of their bodies.
var githubShapes = map[string]shape{
	"ping":                {has: []string{"zen", "hook_id"}},
	"push":                {has: []string{"ref", "before", "after", "repository"}, lacks: []string{"action", "pull_request", "issue"}},
	"pull_request":        {has: []string{"action", "pull_request"}, lacks: []string{"review", "comment", "thread"}},
	"pull_request_review": {has: []string{"action", "review", "pull_request"}, lacks: []string{"comment"}},
	"issues":              {has: []string{"action", "issue"}, lacks: []string{"comment", "pull_request"}},
	"release":             {has: []string{"action", "release"}},
	"workflow_run":        {has: []string{"action", "workflow_run"}, lacks: []string{"deployment_status", "workflow_job"}},
	"deployment_status":   {has: []string{"deployment_status", "deployment"}},
}

func github(d *delivery) error {
	translate := map[string]func(*delivery, repository) error{
		"push": githubPush, "pull_request": githubPullRequest, "pull_request_review": githubReview, "issues": githubIssue,
		"release": githubRelease, "workflow_run": githubRun, "deployment_status": githubDeployment,
	}[d.event]
	if _, known := githubShapes[d.event]; !known {
		return &UnknownError{Event: d.event}
	}
	if err := d.check(githubShapes); err != nil || translate == nil {
		return err // a ping says that the hook was set up
	}
	var p struct {
		Repository struct {
			FullName string `json:"full_name"`
			HTMLURL  string `json:"html_url"`
			CloneURL string `json:"clone_url"`
			SSHURL   string `json:"ssh_url"`
			GitURL   string `json:"git_url"`
		} `json:"repository"`
	}
	if err := d.decode(&p); err != nil {
		return err
	}
	at := p.Repository
	r, err := d.find(at.HTMLURL, at.FullName, at.CloneURL, at.SSHURL, at.GitURL)
	if err != nil {
		return err
	}
	return translate(d, r)
}

func githubPush(d *delivery, r repository) error {
	var e gh.PushEvent
	if err := d.decode(&e); err != nil {
		return err
	}
	p := push{ref: e.GetRef(), before: e.GetBefore(), after: e.GetAfter(), forced: e.GetForced(), by: e.GetSender().GetLogin(), at: e.GetRepo().GetPushedAt().Time}
	if p.by == "" {
		p.by = e.GetPusher().GetName()
	}
	return d.push(r, p)
}

func githubPullRequest(d *delivery, r repository) error {
	var e gh.PullRequestEvent
	if err := d.decode(&e); err != nil {
		return err
	}
	c, err := d.read(events.ForgeGitHub, d.members["pull_request"])
	if err != nil {
		return err
	}
	switch e.GetAction() {
	case "opened", "reopened":
		d.changeCreated(r, c)
	case "synchronize":
		d.changeUpdated(r, c, e.GetSender().GetLogin())
	case "edited":
		if d.changed("base") {
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

func githubReview(d *delivery, r repository) error {
	var e gh.PullRequestReviewEvent
	if err := d.decode(&e); err != nil {
		return err
	}
	c, err := d.read(events.ForgeGitHub, d.members["pull_request"])
	if err != nil {
		return err
	}
	said := e.GetReview()
	review := events.Review{Reviewer: said.GetUser().GetLogin(), Head: said.GetCommitID(), Comment: said.GetBody(), Verdict: events.Commented}
	switch action := e.GetAction(); {
	case action == "dismissed":
		review.Comment = fmt.Sprintf("the review was dismissed by %s", e.GetSender().GetLogin())
	case action != "submitted":
		return nil
	case strings.EqualFold(said.GetState(), "approved"):
		review.Verdict = events.Approved
	case strings.EqualFold(said.GetState(), "changes_requested"):
		review.Verdict = events.ChangesRequested
	}
	d.changeReviewed(r, c, said.GetSubmittedAt().Time, review)
	return nil
}

func githubIssue(d *delivery, r repository) error {
	var e gh.IssuesEvent
	if err := d.decode(&e); err != nil {
		return err
	}
	i := e.GetIssue()
	t := ticket{number: int64(i.GetNumber()), by: e.GetSender().GetLogin(), at: i.GetUpdatedAt().Time}
	if t.number <= 0 {
		return malformed("issue.number is missing")
	}
	for _, l := range i.Labels {
		t.Labels = append(t.Labels, l.GetName())
	}
	for _, a := range i.Assignees {
		t.Assignees = append(t.Assignees, a.GetLogin())
	}
	t.Summary, t.Creator, t.Milestone, t.URI = i.GetTitle(), cmp.Or(i.GetUser().GetLogin(), nobody), i.GetMilestone().GetTitle(), i.GetHTMLURL()
	t.TicketType = ticketType(append([]string{i.GetType().GetName()}, t.Labels...))
	switch e.GetAction() {
	case "opened":
		t.at = i.GetCreatedAt().Time
		d.ticketCreated(r, t)
	case "edited", "reopened", "assigned", "unassigned", "labeled", "unlabeled", "milestoned", "demilestoned", "typed", "untyped":
		d.ticketUpdated(r, t)
	case "closed":
		t.at = i.GetClosedAt().Time
		switch i.GetStateReason() {
		case "not_planned":
			d.ticketClosed(r, t, "declined")
		case "duplicate":
			d.ticketClosed(r, t, "duplicate")
		default:
			d.ticketClosed(r, t, "completed")
		}
	case "deleted", "transferred":
		d.ticketClosed(r, t, "withdrawn")
	}
	return nil
}

// githubRelease publishes the files of a release that have a digest, each an artifact; without one the release is the
// artifact. Of the events that publishing makes, published is the one that comes once, whatever kind of release it is.
func githubRelease(d *delivery, r repository) error {
	var e gh.ReleaseEvent
	if err := d.decode(&e); err != nil {
		return err
	}
	said := e.GetRelease()
	if said.GetTagName() == "" {
		return malformed("release.tag_name is missing")
	}
	gone := false
	at := said.GetPublishedAt().Time
	switch e.GetAction() {
	case "published":
	case "deleted", "unpublished":
		gone, at = true, d.now
	default:
		return nil
	}
	var files []events.ArtifactDetail
	for _, a := range said.Assets {
		if digest := a.GetDigest(); strings.HasPrefix(digest, "sha256:") && a.GetName() != "" {
			files = append(files, events.ArtifactDetail{
				ID:        "pkg:generic/" + url.PathEscape(a.GetName()) + "@" + url.QueryEscape(digest) + "?" + url.Values{"download_url": {a.GetBrowserDownloadURL()}}.Encode(),
				Reference: a.GetBrowserDownloadURL(), Digest: digest, Size: int64(a.GetSize()),
			})
		}
	}
	if len(files) == 0 {
		files = []events.ArtifactDetail{{ID: r.purl("github", said.GetTagName()), Reference: said.GetHTMLURL()}}
	}
	for _, a := range files {
		a.Service, a.Repository, a.Title, a.Author = r.ref.Name, r.ref.Name, cmp.Or(said.GetName(), said.GetTagName()), said.GetAuthor().GetLogin()
		if c := said.GetTargetCommitish(); len(c) == 40 && strings.Trim(c, "0123456789abcdef") == "" {
			a.Commit = c // else it is a branch, which goes on
		}
		d.released(said.GetHTMLURL(), a, e.GetSender().GetLogin(), at, gone)
	}
	return nil
}

// released says that an artifact can be had, or no more.
func (d *delivery) released(page string, a events.ArtifactDetail, by string, at time.Time, gone bool) {
	said := claim{subject: a.ID, at: at, chain: page, cause: page, content: events.ArtifactPublished{User: by, Lemnis: a}}
	if gone {
		said.content = events.ArtifactDeleted{User: by}
	}
	d.claim(said)
}

func githubRun(d *delivery, r repository) error {
	var e gh.WorkflowRunEvent
	if err := d.decode(&e); err != nil {
		return err
	}
	w := e.GetWorkflowRun()
	if w.GetID() <= 0 {
		return malformed("workflow_run.id is missing")
	}
	x := run{
		id: strconv.FormatInt(w.GetID(), 10), name: cmp.Or(w.GetName(), e.GetWorkflow().GetName(), "workflow"), page: w.GetHTMLURL(),
		branch: w.GetHeadBranch(), commit: w.GetHeadSHA(), at: w.GetUpdatedAt().Time,
	}
	if n := w.GetRunAttempt(); n > 1 {
		x.id += "/" + strconv.Itoa(n) // what is run again is another run
	}
	for _, p := range w.PullRequests { // also those into other repositories, which this one was forked from
		if into := p.GetBase().GetRepo().GetID(); into == 0 || into == e.GetRepo().GetID() {
			x.change = int64(p.GetNumber())
			break
		}
	}
	switch e.GetAction() {
	case "requested":
		x.at = w.GetCreatedAt().Time
	case "in_progress":
		x.state, x.at = started, w.GetRunStartedAt().Time
	case "completed":
		x.state = finished
		x.outcome, x.reason = githubOutcome(w.GetConclusion())
		if from, to := w.GetRunStartedAt().Time, w.GetUpdatedAt().Time; !from.IsZero() && to.After(from) {
			x.seconds = to.Sub(from).Seconds()
		}
	default:
		return nil
	}
	d.run(r, x)
	return nil
}

func githubOutcome(conclusion string) (outcome, reason string) {
	switch conclusion {
	case "success", "neutral":
		return events.Success, ""
	case "cancelled", "skipped", "stale":
		return events.Cancelled, "the workflow run ended as " + conclusion
	case "startup_failure":
		return events.Errored, "the workflow run could not be started"
	}
	return events.Failure, "the workflow run ended with " + cmp.Or(conclusion, "no conclusion")
}

func githubDeployment(d *delivery, r repository) error {
	var e gh.DeploymentStatusEvent
	if err := d.decode(&e); err != nil {
		return err
	}
	what, status := e.GetDeployment(), e.GetDeploymentStatus()
	if what.GetID() <= 0 || what.GetSHA() == "" {
		return malformed("deployment.id or deployment.sha is missing")
	}
	x := deployment{
		id: strconv.FormatInt(what.GetID(), 10), environment: cmp.Or(status.GetEnvironment(), what.GetEnvironment()), commit: what.GetSHA(),
		artifact: r.purl("github", what.GetSHA()), by: cmp.Or(status.GetCreator().GetLogin(), what.GetCreator().GetLogin()),
		url: status.GetEnvironmentURL(), page: cmp.Or(status.GetLogURL(), status.GetTargetURL()), reason: status.GetDescription(),
		at: status.GetUpdatedAt().Time,
	}
	switch state := status.GetState(); state {
	case "in_progress":
		x.state = deploying
	case "success":
		x.state = deployed
	case "failure", "error":
		x.state, x.reason = failed, cmp.Or(x.reason, "the deployment ended with "+state)
	default: // queued and pending say only that it will be tried, inactive that another took its place
		return nil
	}
	return d.deployment(r, x)
}
