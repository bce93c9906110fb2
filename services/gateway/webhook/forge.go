package webhook

import (
	"cmp"
	"strconv"
	"strings"
	"time"

	"github.com/lemnis/lemnis/internal/excerpt"
	"github.com/lemnis/lemnis/internal/proposal"
	"github.com/lemnis/lemnis/pkg/events"
)

// What all forges have in common, in their words: pushes, changes, tickets, runs, deployments.

const (
	longestComment = 4 << 10 // bytes of a comment that a claim carries
	nobody         = proposal.Nobody
)

// push moves a ref from one commit to another; a commit of zeros is none.
type push struct {
	ref, before, after string
	forced             bool
	by                 string
	at                 time.Time
}

func isNone(commit string) bool { return strings.Trim(commit, "0") == "" }

// push says that a branch is there or gone. Any other push changes what the repository holds; which change it was, its
// pull request says.
func (d *delivery) push(r repository, p push) error {
	branch, isBranch := strings.CutPrefix(p.ref, "refs/heads/")
	switch {
	case p.ref == "" || isNone(p.before) && isNone(p.after):
		return malformed("the push moves nothing")
	case isBranch && isNone(p.after):
		d.claim(claim{subject: branch, content: events.BranchDeleted{Repository: r.reference()}, at: p.at, chain: r.page + "/tree/" + branch})
	case isBranch && isNone(p.before):
		d.claim(claim{subject: branch, content: events.BranchCreated{Repository: r.reference()}, at: p.at, chain: r.page + "/tree/" + branch,
			cause: r.commit(p.after)})
	default:
		owner, _, _ := strings.Cut(r.path, "/")
		said := map[string]any{"ref": p.ref, "before": p.before, "after": p.after}
		if p.forced {
			said["forced"] = true
		}
		if p.by != "" {
			said["by"] = p.by
		}
		commit := p.after
		if isNone(commit) {
			commit = p.before
		}
		d.claim(claim{
			subject: r.ref.Name, at: p.at, chain: r.commit(commit), cause: r.commit(commit), custom: map[string]any{"push": said},
			content: events.RepositoryModified{Repository: events.Repository{Name: r.ref.Name, Owner: owner, URI: r.page, ViewURL: r.page}},
		})
	}
	return nil
}

// read reads the pull or merge request that a member of the body is.
func (d *delivery) read(kind events.ForgeKind, text []byte) (proposal.Proposal, error) {
	c, err := proposal.Read(kind, text)
	if err != nil {
		return c, malformed("the pull or merge request: %v", err)
	}
	return c, nil
}

// about says something of a change.
func (d *delivery) about(r repository, c proposal.Proposal, at time.Time, content any) {
	chain, _, ticket := c.Turn(r.numbers())
	d.claim(claim{
		subject: r.numbered(c.Number), content: content, at: at, chain: chain, cause: cmp.Or(c.Page, r.changes+strconv.FormatInt(c.Number, 10)),
		concerns: []concern{{"TICKET", ticket}},
	})
}

func (d *delivery) changeCreated(r repository, c proposal.Proposal) {
	d.about(r, c, c.At, c.Created(r.numbers()))
}

func (d *delivery) changeUpdated(r repository, c proposal.Proposal, pushedBy string) {
	d.about(r, c, c.At, c.Updated(r.numbers(), pushedBy))
}

// changeRetargeted says that a change goes into another branch than before: the master copy, or one that is of no concern here. What stands here
// can not move with it: it was tested and approved for the branch of before. One that is closed stays so.
func (d *delivery) changeRetargeted(r repository, c proposal.Proposal) {
	switch {
	case c.State != proposal.Open:
	case c.Base == cmp.Or(r.ref.Branch, "main"):
		d.changeCreated(r, c)
	default:
		d.changeAbandoned(r, c)
	}
}

func (d *delivery) changeAbandoned(r repository, c proposal.Proposal) {
	d.about(r, c, c.At, c.Abandoned(r.numbers()))
}

func (d *delivery) changeMerged(r repository, c proposal.Proposal) {
	d.about(r, c, c.At, c.Merged(r.numbers()))
	last := &d.claims[len(d.claims)-1]
	if commit := r.commit(c.Merge); commit != "" {
		last.Links = append(last.Links, events.Link{Type: events.Relation, Kind: "COMMIT", Context: commit})
	}
}

func (d *delivery) changeReviewed(r repository, c proposal.Proposal, at time.Time, review events.Review) {
	review.Comment = excerpt.Of(review.Comment, longestComment)
	d.about(r, c, at, events.ChangeReviewed{Repository: r.reference(), Lemnis: review})
}

// ticket is an issue.
type ticket struct {
	number int64
	events.Ticket
	by string // who did what the delivery tells
	at time.Time
}

