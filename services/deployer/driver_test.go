package deployer

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/lemnis/lemnis/internal/attest"
	"github.com/lemnis/lemnis/internal/oci"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/deployer/rollout/rollouttest"
)

// driver runs the service on a stream in memory, its effects against real processes.
type driver struct {
	stream *rollouttest.Stream
	def    service.Definition
	// deployer is what the definition is made of.
	deployer *deployer
	ctx      context.Context
	cancel   context.CancelFunc
	work     sync.WaitGroup
	log      io.Writer
	// recorded is told of each fact before anything follows from it; may be nil.
	recorded func(events.Event)

	mu      sync.Mutex
	changed chan struct{}
	facts   []events.Event
}

// testProject has short canaries, and an objective that little traffic can show.
func testProject(environments ...string) events.Project {
	p := events.DefaultProject("shop")
	p.Environments = nil
	for i, name := range environments {
		e := events.Environment{Name: name, Target: "process", Gate: events.Gate{Tests: "passed"}, Runtime: &events.RuntimeTests{Requests: 20, P99: events.Duration(5 * time.Second)}}
		if i > 0 {
			e.Gate.Runtime = "passed"
		}
		if name == "prod" {
			e.Strategy = "canary"
			e.Canary = &events.CanaryPolicy{Objective: 0.95, Deadline: events.Duration(2 * time.Second), Tick: events.Duration(50 * time.Millisecond)}
		}
		p.Environments = append(p.Environments, e)
	}
	return p
}

// drive starts the service; earlier facts are those of a run before, whose effects all come again.
func drive(p events.Project, o Options, facts io.Writer, earlier ...events.Event) *driver {
	return driveWatched(p, o, facts, nil, earlier...)
}

func driveWatched(p events.Project, o Options, facts io.Writer, recorded func(events.Event), earlier ...events.Event) *driver {
	d := &driver{log: facts, recorded: recorded, changed: make(chan struct{}), facts: slices.Clone(earlier)}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	if o.Grace == 0 {
		o.Grace = 2 * time.Second
	}
	if o.StartTimeout == 0 {
		o.StartTimeout = 10 * time.Second
	}
	d.deployer = newDeployer(o)
	d.def = d.deployer.definition()
	d.stream = &rollouttest.Stream{Project: p, Now: time.Now, Each: d.fact}
	d.stream.Restore(earlier)
	d.project(events.Event{Kind: events.Stated, Project: p.Name, Phase: events.Plan, Content: events.ProjectConfigured{Project: p}})
	for _, f := range earlier {
		d.project(f)
	}
	for _, duty := range d.def.Duties {
		d.work.Go(func() {
			if err := duty.Run(d.ctx, nil); d.ctx.Err() == nil {
				panic(err)
			}
		})
	}
	for _, f := range earlier {
		d.ask(f, 2)
	}
	return d
}

func (d *driver) project(e events.Event) {
	for _, p := range d.def.Projections {
		p.Apply(e)
	}
}

// fact is told of each new fact, in order.
func (d *driver) fact(f events.Event) {
	d.record(f)
	if d.recorded != nil {
		d.recorded(f)
	}
	d.ask(f, 1)
	d.project(f)
	d.mu.Lock()
	d.facts = append(d.facts, f)
	close(d.changed)
	d.changed = make(chan struct{})
	d.mu.Unlock()
}

// ask runs the effects of a fact, each until it is done.
func (d *driver) ask(f events.Event, attempt uint64) {
	for _, effect := range d.def.Effects {
		if !slices.Contains(effect.On, f.Type) {
			continue
		}
		d.work.Go(func() {
			for ; d.ctx.Err() == nil; attempt++ {
				job := service.NewJob(f, d.stream.Configured(), attempt, func(_ context.Context, r service.Report) error {
					e := events.Event{Key: r.Key, SubjectID: r.SubjectID, Phase: r.Phase, Content: r.Content, Attempt: attempt, Chain: f.Chain, Cause: f.ID}
					if e.Key == "" {
						e.Key = f.Key
					}
					d.stream.Report(fmt.Sprint(effect.Name, f.Sequence, attempt, r.Once, e.Key, events.TypeOf(r.Content)), e)
					return nil
				})
				if err := effect.Do(d.ctx, job); err == nil || events.Rejected(err) {
					return
				}
				select {
				case <-d.ctx.Done():
				case <-time.After(20 * time.Millisecond):
				}
			}
		})
	}
}

