package deployer

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/deployer/rollout"
)

// mortal is a deployer in a process of its own, which goes on from the facts in its log, and is killed by kill -9 at the moment of a fact:
// that is on the stream, and nothing has followed from it yet.
type mortal struct {
	Data, Log string
	Project   events.Project
	Publish   *events.ArtifactDetail // what it is asked for, if anything: an artifact, the way back, the end of what is kept
	Abort     bool
	Expire    bool
	Moment    string // name of one of moments; empty: it lives
}

const mortalVariable = "LEMNIS_TEST_MORTAL"

var moments = map[string]func(events.Event) bool{
	"it is started": is[events.DeploymentStarted],
	"it runs":       is[events.ServiceUpgraded],
	"it is tested":  is[events.TestSuiteRunFinished],
	"the first users": func(f events.Event) bool {
		c, ok := f.Content.(events.CanaryStepped)
		return ok && c.Step == 1 && c.Weight < 1
	},
	"a tick of counts": func(f events.Event) bool {
		c, ok := f.Content.(events.CanaryObserved)
		return ok && c.Canary.Requests > 0
	},
	"more users": func(f events.Event) bool {
		c, ok := f.Content.(events.CanaryStepped)
		return ok && c.Step > 1 && c.Weight < 1
	},
	"all users": func(f events.Event) bool { c, ok := f.Content.(events.CanaryStepped); return ok && c.Weight >= 1 },
	"the verdict is bad": func(f events.Event) bool {
		c, ok := f.Content.(events.CanaryJudged)
		return ok && c.Verdict == events.Rollback
	},
	"it is taken back":    is[events.ServiceRolledback],
	"it serves all users": is[events.ServicePublished],
	"it is asked for":     is[events.DeploymentRequested],
	"its gate is open":    is[events.GateEvaluated],
	"it is ended":         is[events.DeploymentRetired],
}

func mortalMain(text string) int {
	var c mortal
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		panic(err)
	}
	f, err := os.OpenFile(c.Log, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		panic(err)
	}
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM)
	earlier, err := factsOf(c.Log)
	if err != nil {
		panic(err)
	}
	d := driveWatched(c.Project, Options{Data: c.Data, Front: []string{os.Args[0]}, Alone: time.Minute, Log: func(message string, fields ...any) {
		fmt.Fprintln(os.Stderr, append([]any{message}, fields...)...) // shown when the test fails
		if message == "goes on with what the front holds" {
			_ = os.WriteFile(c.Log+".owner", []byte(strconv.Itoa(os.Getpid())), 0o600)
		}
	}}, f, func(f events.Event) {
		if moment := moments[c.Moment]; moment != nil && moment(f) {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}, earlier...)
	if n := len(earlier); n > 0 {
		d.stream.Meet(earlier[n-1])
	}
	if c.Publish != nil {
		d.publish(*c.Publish)
	}
	if c.Abort {
		d.stream.Put(events.Claim, "x", "bo", events.DeploymentAborted{Rollout: events.Rollout{Environment: "prod", Service: "api"}})
	}
	if c.Expire {
		d.stream.Put(events.Result, "prod/api", "", events.DeadlineReached{Aggregate: rollout.Kind, Key: "prod/api"})
	}
	<-asked
	d.stop()
	return 0
}

// mortals are deployers, one after the other, on the same data and the same facts.
type mortals struct {
	t *testing.T
	c mortal
}

func newMortals(t *testing.T, p events.Project) *mortals {
	dir := t.TempDir()
	return &mortals{t, mortal{Data: filepath.Join(dir, "data"), Log: filepath.Join(dir, "facts"), Project: p}}
}

// run starts one that is asked for something, and dies at the moment.
func (m *mortals) run(ask mortal, moment string) *exec.Cmd {
	m.t.Helper()
	ask.Data, ask.Log, ask.Project, ask.Moment = m.c.Data, m.c.Log, m.c.Project, moment
	text, err := json.Marshal(ask)
	if err != nil {
		m.t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), mortalVariable+"="+string(text))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd
}

func (m *mortals) until(what string, test func(events.Event) bool) (found events.Event) {
	m.t.Helper()
	var facts []events.Event
	if !poll(func() bool {
		facts, _ = factsOf(m.c.Log)
		for _, f := range facts {
			if test(f) {
				found = f
				return true
			}
		}
		return false
	}) {
		m.t.Fatalf("no %s in\n%s", what, tale(facts))
	}
	return found
}

