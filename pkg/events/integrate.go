package events

// Content types of the integrate phase, and of tests, which integrate and deploy share.

// Outcomes of runs.
const (
	Success   = "success"
	Failure   = "failure"
	Errored   = "error"
	Cancelled = "cancel"
)

// Evidence is what a pipeline found out about a commit; gates are evaluated on it.
type Evidence struct {
	Run      string   `json:"run,omitempty"` // pipeline run that produced it
	Tests    int      `json:"tests"`         // test cases that ran
	Failed   int      `json:"failed"`
	Skipped  int      `json:"skipped,omitempty"`
	Coverage float64  `json:"coverage"`          // percent of statements, 0 to 100
	Changed  *Covered `json:"changed,omitempty"` // of the lines that the change touches; nil: not known
	Log      string   `json:"log,omitempty"`     // path at the gateway
	Digest   string   `json:"digest,omitempty"`  // of the log, as far as it is kept

	Flaky       []string          `json:"flaky,omitempty"`       // test cases that failed, and passed when they were run again on the same commit
	Quarantined []string          `json:"quarantined,omitempty"` // test cases that failed, and are in quarantine: they count as skipped
	RedBefore   []string          `json:"redBefore,omitempty"`   // test cases that failed, and fail on the master copy without the change too: they count as skipped
	Reused      []string          `json:"reused,omitempty"`      // steps that were not run, since an earlier run of the same content had their result
	Images      map[string]string `json:"images,omitempty"`      // digests of the images that steps and services ran in, by the names that the pipeline gives them
	Unisolated  string            `json:"unisolated,omitempty"`  // why steps had the builder's rights and view of the machine; empty: they had not, as far as it was looked at
}

// Covered is how much of some lines the tests ran.
type Covered struct {
	Percent float64 `json:"percent"` // 0 to 100
	Lines   int     `json:"lines"`   // that can run; of none, none is missed
}

// MergeDetail describes a change on its way into the master copy.
type MergeDetail struct {
	Change     string    `json:"change,omitempty"`
	Repository string    `json:"repository,omitempty"`
	Branch     string    `json:"branch,omitempty"` // of the change
	Ref        string    `json:"ref,omitempty"`    // of a change from a fork, where its repository offers it
	Base       string    `json:"base,omitempty"`   // branch that it goes into
	Head       string    `json:"head,omitempty"`   // commit of the change
	Onto       string    `json:"onto,omitempty"`   // commit of the base that it was tested on
	Commit     string    `json:"commit,omitempty"` // merge commit
	Item       string    `json:"item,omitempty"`
	Title      string    `json:"title,omitempty"`
	Author     string    `json:"author,omitempty"`
	Committed  string    `json:"committed,omitempty"` // when Head was committed, RFC 3339
	Round      int       `json:"round,omitempty"`     // how often it was tried, from 1
	Evidence   *Evidence `json:"evidence,omitempty"`
	With       string    `json:"with,omitempty"` // change at the end of the train that it was tested and merged in; empty: it is that itself
}

// QueueEntered says that a change waits to be merged.
type QueueEntered struct {
	Merge  MergeDetail `json:"merge"`
	Reason string      `json:"reason,omitempty"`
	Slots  int         `json:"slots,omitempty"` // builds that the repository's queue has at once; 0: it plans nothing, the change is tested alone
	Alone  bool        `json:"alone,omitempty"` // it is merged together with no other: the repository's host refused a train that it was part of
}

// QueueSurveyed says what a change touches: what has to be tested together with it.
type QueueSurveyed struct {
	Merge  MergeDetail `json:"merge"`
	Writes []string    `json:"writes,omitempty"` // packages and lanes that it changes; "*": all that there are
	Reads  []string    `json:"reads,omitempty"`  // what those are made of whose tests it may break
	Reason string      `json:"reason,omitempty"` // why everything
}

// QueueTested says that the merge result of a change passed, and may become the master copy.
type QueueTested struct {
	Merge MergeDetail `json:"merge"`
	Run   string      `json:"run"`
	Waits bool        `json:"waits,omitempty"` // until the repository's queue says so
}

// QueuePlanned says what the queue of a repository makes of what happened to it.
type QueuePlanned struct {
	Repository string         `json:"repository"`
	At         float64        `json:"at"`                // when it happened, in seconds of Unix time
	Pace       float64        `json:"pace,omitempty"`    // seconds that a run takes, as far as is known
	Steps      []QueueStep    `json:"steps"`             // what happened and what follows, in order
	Begun      []QueueRun     `json:"begun,omitempty"`   // runs that are to begin
	Over       []int          `json:"over,omitempty"`    // runs that do not matter any more
	Ejected    []QueueEjected `json:"ejected,omitempty"` // changes that are to leave
	Merged     []MergeDetail  `json:"merged,omitempty"`  // changes that are to become part of the master copy at once, by the commit that they were tested as
}

