package webhook_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/gateway/webhook"
)

const (
	a = "a1b2c3d4e5f60718293a4b5c6d7e8f9012345678"
	b = "b7c8d9e0f1a2b3c4d5e6f708192a3b4c5d6e7f80"
	m = "c0ffee11223344556677889900aabbccddeeff00"
)

// line is what a claim says, in short.
func line(e events.Event) string {
	s := e.Type.Short() + " " + e.SubjectID + " "
	switch c := e.Content.(type) {
	case events.BranchCreated:
		s += c.Repository.ID
	case events.BranchDeleted:
		s += c.Repository.ID
	case events.RepositoryModified:
		s += c.URI + " " + string(e.Custom)
	case events.ChangeCreated:
		s += detail(c.Lemnis)
	case events.ChangeUpdated:
		s += detail(c.Lemnis)
	case events.ChangeMerged:
		s += fmt.Sprintf("%s %s %s<-%s by %s head %.4s as %.4s item %s", c.Lemnis.Repository, c.Lemnis.Title, c.Lemnis.Base, c.Lemnis.Branch, c.Lemnis.Author, c.Lemnis.Head, c.Lemnis.Commit, c.Lemnis.Item)
	case events.ChangeAbandoned:
		s += c.Repository.ID
	case events.ChangeReviewed:
		s += fmt.Sprintf("%s by %s of %.4s: %s", c.Lemnis.Verdict, c.Lemnis.Reviewer, c.Lemnis.Head, c.Lemnis.Comment)
	case events.TicketCreated:
		s += card(c.Ticket)
	case events.TicketUpdated:
		s += card(c.Ticket) + " updated by " + c.UpdatedBy
	case events.TicketClosed:
		s += card(c.Ticket) + " " + c.Resolution + " by " + c.UpdatedBy
	case events.ArtifactPublished:
		s += fmt.Sprintf("%s %s %s by %s", c.Lemnis.Service, c.Lemnis.Title, c.Lemnis.Digest, c.User)
	case events.ArtifactDeleted:
		s += "by " + c.User
	case events.PipelineRunQueued:
		s += run(c.PipelineName, c.URI, c.Lemnis)
	case events.PipelineRunStarted:
		s += run(c.PipelineName, c.URI, c.Lemnis)
	case events.PipelineRunFinished:
		s += run(c.PipelineName, c.URI, c.Lemnis) + " " + c.Outcome + " " + c.Errors
	case events.DeploymentStarted:
		s += rollout(c.Rollout)
	case events.ServiceDeployed:
		s += rollout(c.Lemnis.Rollout) + " at " + c.Lemnis.URL + " " + c.Environment.ID + " " + c.ArtifactID
	case events.DeploymentFailed:
		s += rollout(c.Rollout) + " " + c.Reason
	case events.IncidentDetected:
		s += incident(c.Incident, c.Lemnis)
	case events.IncidentResolved:
		s += incident(c.Incident, c.Lemnis)
	}
	return strings.TrimSpace(s)
}

func detail(d events.ChangeDetail) string {
	from := d.Branch
	if d.Ref != "" {
		from += " (" + d.Ref + ")"
	}
	return fmt.Sprintf("%s %s %s<-%s by %s head %.4s item %s", d.Repository, d.Title, d.Base, from, d.Author, d.Head, d.Item)
}

func card(t events.Ticket) string {
	return fmt.Sprintf("%s (%s) by %s for %s %s", t.Summary, t.TicketType, t.Creator, strings.Join(t.Assignees, ","), strings.Join(t.Labels, ","))
}

func run(name, uri string, d events.RunDetail) string {
	return fmt.Sprintf("%s %s change %s head %.4s commit %.4s in %gs", name, uri, d.Merge.Change, d.Merge.Head, d.Merge.Commit, d.Seconds)
}

func rollout(r events.Rollout) string {
	return fmt.Sprintf("%s of %s to %s %.4s by %s", r.ID, r.Service, r.Environment, r.Artifact.Commit, r.Artifact.Author)
}

