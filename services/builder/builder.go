package builder

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/lemnis/lemnis/internal/oci"
	"github.com/lemnis/lemnis/internal/outward"
	"github.com/lemnis/lemnis/internal/runlog"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/internal/stepcache"
	"github.com/lemnis/lemnis/pkg/events"

	"github.com/lemnis/lemnis/internal/executor"
	"github.com/lemnis/lemnis/services/builder/artifact"
	"github.com/lemnis/lemnis/services/builder/branch"
	"github.com/lemnis/lemnis/services/builder/build"
	"github.com/lemnis/lemnis/services/builder/change"
	"github.com/lemnis/lemnis/services/builder/entry"
	"github.com/lemnis/lemnis/services/builder/loop"
	"github.com/lemnis/lemnis/services/builder/queue"
	"github.com/lemnis/lemnis/services/builder/repository"
	"github.com/lemnis/lemnis/services/builder/run"
)

// Options say where the builder works.
type Options struct {
	Data     string       // folder for mirrors and work; several processes may share it
	Registry string       // the OCI registry, as host:port or URL; artifacts go to <Registry>/<project>/<service>
	Push     []oci.Option // how to reach it
	Parallel int          // pipeline runs at once; 1 when zero

	SecretsDir string // holds <project>/<name>: the keys that artifacts are signed with; empty: there are none
	SigningKey string // file of the key that signs for projects that name none; empty: one is made for each, in SecretsDir
	// TrustedKeys is the file of the public keys whose signatures count for what outside builders offer, in projects that name none; empty: the one
	// that was made for each.
	TrustedKeys string
	OSV         string // database of known vulnerabilities, a folder, a zip or the URL of a mirror; empty: none are known

	Logs    *runlog.Store    // keeps what steps print; nil: nobody does, beside the end of it that says why a run failed
	Cache   *stepcache.Store // shares what steps left with builders on other data; nil: nobody does
	Private []string         // further files and folders that no step may read: credentials

	Allow   outward.Allowed // ranges of addresses, closed to forges otherwise, that their APIs may have
	Listing time.Duration   // between two looks at the changes that are open at a forge; a minute when zero
	Public  string          // where people find the installation, which forges are told; empty: nowhere

	Isolation executor.Isolation // of the steps of a pipeline; executor.Auto when empty

	// Log is told what an operator has to know, with a message and keys and values in turn; nil: silent.
	Log func(message string, keysAndValues ...any)
}

// ParsePipelines reads how many pipelines a process runs at once; empty is 1.
func ParsePipelines(text string) (int, error) {
	if text == "" {
		return 1, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > 64 {
		return 0, fmt.Errorf("%q is no number from 1 to 64", text)
	}
	return n, nil
}

// ParsePublic reads the address at which people find the installation; empty is none.
func ParsePublic(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	if u, err := url.Parse(text); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", fmt.Errorf("%q is no address like https://lemnis.example.org", text)
	}
	return text, nil
}

