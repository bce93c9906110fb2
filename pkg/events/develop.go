package events

import "regexp"

// Content types of the develop phase.

// Reference names something by id and, where it lives elsewhere, by source.
type Reference struct {
	ID     string `json:"id" schema:"nonempty"`
	Source string `json:"source,omitempty" schema:"nonempty,format=uri-reference"`
}

// BranchCreated says that a branch exists.
type BranchCreated struct {
	Repository *Reference `json:"repository,omitempty"`
}

// BranchDeleted says that a branch is gone.
type BranchDeleted struct {
	Repository *Reference `json:"repository,omitempty"`
}

// pullRef matches the refs under which forges offer the heads of pull requests (GitHub, Gitea, Forgejo) and merge requests (GitLab).
var pullRef = regexp.MustCompile(`^refs/(pull|merge-requests)/[1-9][0-9]{0,17}/head$`)

// IsPullRef says whether a ref is one under which a forge offers the head of a pull or merge request.
func IsPullRef(ref string) bool { return pullRef.MatchString(ref) }

// ChangeDetail describes a proposed change; subject.id is the change's id.
type ChangeDetail struct {
	Repository string `json:"repository,omitempty"` // name in the project's configuration
	Title      string `json:"title,omitempty"`
	Branch     string `json:"branch,omitempty"` // where the change is
	Ref        string `json:"ref,omitempty"`    // of a change from a fork, where its repository offers it: refs/pull/7/head, refs/merge-requests/7/head
	Base       string `json:"base,omitempty"`   // branch that it wants to go into
	Head       string `json:"head,omitempty"`   // commit
	Author     string `json:"author,omitempty"`
	Item       string `json:"item,omitempty"` // work item that it answers
	URL        string `json:"url,omitempty"`
}

// ChangeCreated says that a change is proposed.
type ChangeCreated struct {
	Description string       `json:"description,omitempty" schema:"nonempty"`
	Repository  *Reference   `json:"repository,omitempty"`
	Lemnis      ChangeDetail `json:"-"`
}

// ChangeUpdated says that a change has a new head.
type ChangeUpdated struct {
	Repository *Reference   `json:"repository,omitempty"`
	Lemnis     ChangeDetail `json:"-"`
}

// Verdicts of a review.
const (
	Approved         = "approved"
	ChangesRequested = "changes-requested"
	Commented        = "commented"
)

// Review is what a reviewer says of a change's head.
type Review struct {
	Reviewer string `json:"reviewer,omitempty"`
	Verdict  string `json:"verdict,omitempty" schema:"enum=approved|changes-requested|commented"` // approved, changes-requested, commented
	Head     string `json:"head,omitempty"`                                                       // commit that was reviewed; empty means the current one
	Comment  string `json:"comment,omitempty"`
}

// ChangeReviewed says that somebody reviewed a change.
type ChangeReviewed struct {
	Repository *Reference `json:"repository,omitempty"`
	Lemnis     Review     `json:"-"`
}

// ChangeAbandoned says that a change was given up.
type ChangeAbandoned struct {
	Repository *Reference `json:"repository,omitempty"`
}

// ChangeVerified says that a change may be integrated, and why.
type ChangeVerified struct {
	Change    ChangeDetail `json:"change"`
	ID        string       `json:"id"`
	Approvals []string     `json:"approvals,omitempty"` // reviewers
	Reason    string       `json:"reason"`
}

// ChangeRejected says that a change may not be integrated as it is, and why.
type ChangeRejected struct {
	ID     string `json:"id"`
	Head   string `json:"head,omitempty"`
	Reason string `json:"reason"`
}

// LoopFinished reports one inner loop (edit, build, test) from a workstation.
type LoopFinished struct {
	Item      string  `json:"item,omitempty"`
	Author    string  `json:"author,omitempty"`
	Outcome   string  `json:"outcome" schema:"enum=success|failure"` // success, failure
	Seconds   float64 `json:"seconds"`
	TestFirst bool    `json:"testFirst,omitempty"`
}

func init() {
	enter[BranchCreated]("dev.cdevents.branch.created.0.3.0", Develop, open)
	enter[BranchDeleted]("dev.cdevents.branch.deleted.0.3.0", Develop, open)
	enter[ChangeCreated]("dev.cdevents.change.created.0.4.0", Develop, open)
	enter[ChangeUpdated]("dev.cdevents.change.updated.0.3.0", Develop, open)
	enter[ChangeReviewed]("dev.cdevents.change.reviewed.0.3.0", Develop, open)
	enter[ChangeAbandoned]("dev.cdevents.change.abandoned.0.3.0", Develop, open)
	enter[ChangeVerified]("dev.cdeventsx.lemnis-change.verified.0.1.0", Develop)
	enter[ChangeRejected]("dev.cdeventsx.lemnis-change.rejected.0.1.0", Develop)
	enter[LoopFinished]("dev.cdeventsx.lemnis-loop.finished.0.1.0", Develop, open)
}