func incident(i events.Incident, d events.IncidentDetail) string {
	service := "-"
	if i.Service != nil {
		service = i.Service.ID
	}
	return fmt.Sprintf("%s %s %s: %s since %s %s", i.Environment.ID, service, d.Severity, i.Description, d.Onset, d.Remedy)
}

const (
	find = "web Find by name main<-feature/find by ann head b7c8 item web#7"
	slow = "Search is slow (bug) by cy for ann bug"
	ci   = "CI https://github.com/acme/web/actions/runs/30433642 "
	keep = "cart Keep the cart main<-keep by %s head %s item cart#8"
	lost = "The cart loses things (bug) by %s for bo type::bug"
	pipe = "Pipeline for branch: main https://gitlab.example.org/acme/platform/cart/-/pipelines/31 change cart#3 head b7c8 commit  in 63s"
	name = "search Index names main<-names by %s head %s item search#4"
	free = "Find by name (enhancement) by cy for  kind/feature"
)

// Each payload of testdata, and what it becomes.
func TestTranslate(t *testing.T) {
	zeros := strings.Repeat("0", 40)
	tests := []struct {
		kind    events.WebhookKind
		event   string
		file    string
		changes []string
		want    []string
	}{
		{events.GitHub, "push", "github_push", nil, []string{`repository.modified web https://github.com/acme/web {"push":{"after":"` + b + `","before":"` + a + `","by":"ann","ref":"refs/heads/main"}}`}},
		{events.GitHub, "push", "github_push", []string{"refs/heads/main", "refs/tags/v1"}, []string{`repository.modified web https://github.com/acme/web {"push":{"after":"` + b + `","before":"` + a + `","by":"ann","ref":"refs/tags/v1"}}`}},
		{events.GitHub, "push", "github_push_branch", nil, []string{"branch.created feature/find web"}},
		{events.GitHub, "push", "github_push", []string{`"after": "` + b, `"after": "` + zeros, `"deleted": false`, `"deleted": true`}, []string{"branch.deleted main web"}},
		{events.GitHub, "pull_request", "github_pull_request_opened", nil, []string{"change.created web#42 " + find}},
		{events.GitHub, "pull_request", "github_pull_request_opened", []string{`"opened"`, `"reopened"`}, []string{"change.created web#42 " + find}},
		{events.GitHub, "pull_request", "github_pull_request_opened", []string{`"opened"`, `"labeled"`}, nil},
		{events.GitHub, "pull_request", "github_pull_request_synchronize", nil, []string{"change.updated web#42 web Find by name main<-feature/find by bo head c0ff item web#7"}},
		{events.GitHub, "pull_request", "github_pull_request_edited", nil, []string{"change.updated web#42 web Find by name main<-feature/find by  head b7c8 item web#7"}},
		{events.GitHub, "pull_request", "github_pull_request_edited", []string{`"title": {`, `"base": {`}, []string{"change.created web#42 " + find}},
		{events.GitHub, "pull_request", "github_pull_request_edited", []string{`"title": {`, `"base": {`, `"ref": "main"`, `"ref": "next"`}, []string{"change.abandoned web#42 web"}},
		{events.GitHub, "pull_request", "github_pull_request_merged", nil, []string{"change.merged web#42 web Find by name main<-feature/find by ann head b7c8 as c0ff item web#7"}},
		{events.GitHub, "pull_request", "github_pull_request_closed", nil, []string{"change.abandoned web#42 web"}},
		{events.GitHub, "pull_request", "github_pull_request_fork", nil, []string{"change.created web#43 web Find by name main<-mallory:main (refs/pull/43/head) by mallory head c0ff item"}},
		{events.GitHub, "pull_request_review", "github_pull_request_review", nil, []string{"change.reviewed web#42 approved by bo of b7c8: Looks right."}},
		{events.GitHub, "pull_request_review", "github_pull_request_review", []string{`"approved"`, `"changes_requested"`}, []string{"change.reviewed web#42 changes-requested by bo of b7c8: Looks right."}},
		{events.GitHub, "pull_request_review", "github_pull_request_review", []string{`"approved"`, `"commented"`}, []string{"change.reviewed web#42 commented by bo of b7c8: Looks right."}},
		{events.GitHub, "pull_request_review", "github_pull_request_review", []string{`"submitted",`, `"dismissed",`, `"approved"`, `"dismissed"`}, []string{"change.reviewed web#42 commented by bo of b7c8: the review was dismissed by bo"}},
		{events.GitHub, "pull_request_review", "github_pull_request_review", []string{`"submitted",`, `"edited",`}, nil},
		{events.GitHub, "issues", "github_issues_opened", nil, []string{"ticket.created web#7 " + slow}},
		{events.GitHub, "issues", "github_issues_opened", []string{`"opened"`, `"labeled"`}, []string{"ticket.updated web#7 " + slow + " updated by cy"}},
		{events.GitHub, "issues", "github_issues_opened", []string{`"opened"`, `"reopened"`}, []string{"ticket.updated web#7 " + slow + " updated by cy"}},
		{events.GitHub, "issues", "github_issues_opened", []string{`"opened"`, `"pinned"`}, nil},
		{events.GitHub, "issues", "github_issues_closed", nil, []string{"ticket.closed web#7 " + slow + " completed by bo"}},
		{events.GitHub, "issues", "github_issues_closed", []string{`"completed"`, `"not_planned"`}, []string{"ticket.closed web#7 " + slow + " declined by bo"}},
		{events.GitHub, "release", "github_release", nil, []string{"artifact.published pkg:generic/web-linux-amd64@sha256%3A" + strings.Repeat("5e", 32) +
			"?download_url=https%3A%2F%2Fgithub.com%2Facme%2Fweb%2Freleases%2Fdownload%2Fv1.2.0%2Fweb-linux-amd64 web Twelve sha256:" + strings.Repeat("5e", 32) + " by ann"}},
		{events.GitHub, "release", "github_release", []string{`"sha256:` + strings.Repeat("5e", 32) + `"`, "null"}, []string{"artifact.published pkg:github/acme/web@v1.2.0 web Twelve  by ann"}},
		{events.GitHub, "release", "github_release", []string{`"published"`, `"deleted"`, `"sha256:` + strings.Repeat("5e", 32) + `"`, "null"}, []string{"artifact.deleted pkg:github/acme/web@v1.2.0 by ann"}},
		{events.GitHub, "release", "github_release", []string{`"published"`, `"released"`}, nil},
		{events.GitHub, "workflow_run", "github_workflow_run", nil, []string{"pipelinerun.finished web/runs/30433642 " + ci + "change web#42 head b7c8 commit  in 150s success"}},
		{events.GitHub, "workflow_run", "github_workflow_run", []string{`"conclusion": "success"`, `"conclusion": "timed_out"`, `"run_attempt": 1`, `"run_attempt": 2`}, []string{"pipelinerun.finished web/runs/30433642/2 " + ci + "change web#42 head b7c8 commit  in 150s failure the workflow run ended with timed_out"}},
		{events.GitHub, "workflow_run", "github_workflow_run", []string{`"conclusion": "success"`, `"conclusion": "cancelled"`}, []string{"pipelinerun.finished web/runs/30433642 " + ci + "change web#42 head b7c8 commit  in 150s cancel the workflow run ended as cancelled"}},
		{events.GitHub, "workflow_run", "github_workflow_run", []string{`"action": "completed"`, `"action": "requested"`}, []string{"pipelinerun.queued web/runs/30433642 " + ci + "change web#42 head b7c8 commit  in 0s"}},
		{events.GitHub, "workflow_run", "github_workflow_run", []string{`"action": "completed"`, `"action": "in_progress"`, `"number": 42`, `"number": 0`}, []string{"pipelinerun.started web/runs/30433642 " + ci + "change  head b7c8 commit b7c8 in 0s"}},
		{events.GitHub, "deployment_status", "github_deployment_status", nil, []string{"service.deployed web web/deployments/77 of web to prod c0ff by github-actions[bot] at https://www.example.org prod pkg:github/acme/web@" + m}},
		{events.GitHub, "deployment_status", "github_deployment_status", []string{`"state": "success"`, `"state": "failure"`}, []string{"deployment.failed prod/web web/deployments/77 of web to prod c0ff by github-actions[bot] the deployment ended with failure"}},
		{events.GitHub, "deployment_status", "github_deployment_status", []string{`"state": "success"`, `"state": "in_progress"`}, []string{"deployment.started prod/web web/deployments/77 of web to prod c0ff by github-actions[bot]"}},
		{events.GitHub, "deployment_status", "github_deployment_status", []string{`"state": "success"`, `"state": "inactive"`}, nil},
		{events.GitHub, "ping", "github_ping", nil, nil},

		{events.GitLab, "Push Hook", "gitlab_push", nil, []string{`repository.modified cart https://gitlab.example.org/acme/platform/cart {"push":{"after":"` + b + `","before":"` + a + `","by":"ann","ref":"refs/heads/main"}}`}},
		{events.GitLab, "Push Hook", "gitlab_push", []string{`"before": "` + a, `"before": "` + zeros}, []string{"branch.created main cart"}},
		{events.GitLab, "Push Hook", "gitlab_push", []string{`"after": "` + b, `"after": "` + zeros, `"checkout_sha": "` + b + `"`, `"checkout_sha": null`}, []string{"branch.deleted main cart"}},
		{events.GitLab, "Merge Request Hook", "gitlab_merge_request_open", nil, []string{"change.created cart#3 " + fmt.Sprintf(keep, "ann", "b7c8")}},
		{events.GitLab, "Merge Request Hook", "gitlab_merge_request_open", []string{`"source_project_id": 15`, `"source_project_id": 16`}, []string{"change.created cart#3 cart Keep the cart main<-acme/platform:keep (refs/merge-requests/3/head) by ann head b7c8 item cart#8"}},
		{events.GitLab, "Merge Request Hook", "gitlab_merge_request_update", nil, []string{"change.updated cart#3 " + fmt.Sprintf(keep, "bo", "c0ff")}},
		{events.GitLab, "Merge Request Hook", "gitlab_merge_request_title", []string{`"title": {`, `"target_branch": {`}, []string{"change.created cart#3 " + fmt.Sprintf(keep, "user-4", "b7c8")}},
		{events.GitLab, "Merge Request Hook", "gitlab_merge_request_title", []string{`"title": {`, `"target_branch": {`, `"target_branch": "main"`, `"target_branch": "next"`}, []string{"change.abandoned cart#3 cart"}},
		{events.GitLab, "Merge Request Hook", "gitlab_merge_request_title", []string{`"title": {`, `"target_branch": {`, `"state": "opened"`, `"state": "closed"`}, nil},
		{events.GitLab, "Merge Request Hook", "gitlab_merge_request_title", nil, []string{"change.updated cart#3 " + fmt.Sprintf(keep, "", "b7c8")}},
		{events.GitLab, "Merge Request Hook", "gitlab_merge_request_labels", nil, nil},
		{events.GitLab, "Merge Request Hook", "gitlab_merge_request_approved", nil, []string{"change.reviewed cart#3 approved by bo of b7c8:"}},
		{events.GitLab, "Merge Request Hook", "gitlab_merge_request_approved", []string{`"approved"`, `"approval"`}, []string{"change.reviewed cart#3 approved by bo of b7c8:"}},
		{events.GitLab, "Merge Request Hook", "gitlab_merge_request_approved", []string{`"author_id": 4`, `"author_id": 6`}, []string{"change.reviewed cart#3 commented by bo of b7c8: the author approved; that does not count"}},
		{events.GitLab, "Merge Request Hook", "gitlab_merge_request_unapproved", nil, []string{"change.reviewed cart#3 changes-requested by bo of b7c8: the approval was taken back"}},
		{events.GitLab, "Merge Request Hook", "gitlab_merge_request_merge", nil, []string{"change.merged cart#3 cart Keep the cart main<-keep by user-4 head b7c8 as c0ff item cart#8"}},
		{events.GitLab, "Merge Request Hook", "gitlab_merge_request_close", nil, []string{"change.abandoned cart#3 cart"}},
		{events.GitLab, "Issue Hook", "gitlab_issue_open", nil, []string{"ticket.created cart#8 " + fmt.Sprintf(lost, "ann")}},
		{events.GitLab, "Issue Hook", "gitlab_issue_close", nil, []string{"ticket.closed cart#8 " + fmt.Sprintf(lost, "user-4") + " completed by bo"}},
		{events.GitLab, "Issue Hook", "gitlab_issue_close", []string{`"duplicated_to_id": null`, `"duplicated_to_id": 3`}, []string{"ticket.closed cart#8 " + fmt.Sprintf(lost, "user-4") + " duplicate by bo"}},
		{events.GitLab, "Issue Hook", "gitlab_issue_confidential", nil, nil},
		{events.GitLab, "Confidential Issue Hook", "gitlab_issue_confidential", nil, nil},
		{events.GitLab, "Pipeline Hook", "gitlab_pipeline", nil, []string{"pipelinerun.finished cart/runs/31 " + pipe + " success"}},
		{events.GitLab, "Pipeline Hook", "gitlab_pipeline", []string{`"status": "success",
    "detailed`, `"status": "failed",
    "detailed`}, []string{"pipelinerun.finished cart/runs/31 " + pipe + " failure the pipeline failed"}},
		{events.GitLab, "Pipeline Hook", "gitlab_pipeline", []string{`"status": "success",
    "detailed`, `"status": "running",
    "detailed`}, []string{"pipelinerun.started cart/runs/31 " + pipe}},
		{events.GitLab, "Pipeline Hook", "gitlab_pipeline", []string{`"status": "success",
    "detailed`, `"status": "pending",
    "detailed`}, []string{"pipelinerun.queued cart/runs/31 " + pipe}},
		{events.GitLab, "Deployment Hook", "gitlab_deployment", nil, []string{"service.deployed cart cart/deployments/15 of cart to test b7c8 by ann at https://test.example.org test pkg:gitlab/acme/platform/cart@" + b}},
		{events.GitLab, "Deployment Hook", "gitlab_deployment", []string{`"success"`, `"failed"`}, []string{"deployment.failed test/cart cart/deployments/15 of cart to test b7c8 by ann the deployment failed"}},
		{events.GitLab, "Deployment Hook", "gitlab_deployment", []string{`"success"`, `"running"`}, []string{"deployment.started test/cart cart/deployments/15 of cart to test b7c8 by ann"}},
		{events.GitLab, "Release Hook", "gitlab_release", nil, []string{"artifact.published pkg:gitlab/acme/platform/cart@v2.0.0 cart Cart 2  by"}},

		{events.Gitea, "push", "gitea_push", nil, []string{`repository.modified search https://git.example.org/acme/search {"push":{"after":"` + b + `","before":"` + a + `","by":"ann","ref":"refs/heads/main"}}`}},
		{events.Forgejo, "push", "gitea_push", []string{`"before": "` + a, `"before": "` + zeros}, []string{"branch.created main search"}},
		{events.Gitea, "create", "gitea_create", nil, nil},
		{events.Gitea, "delete", "gitea_delete", nil, []string{"branch.deleted names search"}},
		{events.Gitea, "pull_request", "gitea_pull_request_opened", nil, []string{"change.created search#5 " + fmt.Sprintf(name, "ann", "b7c8")}},
		{events.Gitea, "pull_request", "gitea_pull_request_opened", []string{`"sha": "` + b + `",
      "repo_id": 21`, `"sha": "` + b + `",
      "repo_id": 22`}, []string{"change.created search#5 search Index names main<-acme:names (refs/pull/5/head) by ann head b7c8 item search#4"}},
		{events.Forgejo, "pull_request", "gitea_pull_request_opened", []string{`"label": "names",
      "ref": "names",
      "sha": "` + b, `"label": "",
      "ref": "refs/pull/5/head",
      "sha": "` + b}, []string{"change.created search#5 search Index names main<-ann:refs/pull/5/head (refs/pull/5/head) by ann head b7c8 item search#4"}},
		{events.Gitea, "pull_request", "gitea_pull_request_merged", []string{`"ref": "names"`, `"ref": "refs/pull/5/head"`}, []string{"change.merged search#5 search Index names main<-names by ann head b7c8 as c0ff item search#4"}},
		{events.Forgejo, "pull_request", "gitea_pull_request_synchronized", nil, []string{"change.updated search#5 " + fmt.Sprintf(name, "bo", "c0ff")}},
		{events.Gitea, "pull_request", "gitea_pull_request_opened", []string{`"action": "opened"`, `"action": "edited", "changes": {"ref": null, "title": {"from": "Names"}}`}, []string{"change.updated search#5 " + fmt.Sprintf(name, "", "b7c8")}},
		{events.Gitea, "pull_request", "gitea_pull_request_opened", []string{`"action": "opened"`, `"action": "edited", "changes": {"ref": {"from": "next"}}`}, []string{"change.created search#5 " + fmt.Sprintf(name, "ann", "b7c8")}},
		{events.Gitea, "pull_request", "gitea_pull_request_opened", []string{`"action": "opened"`, `"action": "edited", "changes": {"ref": {"from": "main"}}`, `"ref": "main"`, `"ref": "next"`}, []string{"change.abandoned search#5 search"}},
		{events.Gitea, "pull_request", "gitea_pull_request_merged", nil, []string{"change.merged search#5 search Index names main<-names by ann head b7c8 as c0ff item search#4"}},
		{events.Gitea, "pull_request", "gitea_pull_request_closed", nil, []string{"change.abandoned search#5 search"}},
		{events.Gitea, "pull_request_approved", "gitea_pull_request_approved", nil, []string{"change.reviewed search#5 approved by bo of b7c8: Good"}},
		{events.Forgejo, "pull_request_rejected", "gitea_pull_request_rejected", nil, []string{"change.reviewed search#5 changes-requested by bo of b7c8: Slow"}},
		{events.Gitea, "issues", "gitea_issues_opened", nil, []string{"ticket.created search#4 " + free}},
		{events.Gitea, "issues", "gitea_issues_closed", nil, []string{"ticket.closed search#4 " + free + " completed by bo"}},
		{events.Gitea, "release", "gitea_release", nil, []string{"artifact.published pkg:generic/acme/search@v0.3.0 search v0.3.0  by ann"}},

		{events.Alertmanager, "", "alertmanager", nil, []string{
			"incident.detected alert/b5ad87cd02bb1ae1#1795509000 prod web page: web answers with errors: 5 % of requests fail since 2026-11-24T08:30:00.123Z",
			"incident.resolved alert/0123456789abcdef#1795503600 prod - ticket: DiskFull since 2026-11-24T07:00:00Z the alert is resolved",
		}},
	}
	for _, test := range tests {
		t.Run(strings.Join(append([]string{string(test.kind), test.file}, test.changes...), " "), func(t *testing.T) {
			claims := translate(t, test.kind, test.event, stored(t, test.file, test.changes...))
			got := make([]string, len(claims))
			for i, e := range claims {
				got[i] = line(e)
			}
			if g, w := strings.Join(got, "\n"), strings.Join(test.want, "\n"); g != w {
				t.Errorf("\n got %s\nwant %s", g, w)
			}
		})
	}
}

