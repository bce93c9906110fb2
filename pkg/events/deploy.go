package events

import "cmp"

// Content types of the deploy phase.

// EnvironmentCreated says that an environment exists.
type EnvironmentCreated struct {
	Name string `json:"name,omitempty"`
	URI  string `json:"uri,omitempty"`
}

// EnvironmentModified says that an environment changed.
type EnvironmentModified struct {
	Name string `json:"name,omitempty"`
	URI  string `json:"uri,omitempty"`
}

// EnvironmentDeleted says that an environment is gone.
type EnvironmentDeleted struct {
	Name string `json:"name,omitempty"`
}

// Rollout is one artifact on its way into one environment. Every fact of the deploy phase that
// belongs to a rollout carries it, so that each can be understood alone.
type Rollout struct {
	ID          string         `json:"id"`
	Environment string         `json:"environment"`
	Service     string         `json:"service"`
	Artifact    ArtifactDetail `json:"artifact"`
	Previous    *Instance      `json:"previous,omitempty"` // what it replaces
	Strategy    string         `json:"strategy,omitempty"` // all-at-once, blue-green, canary
	Target      string         `json:"target,omitempty"`   // outside, where another tool deploys; a process of Lemnis else
	Attempt     uint64         `json:"attempt,omitempty"`
	Next        string         `json:"next,omitempty"` // environment after this one
	Back        bool           `json:"back,omitempty"` // to what was good before: past gate, people and tests
	// Process is the rollout whose process it takes over: one that was kept to go back to. Empty: it gets its own.
	Process string `json:"process,omitempty"`
}

// Runs is the rollout whose process it has.
func (r Rollout) Runs() string { return cmp.Or(r.Process, r.ID) }

// Instance is what runs, or ran, of a service in an environment.
type Instance struct {
	Rollout  string         `json:"rollout"`
	Artifact ArtifactDetail `json:"artifact"`
	Target   string         `json:"target,omitempty"`  // outside, where another tool runs it
	Process  string         `json:"process,omitempty"` // as the rollout has it
}

// Runs is the rollout whose process it has.
func (i Instance) Runs() string { return cmp.Or(i.Process, i.Rollout) }

// ServiceDetail is what Lemnis adds to the service types.
type ServiceDetail struct {
	Rollout Rollout `json:"rollout"`
	URL     string  `json:"url,omitempty"` // where its users reach it
	Reason  string  `json:"reason,omitempty"`
	Seconds float64 `json:"seconds,omitempty"`
	// Together are services that it belongs to: what came to them with the artifact that is taken back goes back next.
	Together []string `json:"together,omitempty"`
	// Kept is what runs on without users until the moment Until (RFC 3339), to go back to at once.
	Kept  *Instance `json:"kept,omitempty"`
	Until string    `json:"until,omitempty"`
}

// ServiceDeployed says that an artifact runs in an environment where none ran before; it
// serves no users yet.
type ServiceDeployed struct {
	Environment Reference     `json:"environment"`
	ArtifactID  string        `json:"artifactId" schema:"nonempty"`
	Lemnis      ServiceDetail `json:"-"`
}

// ServiceUpgraded says that an artifact runs beside the one that it shall replace.
type ServiceUpgraded struct {
	Environment Reference     `json:"environment"`
	ArtifactID  string        `json:"artifactId" schema:"nonempty"`
	Lemnis      ServiceDetail `json:"-"`
}

// ServiceRolledback says that the artifact of before serves all users again.
type ServiceRolledback struct {
	Environment Reference     `json:"environment"`
	ArtifactID  string        `json:"artifactId" schema:"nonempty"`
	Lemnis      ServiceDetail `json:"-"`
}

// ServiceRemoved says that a service no longer runs in an environment.
type ServiceRemoved struct {
	Environment Reference     `json:"environment" schema:"optional"`
	Lemnis      ServiceDetail `json:"-"`
}

// ServicePublished says that an artifact serves all users of an environment.
type ServicePublished struct {
	Environment Reference     `json:"environment" schema:"optional"`
	Lemnis      ServiceDetail `json:"-"`
}

