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
	Run      string  `json:"run,omitempty"` // pipeline run that produced it
	Tests    int     `json:"tests"`         // test cases that ran
	Failed   int     `json:"failed"`
	Skipped  int     `json:"skipped,omitempty"`
	Coverage float64 `json:"coverage"` // percent of statements, 0 to 100
	Log      string  `json:"log,omitempty"`
	Digest   string  `json:"digest,omitempty"` // of the log
}

// MergeDetail describes a change on its way into the master copy.
type MergeDetail struct {
	Change     string    `json:"change,omitempty"`
	Repository string    `json:"repository,omitempty"`
	Branch     string    `json:"branch,omitempty"` // of the change
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
}

// QueueEntered says that a change waits to be merged.
type QueueEntered struct {
	Merge  MergeDetail `json:"merge"`
	Reason string      `json:"reason,omitempty"`
}

// QueueTested says that the merge result of a change passed, and may become the master copy.
type QueueTested struct {
	Merge MergeDetail `json:"merge"`
	Run   string      `json:"run"`
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
}

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
	Digest   string      `json:"digest,omitempty"`   // of the executable
	Size     int64       `json:"size,omitempty"`     // bytes
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

// TestSuiteRunDetail is what Lemnis adds to a test suite run.
type TestSuiteRunDetail struct {
	Kind     string             `json:"kind,omitempty"` // unit, quality, compliance, security
	Rollout  string             `json:"rollout,omitempty"`
	Artifact *ArtifactDetail    `json:"artifact,omitempty"`
	Values   map[string]float64 `json:"values,omitempty"`
	Cases    []TestCaseResult   `json:"cases,omitempty"`
	Evidence *Evidence          `json:"evidence,omitempty"`
}

// TestCaseResult is one case of a test suite run.
type TestCaseResult struct {
	Name    string  `json:"name"`
	Kind    string  `json:"kind,omitempty"`
	Passed  bool    `json:"passed"`
	Reason  string  `json:"reason,omitempty"`
	Seconds float64 `json:"seconds,omitempty"`
}

// TestSubject names a test case or suite.
type TestSubject struct {
	ID      string `json:"id" schema:"nonempty"`
	Version string `json:"version,omitempty"`
	Name    string `json:"name,omitempty"`
	Type    string `json:"type,omitempty" schema:"enum=performance|functional|unit|security|compliance|integration|e2e|other"`
	URI     string `json:"uri,omitempty"`
}

// TestSuite names a test suite.
type TestSuite struct {
	ID      string `json:"id" schema:"nonempty"`
	Version string `json:"version,omitempty"`
	Name    string `json:"name,omitempty"`
	URI     string `json:"uri,omitempty"`
}

// TestTrigger says what started a test.
type TestTrigger struct {
	Type string `json:"type,omitempty" schema:"enum=manual|pipeline|event|schedule|other"` // manual, pipeline, event, schedule, other
	URI  string `json:"uri,omitempty"`
}

// TestSuiteRunQueued says that a test suite waits to run.
type TestSuiteRunQueued struct {
	Environment Reference          `json:"environment"`
	TestSuite   *TestSuite         `json:"testSuite,omitempty"`
	Trigger     *TestTrigger       `json:"trigger,omitempty" schema:"open"`
	Lemnis      TestSuiteRunDetail `json:"-"`
}

// TestSuiteRunStarted says that a test suite runs.
type TestSuiteRunStarted struct {
	Environment Reference          `json:"environment"`
	TestSuite   *TestSuite         `json:"testSuite,omitempty"`
	Trigger     *TestTrigger       `json:"trigger,omitempty" schema:"open"`
	Lemnis      TestSuiteRunDetail `json:"-"`
}

// TestSuiteRunFinished says how a test suite ended.
type TestSuiteRunFinished struct {
	Environment Reference          `json:"environment"`
	TestSuite   *TestSuite         `json:"testSuite,omitempty"`
	Outcome     string             `json:"outcome" schema:"enum=success|failure|cancel|error"` // success, failure, cancel, error
	Severity    string             `json:"severity,omitempty" schema:"enum=low|medium|high|critical"`
	Reason      string             `json:"reason,omitempty"`
	Lemnis      TestSuiteRunDetail `json:"-"`
}

// TestCaseRunQueued says that a test case waits to run.
type TestCaseRunQueued struct {
	Environment  Reference    `json:"environment"`
	TestSuiteRun *Reference   `json:"testSuiteRun,omitempty"`
	TestCase     *TestSubject `json:"testCase,omitempty"`
	Trigger      *TestTrigger `json:"trigger,omitempty" schema:"open"`
}

// TestCaseRunStarted says that a test case runs.
type TestCaseRunStarted struct {
	Environment  Reference    `json:"environment"`
	TestSuiteRun *Reference   `json:"testSuiteRun,omitempty"`
	TestCase     *TestSubject `json:"testCase,omitempty"`
	Trigger      *TestTrigger `json:"trigger,omitempty" schema:"open"`
}

// TestCaseRunFinished says how a test case ended.
type TestCaseRunFinished struct {
	Environment  Reference    `json:"environment"`
	TestSuiteRun *Reference   `json:"testSuiteRun,omitempty"`
	TestCase     *TestSubject `json:"testCase,omitempty"`
	Outcome      string       `json:"outcome" schema:"enum=success|failure|cancel|error"`
	Severity     string       `json:"severity,omitempty" schema:"enum=low|medium|high|critical"`
	Reason       string       `json:"reason,omitempty"`
}