// QueueRun is a run of the pipeline on a train: changes merged one upon the other.
type QueueRun struct {
	Number  int           `json:"number"`
	Assumed []MergeDetail `json:"assumed,omitempty"` // taken to be merged by then
	Changes []MergeDetail `json:"changes"`           // what is tested
}

// QueueStep is one thing that happens in a queue. Which fields count depends on Do.
type QueueStep struct {
	Do        string       `json:"do"`
	Change    string       `json:"change,omitempty"`
	Merge     *MergeDetail `json:"merge,omitempty"`
	Since     float64      `json:"since,omitempty"` // in paces of Unix time
	Risk      float64      `json:"risk,omitempty"`
	Writes    []string     `json:"writes,omitempty"`
	Reads     []string     `json:"reads,omitempty"`
	Changes   []string     `json:"changes,omitempty"`
	Unit      int          `json:"unit,omitempty"`
	Units     []int        `json:"units,omitempty"` // that are assumed, made or confirmed
	Risks     []float64    `json:"risks,omitempty"`
	At        int          `json:"at,omitempty"`
	Run       int          `json:"run,omitempty"`
	Outcome   string       `json:"outcome,omitempty"`
	Reason    string       `json:"reason,omitempty"`
	Conflicts []string     `json:"conflicts,omitempty"` // files
}

// QueueEjected says that a change left the queue unmerged.
type QueueEjected struct {
	Merge     MergeDetail `json:"merge"`
	Reason    string      `json:"reason"`
	Conflicts []string    `json:"conflicts,omitempty"` // files
}

// ChangeMerged says that a change is part of the master copy.
type ChangeMerged struct {
	Repository *Reference  `json:"repository,omitempty"`
	Lemnis     MergeDetail `json:"-"`
}

// Repository is the content of the three repository types.
type Repository struct {
	Name    string `json:"name"`
	Owner   string `json:"owner,omitempty"`
	URI     string `json:"uri"`
	ViewURL string `json:"viewUrl,omitempty"`
}

// RepositoryCreated says that a repository belongs to the project.
type RepositoryCreated struct {
	Repository `schema:"nonempty=name"`
}

// RepositoryModified says that a repository changed.
type RepositoryModified struct {
	Repository `schema:"optional=name|uri"`
}

// RepositoryDeleted says that a repository is gone.
type RepositoryDeleted struct {
	Repository `schema:"optional=name|uri"`
}

// RunDetail is what Lemnis adds to a pipeline run.
type RunDetail struct {
	Merge     MergeDetail `json:"merge"`
	Conflicts []string    `json:"conflicts,omitempty"`
	Seconds   float64     `json:"seconds,omitempty"`

	// Of a run that a repository's queue asked for, the changes that are merged one upon the other.
	Assumed []MergeDetail `json:"assumed,omitempty"` // first, as they are taken to be part of the master copy by then
	Changes []MergeDetail `json:"changes,omitempty"` // and those that are tested; Merge is all of them together

	// Of a run that ended, the test cases that ran in it, of at most 1,000 of them: those that did not pass first, then the slowest.
	Tests     []TestCase `json:"tests,omitempty"`
	MoreTests int        `json:"moreTests,omitempty"` // that are not listed
}

// TestCase is how a test case ended in a run.
type TestCase struct {
	Name    string  `json:"name"`              // with its suite
	Outcome string  `json:"outcome,omitempty"` // empty: it passed
	Seconds float64 `json:"seconds,omitempty"` // 0: it is not said
}

// The outcomes of test cases beside passing.
const (
	TestFailed = "fail"
	TestFlaky  = "flaky" // it failed, and passed when it was run again on the same commit
)

// PipelineRunQueued says that a run waits for a worker.
type PipelineRunQueued struct {
	PipelineName string    `json:"pipelineName,omitempty"`
	URI          string    `json:"uri,omitempty"`
	Lemnis       RunDetail `json:"-"`
}

// PipelineRunStarted says that a worker has taken a run.
type PipelineRunStarted struct {
	PipelineName string    `json:"pipelineName"`
	URI          string    `json:"uri"`
	Lemnis       RunDetail `json:"-"`
}

// PipelineRunFinished says how a run ended.
type PipelineRunFinished struct {
	PipelineName string    `json:"pipelineName,omitempty"`
	URI          string    `json:"uri,omitempty"`
	Outcome      string    `json:"outcome,omitempty" schema:"enum=success|failure|cancel|error"` // success, failure, error, cancel
	Errors       string    `json:"errors,omitempty"`
	Lemnis       RunDetail `json:"-"`
}

// TaskRunStarted says that a step of a run began.
type TaskRunStarted struct {
	TaskName    string     `json:"taskName,omitempty"`
	URI         string     `json:"uri,omitempty"`
	PipelineRun *Reference `json:"pipelineRun,omitempty"`
}