// stop ends the service in order.
func (d *driver) stop() {
	d.cancel()
	d.work.Wait()
}

// configure applies a configuration, as the planner does.
func (d *driver) configure(p events.Project) {
	d.stream.Configure(p)
	d.project(events.Event{Kind: events.Stated, Project: p.Name, Phase: events.Plan, Content: events.ProjectConfigured{Project: p}})
}

func (d *driver) publish(a events.ArtifactDetail) {
	d.stream.Put(events.Stated, a.Digest, "", events.ArtifactPublished{Lemnis: a})
}

// await waits for the first fact, of all so far and to come, for which the test holds.
func (d *driver) await(t *testing.T, what string, test func(events.Event) bool) events.Event {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for n := 0; ; {
		d.mu.Lock()
		facts, changed := d.facts, d.changed
		d.mu.Unlock()
		for ; n < len(facts); n++ {
			if test(facts[n]) {
				return facts[n]
			}
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("no %s in\n%s", what, tale(facts))
		}
	}
}

func tale(facts []events.Event) string {
	var lines []string
	for _, f := range facts {
		line := f.Key + " " + f.Type.Short()
		switch c := f.Content.(type) {
		case events.DeploymentFailed:
			line += " " + c.Step + " " + c.Reason
		case events.GateEvaluated:
			line += fmt.Sprintf(" %v %v", c.Passed, c.Checks)
		case events.TestSuiteRunFinished:
			line += " " + c.Outcome + " " + c.Reason
		case events.CanaryStepped:
			line += fmt.Sprintf(" %.2f %s", c.Weight, c.Reason)
		case events.CanaryObserved:
			line += fmt.Sprintf(" %+v", c)
		case events.CanaryJudged:
			line += " " + c.Verdict + " " + c.Reason
		case events.DriftFound:
			line += " " + c.Kind + " " + c.Rollout
		case events.DriftMended:
			line += " " + c.Kind + " " + c.Rollout
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

func published(environment, digest string) func(events.Event) bool {
	return func(f events.Event) bool {
		c, ok := f.Content.(events.ServicePublished)
		return ok && c.Lemnis.Rollout.Environment == environment && c.Lemnis.Rollout.Artifact.Digest == digest
	}
}

func failed(step string) func(events.Event) bool {
	return func(f events.Event) bool {
		c, ok := f.Content.(events.DeploymentFailed)
		return ok && c.Step == step
	}
}

func is[T any](f events.Event) bool { _, ok := f.Content.(T); return ok }

// line is a fact in the log that survives a killed driver.
type line struct {
	Sequence uint64
	Key      string
	Stored   time.Time
	Body     json.RawMessage
}

func (d *driver) record(f events.Event) {
	if d.log == nil {
		return
	}
	f.Source = "/lemnis/deploy/rollout"
	body, err := f.AppendBody(nil)
	if err == nil {
		body, err = json.Marshal(line{f.Sequence, f.Key, f.Stored, body})
	}
	if err == nil {
		_, err = d.log.Write(append(body, '\n'))
	}
	if err != nil {
		panic(err)
	}
}

func readLog(t *testing.T, file string) []events.Event {
	t.Helper()
	facts, err := factsOf(file)
	if err != nil {
		t.Fatal(err)
	}
	return facts
}

// factsOf reads the facts of a log that is there.
func factsOf(file string) ([]events.Event, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var facts []events.Event
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var l line
		if json.Unmarshal(lines.Bytes(), &l) != nil {
			break // cut off by the kill
		}
		e, err := events.DecodeBody(l.Body)
		if err != nil {
			return nil, err
		}
		e.Kind, e.Aggregate, e.Project, e.Phase = events.Stated, "rollout", "shop", events.Deploy
		e.Key, e.Sequence, e.Stored = l.Key, l.Sequence, l.Stored
		facts = append(facts, e)
	}
	return facts, nil
}

// shelf is a registry with versions of the test's service.
type shelf struct {
	host   string
	dir    string
	server *httptest.Server
	signer *attest.Signer // of what is put; nil: nobody signs
}

func newShelf(t testing.TB) *shelf {
	t.Helper()
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true)))
	t.Cleanup(server.Close)
	return &shelf{host: strings.TrimPrefix(server.URL, "http://"), dir: t.TempDir(), server: server}
}