// New is the builder: develop and integrate.
func New(o Options) []service.Definition {
	if o.Log == nil {
		o.Log = func(string, ...any) {}
	}
	b := &builder{options: o, workshop: newWorkshop(o.Data), rounds: newRounds(), standings: newStandings(), teller: newTeller(o), proposals: newProposals(), runs: newRuns(), tests: newTests(), host: executor.NewProcess(o.Isolation),
		engine: executor.NewDocker(filepath.Join(o.Data, "engine")), sharer: sharer{log: o.Log}}
	b.sweep()
	reads := &lister{builder: b, every: cmp.Or(o.Listing, listEvery)}
	return []service.Definition{
		{
			Phase: events.Develop,
			Aggregates: []service.Aggregate{
				service.Of(service.Rules[change.State]{Kind: change.Kind, Version: change.Version, Takes: change.Takes,
					Route: change.Route, Evolve: change.Evolve, Decide: change.Decide}),
				service.Of(service.Rules[branch.State]{Kind: branch.Kind, Version: branch.Version, Takes: branch.Takes,
					Route: branch.Route, Evolve: branch.Evolve, Decide: branch.Decide}),
				service.Of(service.Rules[loop.State]{Kind: loop.Kind, Version: loop.Version, Takes: loop.Takes,
					Route: loop.Route, Evolve: loop.Evolve, Decide: loop.Decide}),
			},
			Duties:      []service.Duty{{Name: "listing", Run: reads.run}},
			Projections: []service.Projection{{Name: "proposals", On: proposalTypes, Apply: b.proposals.apply, Save: b.proposals.save, Load: b.proposals.load}},
		},
		{
			Phase: events.Integrate,
			Aggregates: []service.Aggregate{
				service.Of(service.Rules[entry.State]{Kind: entry.Kind, Version: entry.Version, Takes: entry.Takes,
					Route: entry.Route, Evolve: entry.Evolve, Decide: entry.Decide}),
				service.Of(service.Rules[run.State]{Kind: run.Kind, Version: run.Version, Takes: run.Takes,
					Route: run.Route, Evolve: run.Evolve, Decide: run.Decide}),
				service.Of(service.Rules[build.State]{Kind: build.Kind, Version: build.Version, Takes: build.Takes,
					Route: build.Route, Evolve: build.Evolve, Decide: build.Decide}),
				service.Of(service.Rules[artifact.State]{Kind: artifact.Kind, Version: artifact.Version, Takes: artifact.Takes,
					Route: artifact.Route, Evolve: artifact.Evolve, Decide: artifact.Decide}),
				service.Of(service.Rules[repository.State]{Kind: repository.Kind, Version: repository.Version, Takes: repository.Takes,
					Route: repository.Route, Evolve: repository.Evolve, Decide: repository.Decide}),
				service.Of(service.Rules[queue.State]{Kind: queue.Kind, Version: queue.Version, Takes: queue.Takes,
					Route: queue.Route, Evolve: queue.Evolve, Decide: queue.Decide}),
			},
			Effects: []service.Effect{
				{Name: "pipeline", On: []events.Type{events.TypeOf(events.PipelineRunQueued{})}, Do: inside(b.sharing(b.pipeline)), Parallel: o.Parallel},
				{Name: "merge", On: []events.Type{events.TypeOf(events.QueueTested{})}, Do: inside(b.merge)},
				{Name: "survey", On: []events.Type{events.TypeOf(events.QueueEntered{})}, Do: inside(b.survey)},
				{Name: "land", On: []events.Type{events.TypeOf(events.QueuePlanned{})}, Do: inside(b.land)},
				{Name: "package", On: []events.Type{events.TypeOf(events.BuildQueued{})}, Do: inside(b.sharing(b.pack))},
				{Name: "adopt", On: []events.Type{events.TypeOf(events.ArtifactOffered{})}, Do: b.adopt, Parallel: 4},
				{Name: "status", On: toForges, Do: inside(b.status), Parallel: tellers, OnOwner: true}, // one process tells, in its order
			},
			Projections: []service.Projection{
				{Name: "queue", On: []events.Type{events.TypeOf(events.QueueEntered{}), events.TypeOf(events.QueueEjected{}), events.TypeOf(events.ChangeMerged{})}, Apply: b.rounds.apply, Save: b.rounds.save, Load: b.rounds.load},
				{Name: "runs", On: []events.Type{events.TypeOf(events.QueuePlanned{}), events.TypeOf(events.PipelineRunFinished{})}, Apply: b.runs.apply, Save: b.runs.save, Load: b.runs.load},
				{Name: "standings", On: append(slices.Clone(toForges), events.TypeOf(events.PipelineRunFinished{})), Apply: b.standings.apply, Save: b.standings.save, Load: b.standings.load},
				{Name: "tests", On: []events.Type{events.TypeOf(events.PipelineRunFinished{})}, Apply: b.tests.apply, Save: b.tests.save, Load: b.tests.load},
			},
		},
	}
}

// inside is an effect for the projects whose changes are integrated here: what an outside tool
// that owns the phase says is queued or tested is a fact too, and that tool's to do.
func inside(do func(context.Context, *service.Job) error) func(context.Context, *service.Job) error {
	return func(ctx context.Context, job *service.Job) error {
		if !job.Project.Runs(events.Integrate) {
			return nil
		}
		return do(ctx, job)
	}
}

// sweeps is how long the sweep may keep a builder from beginning: it has no other time of its own, as nothing ends a builder.
// What it does not come to is done when a step first needs the engine.
const sweeps = 3 * time.Second

// sweep removes the containers of a builder on this data that was killed.
func (b *builder) sweep() {
	ctx, cancel := context.WithTimeout(context.Background(), sweeps)
	defer cancel()
	if err := b.engine.Sweep(ctx); err != nil {
		b.options.Log("containers that a killed builder may have left are not all removed; the first step in an image tries those again that there was no time for, the next start the others", "error", err)
	}
}

// builder is what the effects share.
type builder struct {
	options  Options
	workshop *workshop
	rounds   *rounds
	runs     *runs

	standings *standings
	teller    *teller
	proposals *proposals

	tests   *tests
	tips    tips              // what fails on master copies
	host    executor.Executor // runs the steps of pipelines
	engine  *executor.Docker  // runs those that ask for an image or a service
	sharer  sharer            // puts what steps left where other builders find it
	exposed sync.Once         // said that steps are not kept apart
}