// dies runs one until its moment.
// owns waits until one has the front: ended before, it leaves the front to the next deployer.
func (m *mortals) owns(cmd *exec.Cmd) {
	m.t.Helper()
	if !poll(func() bool {
		text, _ := os.ReadFile(m.c.Log + ".owner")
		return string(text) == strconv.Itoa(cmd.Process.Pid)
	}) {
		m.t.Fatal("the last deployer does not come to own the front")
	}
}

func (m *mortals) dies(ask mortal, moment string) {
	m.t.Helper()
	cmd := m.run(ask, moment)
	timer := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })
	err := cmd.Wait()
	if timer.Stop(); err == nil || err.Error() != "signal: killed" {
		facts, _ := factsOf(m.c.Log)
		m.t.Fatalf("the moment %q did not come: %v\n%s", moment, err, tale(facts))
	}
}

// Users do not notice that the deployer is killed at each step of a rollout: no request fails, everyone stays with the version that
// they had, no process is started twice, and the rollout goes on where it was.
func TestADeployerKilledAtEachStep(t *testing.T) {
	shelf := newShelf(t)
	p := testProject("prod")
	p.Environments[0].Canary.Deadline = events.Duration(10 * time.Second)
	m := newMortals(t, p)
	c := m.c
	v1, v2, v3 := shelf.put(t, "v1", "good"), shelf.put(t, "v2", "good"), shelf.put(t, "v3", "bad")

	m.dies(mortal{Publish: &v1}, "it serves all users")
	address := url(m.until("v1", published("prod", v1.Digest)))
	crowd := traffic(address, 100)
	for i, moment := range []string{"it is started", "it runs", "it is tested", "the first users", "a tick of counts", "more users", "all users", "it serves all users"} {
		ask := mortal{}
		if i == 0 {
			ask.Publish = &v2
		}
		m.dies(ask, moment)
	}
	crowd.stop()
	if len(crowd.errors) != 0 {
		t.Errorf("requests failed: %v of %d, by status %v", crowd.errors, crowd.total, crowd.status)
	}
	for user, seen := range crowd.seen {
		if s := strings.Join(seen, " "); s != "v1" && s != "v1 v2" && s != "v2" {
			t.Errorf("%s saw %s", user, s)
		}
	}
	if len(crowd.pids["v1"]) != 1 || len(crowd.pids["v2"]) != 1 {
		t.Errorf("versions were served by the processes %v", crowd.pids)
	}
	t.Logf("%d requests over 9 kills", crowd.total)

	crowd = traffic(address, 100)
	m.dies(mortal{Publish: &v3}, "the verdict is bad")
	m.dies(mortal{}, "it is taken back")
	last := m.run(mortal{}, "")
	m.until("bar", is[events.ArtifactBarred])
	crowd.stop()
	for status, n := range crowd.status {
		if status != http.StatusOK && status != http.StatusInternalServerError {
			t.Errorf("%d answers with status %d, which no version gives", n, status)
		}
	}
	if len(crowd.pids["v2"]) != 1 {
		t.Errorf("the good version was served by the processes %v", crowd.pids)
	}
	crowd = traffic(address, 20)
	crowd.await(t, 20)
	crowd.stop()
	if len(crowd.pids) != 1 || len(crowd.errors) != 0 {
		t.Errorf("after the rollback users are served by %v, with the errors %v", crowd.pids, crowd.errors)
	}

	m.owns(last)
	_ = last.Process.Signal(syscall.SIGTERM)
	if err := last.Wait(); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(c.Data, "processes", "*.json")); len(left) != 0 {
		t.Errorf("after the orderly end processes run: %v", left)
	}
	if _, err := http.Get(address); err == nil {
		t.Error("after the orderly end somebody answers")
	}
	facts, _ := factsOf(c.Log)
	counts, ticks := map[string]int{}, map[string]int{}
	for _, f := range facts {
		counts[f.Type.Short()]++
		if o, ok := f.Content.(events.CanaryObserved); ok {
			if ticks[o.Rollout]++; o.Tick != ticks[o.Rollout] {
				t.Errorf("tick %d of %s came as the %dth", o.Tick, o.Rollout, ticks[o.Rollout])
			}
		}
	}
	if counts["deployment.started"] != 3 || counts["service.published"] != 2 || counts["service.upgraded"] != 2 || counts["testsuiterun.finished"] != 3 || counts["service.rolledback"] != 1 {
		t.Errorf("facts: %v", counts)
	}
}