// DeploymentRequested says that an artifact shall go into an environment.
type DeploymentRequested struct {
	Rollout Rollout `json:"rollout"`
	Reason  string  `json:"reason,omitempty"`
}

// DeploymentStarted asks for the artifact to be run in the environment.
type DeploymentStarted struct {
	Rollout Rollout `json:"rollout"`
	// Asked is the principal of the outside tool that shall deploy it, and say so by service.deployed with the artifact's
	// digest before Deadline (RFC 3339). Both are empty where Lemnis deploys by itself.
	Asked    string `json:"asked,omitempty"`
	Deadline string `json:"deadline,omitempty"`
	// Baseline names the process of the version before that is started with the canary, to be compared with it.
	Baseline string `json:"baseline,omitempty"`
}

// DeploymentFailed says that a rollout ended without serving all users.
type DeploymentFailed struct {
	Rollout Rollout `json:"rollout"`
	Step    string  `json:"step"` // gate, queue, start, test, canary, halt, environment, deadline, outside
	Reason  string  `json:"reason"`
}

// DeploymentPaused says that a rollout waits for a person.
type DeploymentPaused struct {
	Rollout Rollout `json:"rollout"`
	By      string  `json:"by,omitempty"`
	Reason  string  `json:"reason,omitempty"`
	// Incident that it waits for, where no person paused it: it goes on when that is over.
	Incident string `json:"incident,omitempty"`
}

// DeploymentResumed says that a paused rollout goes on.
type DeploymentResumed struct {
	Rollout  Rollout `json:"rollout"`
	By       string  `json:"by,omitempty"`
	Incident string  `json:"incident,omitempty"` // that is over; other incidents may hold it still
}

// DeploymentAborted says that a person ended a rollout.
type DeploymentAborted struct {
	Rollout Rollout `json:"rollout"`
	By      string  `json:"by,omitempty"`
	Reason  string  `json:"reason,omitempty"`
}

// DeploymentRetired says that what was kept to go back to runs no more.
type DeploymentRetired struct {
	Rollout Rollout `json:"rollout"`
	Reason  string  `json:"reason,omitempty"`
}

// Check is one condition of a gate, with what it was judged on.
type Check struct {
	Name      string `json:"name"`
	Value     string `json:"value"`
	Threshold string `json:"threshold"`
	Passed    bool   `json:"passed"`
	Evidence  string `json:"evidence,omitempty"` // where the value comes from
	// Pending says that it may pass yet: time goes on, or somebody looks it up.
	Pending bool `json:"pending,omitempty"`
}

// GateEvaluated says whether an artifact may enter an environment, check by check.
type GateEvaluated struct {
	Rollout Rollout `json:"rollout"`
	Passed  bool    `json:"passed"`
	Checks  []Check `json:"checks"`
}

// ApprovalRequested asks people whether a rollout may go on.
type ApprovalRequested struct {
	Rollout Rollout `json:"rollout"`
	Needed  int     `json:"needed"`
}

// ApprovalGiven says that a person lets a rollout go on.
type ApprovalGiven struct {
	Environment string `json:"environment"`
	Service     string `json:"service"`
	Rollout     string `json:"rollout,omitempty"`
	By          string `json:"by,omitempty"`
	Reason      string `json:"reason,omitempty"`
}

// ApprovalRefused says that a person does not let a rollout go on.
type ApprovalRefused struct {
	Environment string `json:"environment"`
	Service     string `json:"service"`
	Rollout     string `json:"rollout,omitempty"`
	By          string `json:"by,omitempty"`
	Reason      string `json:"reason,omitempty"`
}

// Counts are the requests and errors of one version since the tick before.
type Counts struct {
	Requests int64 `json:"requests"`
	Errors   int64 `json:"errors"`
	// Buckets count requests by latency, not summed up: between the observation's bounds, the last above all of them.
	// Zeros at the end are left out.
	Buckets []int64 `json:"buckets,omitempty"`
}