// What is told of one pull request has one key and one chain; so has the ticket that it answers.
func TestOnePullRequestIsOneChange(t *testing.T) {
	of := map[events.WebhookKind][]string{
		events.GitHub: {"pull_request github_pull_request_opened", "pull_request github_pull_request_synchronize", "pull_request github_pull_request_edited",
			"pull_request github_pull_request_merged", "pull_request github_pull_request_closed", "pull_request_review github_pull_request_review"},
		events.Gitea: {"pull_request gitea_pull_request_opened", "pull_request gitea_pull_request_synchronized", "pull_request gitea_pull_request_merged",
			"pull_request_approved gitea_pull_request_approved", "pull_request_rejected gitea_pull_request_rejected"},
	}
	tickets := map[events.WebhookKind]string{events.GitHub: "github_issues_opened", events.Gitea: "gitea_issues_opened"}
	for kind, files := range of {
		chain := translate(t, kind, "issues", stored(t, tickets[kind]))[0].Chain
		key := ""
		for _, one := range files {
			event, file, _ := strings.Cut(one, " ")
			e := translate(t, kind, event, stored(t, file))[0]
			if key == "" {
				key = e.SubjectID
			}
			if e.SubjectID != key || e.Chain != chain {
				t.Errorf("%s: %s in chain %s, not %s in %s", file, e.SubjectID, e.Chain, key, chain)
			}
			if len(e.Links) == 0 || e.Links[0].Type != events.Path || !strings.Contains(e.Links[0].Context, "/pull") {
				t.Errorf("%s: links %+v", file, e.Links)
			}
		}
	}
}