func (d *delivery) ticketed(r repository, t ticket, content any) {
	d.claim(claim{subject: r.numbered(t.number), content: content, at: t.at, chain: t.URI, cause: t.URI})
}

func (d *delivery) ticketCreated(r repository, t ticket) {
	d.ticketed(r, t, events.TicketCreated{Ticket: t.Ticket})
}

func (d *delivery) ticketUpdated(r repository, t ticket) {
	d.ticketed(r, t, events.TicketUpdated{Ticket: t.Ticket, UpdatedBy: t.by})
}

func (d *delivery) ticketClosed(r repository, t ticket, resolution string) {
	d.ticketed(r, t, events.TicketClosed{Ticket: t.Ticket, Resolution: resolution, UpdatedBy: t.by})
}

// ticketType reads from labels what CDEvents calls the type.
func ticketType(labels []string) string {
	for _, l := range labels {
		name := strings.ToLower(l)
		if _, after, ok := strings.Cut(name, "::"); ok { // GitLab's scoped labels: type::bug
			name = after
		}
		name = strings.TrimPrefix(strings.TrimPrefix(name, "kind/"), "type/")
		name = strings.TrimSpace(strings.TrimPrefix(strings.TrimPrefix(name, "type:"), "kind:"))
		switch name {
		case "bug", "defect":
			return "bug"
		case "enhancement", "feature", "feature request":
			return "enhancement"
		case "incident", "task", "question":
			return name
		}
	}
	return ""
}

// run is one run of a pipeline.
type run struct {
	id         string // unique within the repository
	name, page string
	branch     string
	commit     string
	change     int64 // number of the change that it tests; 0: none
	state      runState
	outcome    string
	reason     string
	seconds    float64
	at         time.Time
}

type runState int

const (
	queued runState = iota
	started
	finished
)

func (d *delivery) run(r repository, x run) {
	detail := events.RunDetail{
		Merge:   events.MergeDetail{Repository: r.ref.Name, Branch: x.branch, Head: x.commit},
		Seconds: x.seconds,
	}
	cause := r.commit(x.commit)
	if x.change > 0 {
		detail.Merge.Change, cause = r.numbered(x.change), r.changes+strconv.FormatInt(x.change, 10)
	} else {
		detail.Merge.Commit = x.commit // what was merged is tested
	}
	var content any
	switch x.state {
	case queued:
		content = events.PipelineRunQueued{PipelineName: x.name, URI: x.page, Lemnis: detail}
	case started:
		content = events.PipelineRunStarted{PipelineName: x.name, URI: x.page, Lemnis: detail}
	case finished:
		content = events.PipelineRunFinished{PipelineName: x.name, URI: x.page, Outcome: x.outcome, Errors: x.reason, Lemnis: detail}
	}
	d.claim(claim{
		subject: r.ref.Name + "/runs/" + x.id, content: content, at: x.at, chain: cause, cause: cause,
		concerns: []concern{{"COMMIT", r.commit(x.commit)}},
	})
}

// deployment is one of a commit into an environment.
type deployment struct {
	id          string // unique within the repository
	environment string
	commit      string
	artifact    string // package URL
	by          string
	url         string // where users reach it
	page        string // of the deployment, or of its log
	state       deployState
	reason      string
	at          time.Time
}

type deployState int

const (
	deploying deployState = iota
	deployed
	failed
)

// deployment speaks of the service that the repository builds; a service's facts have the key <environment>/<service>.
func (d *delivery) deployment(r repository, x deployment) error {
	if x.environment == "" {
		return malformed("the deployment names no environment")
	}
	rollout := events.Rollout{
		ID: r.ref.Name + "/deployments/" + x.id, Environment: x.environment, Service: r.ref.Name,
		Artifact: events.ArtifactDetail{ID: x.artifact, Service: r.ref.Name, Repository: r.ref.Name, Commit: x.commit, Author: x.by},
	}
	said := claim{subject: x.environment + "/" + r.ref.Name, at: x.at, chain: r.commit(x.commit), cause: cmp.Or(x.page, r.commit(x.commit)),
		concerns: []concern{{"COMMIT", r.commit(x.commit)}}}
	switch x.state {
	case deploying:
		said.content = events.DeploymentStarted{Rollout: rollout}
	case deployed:
		said.subject = r.ref.Name
		said.content = events.ServiceDeployed{
			Environment: events.Reference{ID: x.environment}, ArtifactID: x.artifact,
			Lemnis: events.ServiceDetail{Rollout: rollout, URL: x.url, Reason: x.reason},
		}
	case failed:
		said.content = events.DeploymentFailed{Rollout: rollout, Step: "start", Reason: x.reason}
	}
	d.claim(said)
	return nil
}
