// Package deployer is the deploy phase: it brings artifacts through the project's environments, each behind a stricter
// gate than the one before, as processes on this machine behind a proxy for their users.
//
// An artifact that the pipeline publishes is requested for the first environment. Where its gate lets it pass, the effect
// place pulls it by digest and runs it beside the one that serves; the effect test runs the runtime tests, stricter
// from environment to environment; the effect shift moves the users, with the strategy canary first a part of them,
// and counts what both versions answer, until the canary test of package canary has a verdict; the effect undo moves
// them back. What serves all users of an environment is requested for the next one.
//
// What has to run, and who is served by it, follows from the facts alone: the projection wanted folds them, and converge
// makes it so. Each effect converges before it reports, and the duty site converges everything when the service starts. So
// it does not matter when the process was killed: users are served meanwhile by the front (package keeper), and what it runs
// and has to run goes on. Where the front ended too, what has to run is started again, each service at the address that
// it had, each user at the version that they had.
//
// # What it does not do yet
//
// Targets other than processes on Linux, and other tools; environments and services are neither created, removed nor moved by
// claims; feature flags.
package deployer

import (
	"sync"
	"time"

	"github.com/lemnis/lemnis/internal/executor"
	"github.com/lemnis/lemnis/internal/oci"
	"github.com/lemnis/lemnis/internal/outward"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/deployer/rollout"
)

// Options of the service. Data is needed.
type Options struct {
	// Data holds executables, logs, records of processes and the addresses of services. One process at a time uses it.
	Data string
	// Log is told with a message and keys and values in turn; nil: silent.
	Log func(message string, keysAndValues ...any)
	// Registry, host:port, replaces the registry that references of artifacts name; empty: they are taken as they are.
	Registry string
	// OCI says how to reach the registry.
	OCI []oci.Option
	// ModuleCache holds the Go modules' files, for their licences; empty: where the go command keeps it.
	ModuleCache string
	// SecretsDir holds <project>/<name>: the public keys whose signatures count; empty: none do.
	SecretsDir string
	// TrustedKeys is the file of the public keys whose signatures count in projects that name none; empty: the one that was made
	// for the project does.
	TrustedKeys string
	// OSV is a database of known vulnerabilities, a folder, a zip or the URL of a mirror: where a gate bounds them, what runs is
	// looked up again; empty: what the builder found counts alone.
	OSV string
	// Allow are ranges of addresses, closed otherwise, where users may reach what is deployed by TLS.
	Allow outward.Allowed
	// Isolation is that of the commands of projects among the runtime tests; executor.Auto when empty.
	Isolation executor.Isolation
	// Private are further files and folders that none of these may read: credentials.
	Private []string
	// StartTimeout bounds the wait for a process to get healthy; 30 s when zero.
	StartTimeout time.Duration
	// FetchTimeout bounds what is asked of the registry for one version, each for its signature and for its file; 5 min when zero.
	// A registry that says nothing at all is given up sooner, see [oci.Silence].
	FetchTimeout time.Duration
	// Grace bounds the wait for a process's requests in flight, and then for its end; 10 s when zero.
	Grace time.Duration
	// Front is the command that runs [keeper.Main]: a front of its own process outlives this one. Empty: it is part of it.
	Front []string
	// Alone is how long such a front goes on when this process was killed and no other came; 10 min when zero.
	Alone time.Duration
	// Patience is how long the front may take to answer what it does at once; keeper.DefaultPatience when zero.
	Patience time.Duration
	// Closing counts what goes on to close after the phase was given back: requests in flight, then processes. Whoever ends
	// the process waits for it. Nil: the phase is given back when all is closed.
	Closing *sync.WaitGroup
	// Look is how often what runs is compared with what the stream says; 10 s when zero. A difference counts when it is seen twice.
	Look time.Duration
	// Door is where users reach what is deployed.
	Door Door
	// Drill makes versions fail on purpose; may be nil.
	Drill *Drill
}

// New is the service as the runtime runs it.
func New(o Options) service.Definition { return newDeployer(o).definition() }

func newDeployer(o Options) *deployer {
	if o.Log == nil {
		o.Log = func(string, ...any) {}
	}
	or := func(d *time.Duration, value time.Duration) {
		if *d <= 0 {
			*d = value
		}
	}
	or(&o.StartTimeout, 30*time.Second)
	or(&o.FetchTimeout, 5*time.Minute)
	or(&o.Grace, 10*time.Second)
	or(&o.Look, 10*time.Second)
	return &deployer{options: o, wanted: newWanted(), opened: make(chan struct{}), host: executor.NewProcess(o.Isolation)}
}

func (d *deployer) definition() service.Definition {
	return service.Definition{
		Phase: events.Deploy,
		Aggregates: []service.Aggregate{service.Of(service.Rules[rollout.State]{
			Kind: rollout.Kind, Version: rollout.Version, Takes: rollout.Takes, Route: rollout.Route, Evolve: rollout.Evolve, Decide: rollout.Decide,
		})},
		Effects: []service.Effect{
			{Name: "verify", On: types(events.GateEvaluated{}), Do: d.verify, Parallel: 4, OnOwner: true},
			{Name: "place", On: types(events.DeploymentStarted{}), Do: d.place, Parallel: 4, OnOwner: true},
			// What goes back waits for no start of another. The effect place has it in its turn all the same: whoever is first, is it.
			{Name: "return", On: types(events.DeploymentStarted{}), Do: d.placeBack, Parallel: 4, OnOwner: true},
			{Name: "test", On: types(events.ServiceDeployed{}, events.ServiceUpgraded{}), Do: d.test, Parallel: 4, OnOwner: true},
			// A canary is watched for as long as it lasts, and who moves all users must not wait for that.
			{Name: "shift", On: types(events.CanaryStepped{}), Do: d.shift, Parallel: shifts, OnOwner: true},
			{Name: "undo", On: types(events.CanaryJudged{}, events.DeploymentFailed{}, events.DeploymentAborted{}), Do: d.undo, Parallel: 4, OnOwner: true},
			{Name: "retire", On: types(events.DeploymentRetired{}), Do: d.letGo, Parallel: 4, OnOwner: true},
		},
		Timers:      types(events.GateEvaluated{}, events.DeploymentStarted{}, events.ServicePublished{}),
		Duties:      []service.Duty{{Name: "site", Run: d.run, Retire: d.retire}},
		Projections: []service.Projection{{Name: "wanted", On: append(types(events.ProjectConfigured{}), rollout.Own...), Apply: d.wanted.apply, Save: d.wanted.save, Load: d.wanted.load}},
	}
}

func types(contents ...any) []events.Type {
	all := make([]events.Type, len(contents))
	for i, c := range contents {
		all[i] = events.TypeOf(c)
	}
	return all
}