// The ids follow from the project and the body: the same delivery is the same claims, whatever its headers are.
func TestIDsAreThoseOfTheBody(t *testing.T) {
	body := stored(t, "alertmanager")
	one, two := translate(t, events.Alertmanager, "", body), translate(t, events.Alertmanager, "other", body)
	if one[0].ID != two[0].ID || one[0].ID == one[1].ID || one[1].ID != two[1].ID {
		t.Errorf("%s %s, %s %s", one[0].ID, one[1].ID, two[0].ID, two[1].ID)
	}
	if other := translate(t, events.Alertmanager, "", append(body, ' ')); other[0].ID == one[0].ID {
		t.Error("another body has the same ids")
	}
	p := shop()
	p.Name = "other"
	claims, err := lookup(t, events.Alertmanager).Translate(headers(), body, p, now)
	if err != nil || claims[0].ID == one[0].ID || claims[0].Chain == one[0].Chain {
		t.Errorf("another project has the same ids: %v", err)
	}
}

func TestRefused(t *testing.T) {
	tests := []struct {
		kind    events.WebhookKind
		event   string
		file    string
		changes []string
		want    error
	}{
		// Only the body is signed, so that a header could make another event of it.
		{events.GitHub, "pull_request", "github_pull_request_review", nil, webhook.ErrMismatch},
		{events.GitHub, "pull_request_review", "github_pull_request_opened", nil, webhook.ErrMismatch},
		{events.GitHub, "push", "github_pull_request_opened", nil, webhook.ErrMismatch},
		{events.GitHub, "issues", "github_pull_request_opened", nil, webhook.ErrMismatch},
		{events.GitHub, "workflow_run", "github_deployment_status", nil, webhook.ErrMismatch},
		{events.GitHub, "release", "github_push", nil, webhook.ErrMismatch},
		{events.GitHub, "ping", "github_push", nil, webhook.ErrMismatch},
		{events.GitLab, "Issue Hook", "gitlab_merge_request_open", nil, webhook.ErrMismatch},
		{events.GitLab, "Note Hook", "gitlab_push", nil, webhook.ErrMismatch},
		{events.GitLab, "Push Hook", "gitlab_note", nil, webhook.ErrMismatch},
		{events.Gitea, "pull_request_approved", "gitea_pull_request_rejected", nil, webhook.ErrMismatch},
		{events.Gitea, "pull_request_approved", "gitea_pull_request_opened", nil, webhook.ErrMismatch},
		{events.Gitea, "pull_request", "gitea_pull_request_approved", nil, webhook.ErrMismatch},
		{events.Gitea, "delete", "gitea_create", nil, webhook.ErrMismatch},
		{events.Gitea, "push", "gitea_issues_opened", nil, webhook.ErrMismatch},

		{events.GitHub, "push", "github_push", []string{"github.com/acme/web", "github.com/acme/other", "git@github.com:acme/web", "git@github.com:acme/other"}, webhook.ErrForeign},
		{events.GitLab, "Push Hook", "gitlab_push", []string{"gitlab.example.org", "gitlab.example.com"}, webhook.ErrForeign},
		{events.Gitea, "push", "gitea_push", []string{"git.example.org", "git.example.com"}, webhook.ErrForeign},

		{events.GitHub, "", "github_push", nil, webhook.ErrMalformed},
		{events.GitHub, "pull_request", "github_pull_request_opened", []string{`"number": 42`, `"number": "42"`}, webhook.ErrMalformed},
		{events.GitHub, "issues", "github_issues_opened", []string{`"created_at": "2026-11-23T10:00:00Z"`, `"created_at": "yesterday"`}, webhook.ErrMalformed},
		{events.GitHub, "push", "github_push", []string{`"html_url": "https://github.com/acme/web"`, `"html_url": ""`}, webhook.ErrMalformed},
		{events.Alertmanager, "", "alertmanager", []string{`"fingerprint": "b5ad87cd02bb1ae1"`, `"fingerprint": ""`}, webhook.ErrMalformed},
		{events.Alertmanager, "", "alertmanager", []string{`"status": "resolved"`, `"status": "maybe"`}, webhook.ErrMalformed},
		{events.Alertmanager, "", "github_push", nil, webhook.ErrMalformed},
	}
	for _, test := range tests {
		s := lookup(t, test.kind)
		h := headers("X-GitHub-Event", test.event, "X-Gitlab-Event", test.event, "X-Gitea-Event", test.event)
		claims, err := s.Translate(h, stored(t, test.file, test.changes...), shop(), now)
		if !errors.Is(err, test.want) || claims != nil {
			t.Errorf("%s as %q with %q: %v, %d claims", test.file, test.event, test.changes, err, len(claims))
		}
	}
	for _, body := range []string{"", "{", "[]", "null", `"push"`, "12", "{} {}"} {
		for _, kind := range events.WebhookKinds() {
			h := headers("X-GitHub-Event", "push", "X-Gitlab-Event", "Push Hook", "X-Gitea-Event", "push")
			if claims, err := lookup(t, kind).Translate(h, []byte(body), shop(), now); !errors.Is(err, webhook.ErrMalformed) {
				t.Errorf("%s: %q: %v, %v", kind, body, claims, err)
			}
		}
	}
}