// CanaryObserved counts one tick of a canary, so that its verdict can be replayed.
type CanaryObserved struct {
	Rollout  string  `json:"rollout"`
	Tick     int     `json:"tick"`    // from 1
	Elapsed  float64 `json:"elapsed"` // seconds since the canary's first step
	Weight   float64 `json:"weight"`  // share of users on the canary, 0 to 1
	Canary   Counts  `json:"canary"`
	Baseline Counts  `json:"baseline"`
	// Bounds of the latency buckets, in seconds, rising. An observation without them has those of the one before.
	Bounds []float64 `json:"bounds,omitempty"`
	// Past are the baseline's latency buckets from before the canary; the first observation says them.
	Past []int64 `json:"past,omitempty"`
	// Minutes are the baseline's requests and errors minute by minute before the canary, the newest last, at most 60; the first
	// observation says them, without latency. How its errors cluster is learned from them.
	Minutes []Counts `json:"minutes,omitempty"`
	// Guards count what the project wants to be looked at beside all requests: those to one feature each.
	Guards []CanaryGuard `json:"guards,omitempty"`
}

// CanaryGuard counts the requests to one feature.
type CanaryGuard struct {
	Name     string `json:"name"`
	Canary   Counts `json:"canary"`
	Baseline Counts `json:"baseline"`
}

// CanaryStepped sets the share of users that the canary serves.
type CanaryStepped struct {
	Rollout Rollout `json:"rollout"`
	Step    int     `json:"step"`   // from 1
	Weight  float64 `json:"weight"` // 0 to 1
	Reason  string  `json:"reason,omitempty"`
}

// Verdicts on a canary.
const (
	Promote  = "promote"
	Rollback = "rollback"
	Hold     = "hold"
)

// CanaryJudged is the verdict on a canary and what it rests on.
type CanaryJudged struct {
	Rollout  Rollout `json:"rollout"`
	Verdict  string  `json:"verdict"` // promote, rollback, hold
	Tick     int     `json:"tick"`
	Evidence float64 `json:"evidence"` // e-value against "the canary is no worse"
	Exposed  int64   `json:"exposed"`  // requests that the canary served
	Errors   int64   `json:"errors"`   // of them failed
	Needed   int64   `json:"needed,omitempty"`
	Reason   string  `json:"reason"`
	// Extended says that the deadline gave it as much time again: there is evidence against it, and not enough.
	Extended bool `json:"extended,omitempty"`
	// Parts are what the evidence is the mean of, where that is more than errors.
	Parts []CanaryPart `json:"parts,omitempty"`
	// Course is how the evidence grew, at evenly spaced ticks.
	Course []CanaryPoint `json:"course,omitempty"`
}

// CanaryPart is the evidence of one thing that a canary is judged by: errors, latency.
type CanaryPart struct {
	Name     string  `json:"name"`
	Evidence float64 `json:"evidence"` // that it is worse
	Support  float64 `json:"support"`  // that it is not much worse
	Canary   float64 `json:"canary"`   // share of errors; geometric mean of latency in seconds
	Baseline float64 `json:"baseline"`
}

// CanaryPoint is the evidence after a tick.
type CanaryPoint struct {
	Tick     int64   `json:"tick"`
	Evidence float64 `json:"evidence"`
}

// ArtifactBarred says that an artifact may enter no environment until a newer one has come there.
type ArtifactBarred struct {
	ArtifactID string `json:"artifactId"`
	Digest     string `json:"digest"`
	Service    string `json:"service"`
	Reason     string `json:"reason"`
	Rollout    string `json:"rollout,omitempty"` // by which it serves all users, who go back now
}

// FlagChanged says that a feature flag has a new value.
type FlagChanged struct {
	Flag        string `json:"flag"`
	Environment string `json:"environment,omitempty"`
	Value       string `json:"value"`
}