// TaskRunFinished says how a step of a run ended.
type TaskRunFinished struct {
	TaskName    string     `json:"taskName,omitempty"`
	URI         string     `json:"uri,omitempty"`
	PipelineRun *Reference `json:"pipelineRun,omitempty"`
	Outcome     string     `json:"outcome,omitempty"`
	Errors      string     `json:"errors,omitempty"`
}

// BuildDetail is what Lemnis adds to a build: what is built, and what came of it.
type BuildDetail struct {
	Service  string      `json:"service,omitempty"`
	Merge    MergeDetail `json:"merge"`
	Artifact string      `json:"artifact,omitempty"` // reference in the registry, by digest
	Digest   string      `json:"digest,omitempty"`   // of the executable; of an image its ID
	Size     int64       `json:"size,omitempty"`     // bytes; of an image, of its configuration and layers
	Seconds  float64     `json:"seconds,omitempty"`
	Outcome  string      `json:"outcome,omitempty" schema:"enum=success|failure|error"` // success, failure, error
	Reason   string      `json:"reason,omitempty"`
	Supply   *Supply     `json:"supply,omitempty"`
}

// BuildQueued says that a commit waits to be packaged.
type BuildQueued struct {
	Lemnis BuildDetail `json:"-"`
}

// BuildStarted says that a worker packages a commit.
type BuildStarted struct {
	Lemnis BuildDetail `json:"-"`
}

// BuildFinished says what a build produced.
type BuildFinished struct {
	ArtifactID string      `json:"artifactId,omitempty"` // purl
	Lemnis     BuildDetail `json:"-"`
}

func init() {
	enter[ChangeMerged]("dev.cdevents.change.merged.0.3.0", Integrate)
	enter[RepositoryCreated]("dev.cdevents.repository.created.0.3.0", Integrate, open)
	enter[RepositoryModified]("dev.cdevents.repository.modified.0.3.0", Integrate, open)
	enter[RepositoryDeleted]("dev.cdevents.repository.deleted.0.3.0", Integrate, open)
	enter[PipelineRunQueued]("dev.cdevents.pipelinerun.queued.0.3.0", Integrate)
	enter[PipelineRunStarted]("dev.cdevents.pipelinerun.started.0.3.0", Integrate)
	enter[PipelineRunFinished]("dev.cdevents.pipelinerun.finished.0.3.0", Integrate)
	enter[TaskRunStarted]("dev.cdevents.taskrun.started.0.3.0", Integrate)
	enter[TaskRunFinished]("dev.cdevents.taskrun.finished.0.3.0", Integrate)
	enter[BuildQueued]("dev.cdevents.build.queued.0.3.0", Integrate)
	enter[BuildStarted]("dev.cdevents.build.started.0.3.0", Integrate)
	enter[BuildFinished]("dev.cdevents.build.finished.0.3.0", Integrate)
	enter[TestSuiteRunQueued]("dev.cdevents.testsuiterun.queued.0.3.0", Integrate)
	enter[TestSuiteRunStarted]("dev.cdevents.testsuiterun.started.0.3.0", Integrate)
	enter[TestSuiteRunFinished]("dev.cdevents.testsuiterun.finished.0.3.0", Integrate)
	enter[TestCaseRunQueued]("dev.cdevents.testcaserun.queued.0.3.0", Integrate)
	enter[TestCaseRunStarted]("dev.cdevents.testcaserun.started.0.3.0", Integrate)
	enter[TestCaseRunFinished]("dev.cdevents.testcaserun.finished.0.3.0", Integrate)
	enter[TestCaseRunSkipped]("dev.cdevents.testcaserun.skipped.0.2.0", Integrate)
	enter[TestOutputPublished]("dev.cdevents.testoutput.published.0.3.0", Integrate)
	enter[ArtifactPackaged]("dev.cdevents.artifact.packaged.0.3.0", Integrate)
	enter[ArtifactSigned]("dev.cdevents.artifact.signed.0.3.0", Integrate)
	enter[ArtifactPublished]("dev.cdevents.artifact.published.0.3.0", Integrate)
	enter[ArtifactDownloaded]("dev.cdevents.artifact.downloaded.0.2.0", Integrate, open)
	enter[ArtifactDeleted]("dev.cdevents.artifact.deleted.0.2.0", Integrate, open)
	enter[ArtifactOffered]("dev.cdeventsx.lemnis-artifact.offered.0.1.0", Integrate)
	enter[ArtifactRejected]("dev.cdeventsx.lemnis-artifact.rejected.0.1.0", Integrate)
	enter[QueueEntered]("dev.cdeventsx.lemnis-queue.entered.0.1.0", Integrate)
	enter[QueueSurveyed]("dev.cdeventsx.lemnis-queue.surveyed.0.1.0", Integrate)
	enter[QueuePlanned]("dev.cdeventsx.lemnis-queue.planned.0.1.0", Integrate)
	enter[QueueTested]("dev.cdeventsx.lemnis-queue.tested.0.1.0", Integrate)
	enter[QueueEjected]("dev.cdeventsx.lemnis-queue.ejected.0.1.0", Integrate)
}