// TestCaseRunSkipped says that a test case did not run, and why.
type TestCaseRunSkipped struct {
	Environment  Reference    `json:"environment" schema:"optional"`
	TestSuiteRun *Reference   `json:"testSuiteRun,omitempty"`
	TestCase     *TestSubject `json:"testCase,omitempty"`
	Reason       string       `json:"reason,omitempty"`
}

// TestOutputPublished says where the output of a test is.
type TestOutputPublished struct {
	OutputType  string     `json:"outputType" schema:"enum=report|video|image|log|other"`
	Format      string     `json:"format"`
	URI         string     `json:"uri,omitempty"`
	TestCaseRun *Reference `json:"testCaseRun,omitempty"`
}

// SBOM says where a bill of materials is.
type SBOM struct {
	URI string `json:"uri" schema:"nonempty,format=uri-reference"`
}

// Supply is what is known of where an artifact comes from and of what is in it.
type Supply struct {
	SBOM       string   `json:"sbom,omitempty"`       // CycloneDX: reference in the registry, by digest
	Provenance string   `json:"provenance,omitempty"` // SLSA, in a signed envelope: reference in the registry, by digest
	Signature  string   `json:"signature,omitempty"`  // in that envelope, base64
	Key        string   `json:"key,omitempty"`        // fingerprint of the key that signed
	Licenses   []string `json:"licenses,omitempty"`   // SPDX ids of the modules within, sorted
	Unlicensed []string `json:"unlicensed,omitempty"` // modules whose licence is not known

	Vulnerabilities *Vulnerabilities `json:"vulnerabilities,omitempty"` // nil: not known, which is not none
	Missing         []string         `json:"missing,omitempty"`         // what could not be made or found out, each with the reason
	Seconds         float64          `json:"seconds,omitempty"`         // that all this took
}

// Severity of a vulnerability.
type Severity string

// The severities, in falling order, in the bands of CVSS. Unrated is what no database rates.
const (
	SeverityCritical Severity = "critical"
	SeverityHigh     Severity = "high"
	SeverityMedium   Severity = "medium"
	SeverityLow      Severity = "low"
	SeverityUnrated  Severity = "unrated"
)

// Severities lists them.
func Severities() []Severity {
	return []Severity{SeverityCritical, SeverityHigh, SeverityMedium, SeverityLow, SeverityUnrated}
}

// Vulnerabilities are those known of the modules and the Go version in an artifact. One that has several names counts once.
type Vulnerabilities struct {
	Critical int    `json:"critical"`
	High     int    `json:"high"`
	Medium   int    `json:"medium"`
	Low      int    `json:"low"`
	Unrated  int    `json:"unrated"`
	Database string `json:"database,omitempty"` // when it was changed last, RFC 3339

	Found []Vulnerability `json:"found,omitempty"` // the worst first, 50 at most
}

// Count is the number of a severity.
func (v Vulnerabilities) Count(s Severity) int {
	return map[Severity]int{SeverityCritical: v.Critical, SeverityHigh: v.High, SeverityMedium: v.Medium, SeverityLow: v.Low, SeverityUnrated: v.Unrated}[s]
}

// Vulnerability is one of them.
type Vulnerability struct {
	ID       string   `json:"id"`
	Module   string   `json:"module"` // path@version
	Fixed    string   `json:"fixed,omitempty"`
	Severity Severity `json:"severity"`
}

// ArtifactDetail is what Lemnis knows of an artifact; subject.id is its purl.
type ArtifactDetail struct {
	ID         string    `json:"id,omitempty"` // purl
	Service    string    `json:"service,omitempty"`
	Repository string    `json:"repository,omitempty"`
	Reference  string    `json:"reference,omitempty"` // in the registry, by digest
	Digest     string    `json:"digest,omitempty"`    // of the executable
	Size       int64     `json:"size,omitempty"`      // bytes
	Commit     string    `json:"commit,omitempty"`
	Committed  string    `json:"committed,omitempty"` // when the change was committed, RFC 3339
	Change     string    `json:"change,omitempty"`
	Item       string    `json:"item,omitempty"`
	Title      string    `json:"title,omitempty"`
	Author     string    `json:"author,omitempty"`
	Evidence   *Evidence `json:"evidence,omitempty"`
	Supply     *Supply   `json:"supply,omitempty"`
}

// ArtifactPackaged says that an artifact was made.
type ArtifactPackaged struct {
	Change Reference      `json:"change"`
	SBOM   *SBOM          `json:"sbom,omitempty"`
	Lemnis ArtifactDetail `json:"-"`
}

// ArtifactSigned says that an artifact was signed.
type ArtifactSigned struct {
	Signature string         `json:"signature" schema:"nonempty"`
	Lemnis    ArtifactDetail `json:"-"`
}

// ArtifactPublished says that an artifact can be had from the registry.
type ArtifactPublished struct {
	SBOM   *SBOM          `json:"sbom,omitempty"`
	User   string         `json:"user,omitempty" schema:"nonempty"`
	Lemnis ArtifactDetail `json:"-"`
}

// ArtifactDownloaded says that somebody fetched an artifact.
type ArtifactDownloaded struct {
	User string `json:"user,omitempty" schema:"nonempty"`
}

// ArtifactDeleted says that an artifact is gone.
type ArtifactDeleted struct {
	User string `json:"user,omitempty" schema:"nonempty"`
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
	enter[QueueEntered]("dev.cdeventsx.lemnis-queue.entered.0.1.0", Integrate)
	enter[QueueTested]("dev.cdeventsx.lemnis-queue.tested.0.1.0", Integrate)
	enter[QueueEjected]("dev.cdeventsx.lemnis-queue.ejected.0.1.0", Integrate)
}