// The same for blue-green: forth, back to the very process that was kept, forth again, and the end of what is kept.
func TestADeployerKilledAtEachStepOfBlueGreen(t *testing.T) {
	shelf := newShelf(t)
	p := testProject("prod")
	e := &p.Environments[0]
	e.Strategy, e.Canary, e.Blue = events.BlueGreenStrategy, nil, &events.BlueGreen{Keep: events.Duration(20 * time.Second)}
	m := newMortals(t, p)
	v1, v2, v3 := shelf.put(t, "v1", "good"), shelf.put(t, "v2", "good"), shelf.put(t, "v3", "good")
	m.dies(mortal{Publish: &v1}, "it serves all users")
	address := url(m.until("v1", published("prod", v1.Digest)))
	crowd := traffic(address, 100)
	steps := func(ask mortal, moments ...string) {
		t.Helper()
		for _, moment := range moments {
			m.dies(ask, moment)
			ask = mortal{}
		}
	}
	served := func(version string) { // while no deployer lives
		t.Helper()
		if !poll(func() bool { body, err := httpGet(address); return err == nil && strings.HasPrefix(body, version+" ") }) {
			t.Errorf("nobody is served by %s", version)
		}
		crowd.await(t, 100)
	}
	steps(mortal{Publish: &v2}, "it is asked for", "its gate is open", "it is started", "it runs", "it is tested", "all users", "it serves all users")
	served("v2")
	steps(mortal{Abort: true}, "it is asked for", "its gate is open", "it is started", "it runs", "all users", "it serves all users")
	served("v1")
	m.c.Project.Environments[0].Blue.Keep = events.Duration(time.Second)
	steps(mortal{Publish: &v3}, "all users", "it serves all users")
	served("v3")
	var kept time.Time
	for _, f := range m.facts() {
		if c, ok := f.Content.(events.ServicePublished); ok && c.Lemnis.Until != "" {
			kept, _ = time.Parse(time.RFC3339, c.Lemnis.Until)
		}
	}
	<-time.After(time.Until(kept)) // the bus has the timer, not this stream
	steps(mortal{Expire: true}, "it is ended")
	last := m.run(mortal{}, "")
	gone := func(version string) func() bool {
		return func() bool {
			crowd.mu.Lock()
			defer crowd.mu.Unlock()
			for pid := range crowd.pids[version] {
				if _, err := os.Stat("/proc/" + pid); err == nil {
					return false
				}
			}
			return true
		}
	}
	if !poll(gone("v1")) || !poll(gone("v2")) {
		t.Error("what was replaced runs on")
	}
	crowd.stop()
	if len(crowd.errors) != 0 {
		t.Errorf("requests failed: %v of %d, by status %v", crowd.errors, crowd.total, crowd.status)
	}
	for _, version := range []string{"v1", "v2", "v3"} {
		if len(crowd.pids[version]) != 1 {
			t.Errorf("%s was served by the processes %v", version, crowd.pids[version])
		}
	}
	for user, seen := range crowd.seen {
		way := []string{"v1", "v2", "v1", "v3"}
		for _, version := range seen { // some came not often enough to see all
			i := slices.Index(way, version)
			if i < 0 {
				t.Errorf("%s saw %v", user, seen)
				break
			}
			way = way[i+1:]
		}
	}
	t.Logf("%d requests over 17 kills", crowd.total)
	m.owns(last)
	_ = last.Process.Signal(syscall.SIGTERM)
	if err := last.Wait(); err != nil {
		t.Error(err)
	}
	counts := map[string]int{}
	for _, f := range m.facts() {
		counts[f.Type.Short()]++
	}
	if counts["deployment.started"] != 4 || counts["service.published"] != 4 || counts["testsuiterun.finished"] != 3 || counts["deployment.retired"] != 1 {
		t.Errorf("facts: %v", counts)
	}
}

func (m *mortals) facts() []events.Event {
	facts, _ := factsOf(m.c.Log)
	return facts
}