func TestUnknown(t *testing.T) {
	for file, of := range map[string]struct {
		kind  events.WebhookKind
		event string
	}{"github_star": {events.GitHub, "star"}, "gitlab_note": {events.GitLab, "Note Hook"}, "gitea_fork": {events.Gitea, "fork"}} {
		h := headers("X-GitHub-Event", of.event, "X-Gitlab-Event", of.event, "X-Gitea-Event", of.event)
		_, err := lookup(t, of.kind).Translate(h, stored(t, file), shop(), now)
		var unknown *webhook.UnknownError
		if !errors.As(err, &unknown) || unknown.Event != of.event {
			t.Errorf("%s: %v", file, err)
		}
	}
	_, err := lookup(t, events.Alertmanager).Translate(headers(), stored(t, "alertmanager", `"version": "4"`, `"version": "5"`), shop(), now)
	if unknown := (*webhook.UnknownError)(nil); !errors.As(err, &unknown) || unknown.Event != "version 5" {
		t.Error(err)
	}
}

// A member that is of no concern may be of another type than the library has for it.
func TestAMemberOfAnotherTypeIsLeftOut(t *testing.T) {
	claims := translate(t, events.GitLab, "Merge Request Hook", stored(t, "gitlab_merge_request_open", `"merge_user_id": null`, `"merge_user_id": "nobody"`, `"time_estimate": 0`, `"time_estimate": {}`))
	if len(claims) != 1 || line(claims[0]) != "change.created cart#3 "+fmt.Sprintf(keep, "ann", "b7c8") {
		t.Errorf("%+v", claims)
	}
}

// GitHub sends a form where it is told nothing else.
func TestForm(t *testing.T) {
	form := []byte("payload=" + strings.NewReplacer("%", "%25", "&", "%26", "+", "%2B", "\n", "").Replace(string(stored(t, "github_pull_request_opened"))))
	h := headers("X-GitHub-Event", "pull_request")
	h.Set("Content-Type", "application/x-www-form-urlencoded")
	claims, err := lookup(t, events.GitHub).Translate(h, form, shop(), now)
	if err != nil || len(claims) != 1 || line(claims[0]) != "change.created web#42 "+find {
		t.Errorf("%+v, %v", claims, err)
	}
	if _, err = lookup(t, events.GitHub).Translate(h, []byte("a=b"), shop(), now); !errors.Is(err, webhook.ErrMalformed) {
		t.Error(err)
	}
	h.Set("Content-Type", "text/xml")
	if _, err = lookup(t, events.GitHub).Translate(h, form, shop(), now); !errors.Is(err, webhook.ErrUnsupported) {
		t.Error(err)
	}
}