// DriftFound says that what runs is not what the stream says.
type DriftFound struct {
	Environment string `json:"environment"`
	Service     string `json:"service"`
	Expected    string `json:"expected"`
	Found       string `json:"found"`
	Kind        string `json:"kind,omitempty"`    // gone, lost, artifact, flapping, limit, unknown, routes
	Rollout     string `json:"rollout,omitempty"` // whose process it is about
}

// The kinds of drift.
const (
	DriftGone     = "gone"     // what has to run does not
	DriftLost     = "lost"     // it does not, and could not be started again
	DriftArtifact = "artifact" // another artifact runs in its place
	DriftFlapping = "flapping" // it ends again and again
	DriftLimit    = "limit"    // it took more than it may, and was ended for it
	DriftUnknown  = "unknown"  // a process that the stream knows nothing of
	DriftRoutes   = "routes"   // users are sent elsewhere
)

// DriftMended says that what was found is as the stream says again, or has to be no more.
type DriftMended struct {
	Environment string `json:"environment"`
	Service     string `json:"service"`
	Kind        string `json:"kind"`
	Rollout     string `json:"rollout,omitempty"`
}

func init() {
	enter[EnvironmentCreated]("dev.cdevents.environment.created.0.3.0", Deploy)
	enter[EnvironmentModified]("dev.cdevents.environment.modified.0.3.0", Deploy)
	enter[EnvironmentDeleted]("dev.cdevents.environment.deleted.0.3.0", Deploy)
	enter[ServiceDeployed]("dev.cdevents.service.deployed.0.3.0", Deploy)
	enter[ServiceUpgraded]("dev.cdevents.service.upgraded.0.3.0", Deploy)
	enter[ServiceRolledback]("dev.cdevents.service.rolledback.0.3.0", Deploy)
	enter[ServiceRemoved]("dev.cdevents.service.removed.0.3.0", Deploy)
	enter[ServicePublished]("dev.cdevents.service.published.0.3.0", Deploy)
	enter[DeploymentRequested]("dev.cdeventsx.lemnis-deployment.requested.0.1.0", Deploy, open)
	enter[DeploymentStarted]("dev.cdeventsx.lemnis-deployment.started.0.1.0", Deploy)
	enter[DeploymentFailed]("dev.cdeventsx.lemnis-deployment.failed.0.1.0", Deploy)
	enter[DeploymentPaused]("dev.cdeventsx.lemnis-deployment.paused.0.1.0", Deploy, open)
	enter[DeploymentResumed]("dev.cdeventsx.lemnis-deployment.resumed.0.1.0", Deploy, open)
	enter[DeploymentAborted]("dev.cdeventsx.lemnis-deployment.aborted.0.1.0", Deploy, open)
	enter[DeploymentRetired]("dev.cdeventsx.lemnis-deployment.retired.0.1.0", Deploy)
	enter[GateEvaluated]("dev.cdeventsx.lemnis-gate.evaluated.0.1.0", Deploy)
	enter[ApprovalRequested]("dev.cdeventsx.lemnis-approval.requested.0.1.0", Deploy)
	enter[ApprovalGiven]("dev.cdeventsx.lemnis-approval.given.0.1.0", Deploy, open)
	enter[ApprovalRefused]("dev.cdeventsx.lemnis-approval.refused.0.1.0", Deploy, open)
	enter[CanaryObserved]("dev.cdeventsx.lemnis-canary.observed.0.1.0", Deploy)
	enter[CanaryStepped]("dev.cdeventsx.lemnis-canary.stepped.0.1.0", Deploy)
	enter[CanaryJudged]("dev.cdeventsx.lemnis-canary.judged.0.1.0", Deploy)
	enter[ArtifactBarred]("dev.cdeventsx.lemnis-artifact.barred.0.1.0", Deploy)
	enter[FlagChanged]("dev.cdeventsx.lemnis-flag.changed.0.1.0", Deploy, open)
	enter[DriftFound]("dev.cdeventsx.lemnis-drift.found.0.1.0", Deploy)
	enter[DriftMended]("dev.cdeventsx.lemnis-drift.mended.0.1.0", Deploy)
}
