package deployer

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
)

// mortal is a deployer in a process of its own, which goes on from the facts in its log, and is killed by kill -9 at the moment of a fact:
// that is on the stream, and nothing has followed from it yet.
type mortal struct {
	Data, Log string
	Project   events.Project
	Publish   *events.ArtifactDetail
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
	d := driveWatched(c.Project, Options{Data: c.Data, Front: []string{os.Args[0]}, Alone: time.Minute}, f, func(f events.Event) {
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
	<-asked
	d.stop()
	return 0
}

// Users do not notice that the deployer is killed at each step of a rollout: no request fails, everyone stays with the version that
// they had, no process is started twice, and the rollout goes on where it was.
func TestADeployerKilledAtEachStep(t *testing.T) {
	shelf := newShelf(t)
	p := testProject("prod")
	p.Environments[0].Canary.Deadline = events.Duration(10 * time.Second)
	dir := t.TempDir()
	c := mortal{Data: filepath.Join(dir, "data"), Log: filepath.Join(dir, "facts"), Project: p}
	run := func(publish *events.ArtifactDetail, moment string) *exec.Cmd {
		t.Helper()
		c.Publish, c.Moment = publish, moment
		text, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), mortalVariable+"="+string(text))
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill() })
		return cmd
	}
	until := func(what string, test func(events.Event) bool) (found events.Event) {
		t.Helper()
		var facts []events.Event
		if !poll(func() bool {
			facts, _ = factsOf(c.Log)
			for _, f := range facts {
				if test(f) {
					found = f
					return true
				}
			}
			return false
		}) {
			t.Fatalf("no %s in\n%s", what, tale(facts))
		}
		return found
	}
	dies := func(cmd *exec.Cmd, moment string) {
		t.Helper()
		timer := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })
		err := cmd.Wait()
		if timer.Stop(); err == nil || err.Error() != "signal: killed" {
			facts, _ := factsOf(c.Log)
			t.Fatalf("the moment %q did not come: %v\n%s", moment, err, tale(facts))
		}
	}
	v1, v2, v3 := shelf.put(t, "v1", "good"), shelf.put(t, "v2", "good"), shelf.put(t, "v3", "bad")

	dies(run(&v1, "it serves all users"), "it serves all users")
	address := url(until("v1", published("prod", v1.Digest)))
	crowd := traffic(address, 100)
	for i, moment := range []string{"it is started", "it runs", "it is tested", "the first users", "a tick of counts", "more users", "all users", "it serves all users"} {
		var publish *events.ArtifactDetail
		if i == 0 {
			publish = &v2
		}
		dies(run(publish, moment), moment)
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
	dies(run(&v3, "the verdict is bad"), "the verdict is bad")
	dies(run(nil, "it is taken back"), "it is taken back")
	last := run(nil, "")
	until("bar", is[events.ArtifactBarred])
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