var app = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "app")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "app")
	if out, err := exec.Command("go", "build", "-o", file, "./testdata/app").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	return os.ReadFile(file)
})

// put pushes a version with a mode: good, bad, deaf.
func (s *shelf) put(t testing.TB, version, mode string) events.ArtifactDetail {
	t.Helper()
	body, err := app()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(s.dir, "api")
	if err := os.WriteFile(file, fmt.Appendf(slices.Clone(body), "\nAPP %s %s", version, mode), 0o755); err != nil {
		t.Fatal(err)
	}
	ref, err := oci.Push(t.Context(), s.host+"/shop/api", file, oci.Metadata{})
	if err != nil {
		t.Fatal(err)
	}
	a := events.ArtifactDetail{
		ID: ref.PURL(), Service: "api", Reference: ref.String(), Digest: ref.Layer, Author: "ann", Change: version,
		Evidence: &events.Evidence{Run: "r", Tests: 2, Coverage: 80},
	}
	if s.signer != nil {
		attestOf(t, ref, s.signer, nil)
		a.Commit, a.Supply = "c0ffee", &events.Supply{Key: "signing", Signature: "s", Provenance: "p"}
	}
	return a
}

// users sends requests as many users until it is stopped, and keeps what each saw last.
type users struct {
	mu     sync.Mutex
	seen   map[string][]string // versions in order, without repetition
	errors map[string]int
	status map[int]int                // of the answers; 0: there was none
	pids   map[string]map[string]bool // of the processes that answered, by version
	last   map[string]time.Time       // when the last request was sent that a version answered
	total  int
	cancel context.CancelFunc
	done   sync.WaitGroup
}

func traffic(url string, people int) *users {
	ctx, cancel := context.WithCancel(context.Background())
	u := &users{seen: map[string][]string{}, errors: map[string]int{}, status: map[int]int{}, pids: map[string]map[string]bool{}, last: map[string]time.Time{}, cancel: cancel}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}, Timeout: 5 * time.Second}
	for worker := range 4 {
		u.done.Go(func() {
			defer client.CloseIdleConnections()
			tick := time.NewTicker(4 * time.Millisecond) // users leave time to those whom they wait for
			defer tick.Stop()
			for i := worker; ctx.Err() == nil; i = (i + 4) % people {
				u.visit(ctx, client, url, fmt.Sprint("user-", i))
				<-tick.C
			}
		})
	}
	return u
}

func (u *users) visit(ctx context.Context, client *http.Client, url, user string) {
	request, _ := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	request.Header.Set("X-User", user)
	sent := time.Now()
	response, err := client.Do(request)
	u.mu.Lock()
	defer u.mu.Unlock()
	if ctx.Err() != nil {
		if err == nil {
			_ = response.Body.Close()
		}
		return
	}
	u.total++
	if err != nil {
		u.errors[user]++
		u.status[0]++
		return
	}
	u.status[response.StatusCode]++
	body, _ := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if by := response.Header.Get("App-Version"); sent.After(u.last[by]) {
		u.last[by] = sent
	}
	if response.StatusCode != http.StatusOK {
		u.errors[user]++
		return
	}
	version, pid, _ := strings.Cut(string(body), " ")
	if u.pids[version] == nil {
		u.pids[version] = map[string]bool{}
	}
	u.pids[version][pid] = true
	if seen := u.seen[user]; len(seen) == 0 || seen[len(seen)-1] != version {
		u.seen[user] = append(seen, version)
	}
}

// await waits until so many users were served.
func (u *users) await(t *testing.T, people int) {
	t.Helper()
	if !poll(func() bool {
		u.mu.Lock()
		defer u.mu.Unlock()
		return len(u.seen) >= people
	}) {
		t.Fatalf("fewer than %d users were served", people)
	}
}

// poll asks until the test holds, or 20 s have passed.
func poll(test func() bool) bool {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); !test(); <-tick.C {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

func (u *users) stop() {
	u.cancel()
	u.done.Wait()
}
