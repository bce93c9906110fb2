package deployer

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/deployer/keeper"
	"github.com/lemnis/lemnis/services/deployer/rollout"
)

func url(f events.Event) string { return f.Content.(events.ServicePublished).Lemnis.URL }

func httpGet(url string) (string, error) {
	response, err := http.Get(url)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return string(body), err
}

func get(t *testing.T, url string) string {
	t.Helper()
	body, err := httpGet(url)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func start(t *testing.T, p events.Project, o Options) *driver {
	t.Helper()
	if o.Data == "" {
		o.Data = t.TempDir()
	}
	d := drive(p, o, nil)
	t.Cleanup(d.stop)
	return d
}

func TestAnArtifactGoesThroughEveryEnvironmentToAllUsers(t *testing.T) {
	shelf := newShelf(t)
	d := start(t, testProject("dev", "test", "prod"), Options{})
	v1, v2 := shelf.put(t, "v1", "good"), shelf.put(t, "v2", "good")
	d.publish(v1)
	first := d.await(t, "v1 in prod", published("prod", v1.Digest))
	if got := get(t, url(first)); !strings.HasPrefix(got, "v1 ") {
		t.Fatal(got)
	}
	crowd := traffic(url(first), 50)
	d.publish(v2)
	second := d.await(t, "v2 in prod", published("prod", v2.Digest))
	crowd.stop()
	if url(first) != url(second) {
		t.Errorf("%s became %s", url(first), url(second))
	}
	if got := get(t, url(second)); !strings.HasPrefix(got, "v2 ") {
		t.Error(got)
	}
	if len(crowd.errors) != 0 {
		t.Errorf("users saw errors: %v", crowd.errors)
	}
	for user, seen := range crowd.seen {
		if s := strings.Join(seen, " "); s != "v1" && s != "v1 v2" && s != "v2" {
			t.Errorf("%s saw %s", user, s)
		}
	}
	kinds := map[string]int{}
	for _, f := range d.stream.Facts() {
		if c, ok := f.Content.(events.TestSuiteRunFinished); ok {
			for _, one := range c.Lemnis.Cases {
				kinds[one.Kind]++
			}
		}
	}
	if kinds["quality"] == 0 || kinds["compliance"] == 0 || kinds["security"] == 0 {
		t.Errorf("runtime tests %v", kinds)
	}
}

func TestABadVersionIsRolledBackOnASubsetOfUsers(t *testing.T) {
	shelf := newShelf(t)
	d := start(t, testProject("prod"), Options{})
	v1, v2 := shelf.put(t, "v1", "good"), shelf.put(t, "v2", "bad")
	d.publish(v1)
	address := url(d.await(t, "v1 in prod", published("prod", v1.Digest)))
	crowd := traffic(address, 200)
	d.publish(v2)
	judged := d.await(t, "verdict", is[events.CanaryJudged]).Content.(events.CanaryJudged)
	d.await(t, "bar", is[events.ArtifactBarred])
	crowd.stop()
	if judged.Verdict != events.Rollback || judged.Exposed == 0 || judged.Errors == 0 {
		t.Errorf("%+v", judged)
	}
	hurt := len(crowd.errors) // also those whose first visit failed, who have seen no version
	if hurt == 0 || hurt > 60 {
		t.Errorf("%d of %d users were hurt", hurt, len(crowd.seen))
	}
	for range 20 {
		if got := get(t, address); !strings.HasPrefix(got, "v1 ") {
			t.Fatal(got)
		}
	}
	t.Logf("%d requests of the canary until the verdict, %d failed; %d of %d users hurt", judged.Exposed, judged.Errors, hurt, len(crowd.seen))
}

func TestADrillIsRolledBackToo(t *testing.T) {
	shelf, drill := newShelf(t), &Drill{}
	d := start(t, testProject("prod"), Options{Drill: drill})
	v1, v2 := shelf.put(t, "v1", "good"), shelf.put(t, "v2", "good")
	d.publish(v1)
	crowd := traffic(url(d.await(t, "v1", published("prod", v1.Digest))), 100)
	defer crowd.stop()
	drill.Fail("shop", "prod", v2.Digest, 0.5)
	d.publish(v2)
	d.await(t, "rollback", is[events.ServiceRolledback])
}

func TestWhatCanNotRunFailsWithItsReason(t *testing.T) {
	shelf := newShelf(t)
	v1 := shelf.put(t, "v1", "good")
	for _, test := range []struct {
		name, step, reason string
		timeout            time.Duration
		artifact           func() events.ArtifactDetail
	}{
		{"another digest than the pipeline's", "start", "holds sha256:", 0, func() events.ArtifactDetail {
			a := shelf.put(t, "v2", "good")
			a.Reference = v1.Reference
			return a
		}},
		{"not in the registry", "start", "not in the registry", 0, func() events.ArtifactDetail {
			a := shelf.put(t, "v3", "good")
			a.Reference = a.Reference[:len(a.Reference)-64] + strings.Repeat("0", 64)
			return a
		}},
		{"never gets healthy", "start", "not healthy after", 3 * time.Second, func() events.ArtifactDetail { return shelf.put(t, "v4", "deaf") }},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := start(t, testProject("dev"), Options{StartTimeout: test.timeout})
			d.publish(v1)
			address := url(d.await(t, "v1", published("dev", v1.Digest)))
			d.publish(test.artifact())
			f := d.await(t, "failure", failed(test.step)).Content.(events.DeploymentFailed)
			if !strings.Contains(f.Reason, test.reason) {
				t.Error(f.Reason)
			}
			if got := get(t, address); !strings.HasPrefix(got, "v1 ") {
				t.Error(got)
			}
		})
	}
}

func TestTwoArtifactsAtOnce(t *testing.T) {
	shelf := newShelf(t)
	d := start(t, testProject("dev", "test"), Options{})
	all := []events.ArtifactDetail{shelf.put(t, "v1", "good"), shelf.put(t, "v2", "good"), shelf.put(t, "v3", "good")}
	for _, a := range all {
		go d.publish(a)
	}
	// The first and the newest of those that came behind it are deployed; never two at once in one place.
	quiet := func() bool {
		for _, key := range []string{"dev/api", "test/api"} {
			if s := d.stream.State(key); s.Stage != "" || s.Queued != nil || s.Serving == nil {
				return false
			}
		}
		known := d.stream.State("dev/api").Known
		return len(known) == 3 && known[2].Rollout.Artifact.Digest == d.stream.State("test/api").Serving.Artifact.Digest
	}
	if !poll(quiet) {
		t.Fatal(tale(d.stream.Facts()))
	}
	open := map[string]string{}
	for _, f := range d.stream.Facts() {
		switch c := f.Content.(type) {
		case events.DeploymentStarted:
			if open[f.Key] != "" {
				t.Errorf("%s started while %s was in flight", c.Rollout.ID, open[f.Key])
			}
			open[f.Key] = c.Rollout.ID
		case events.ServicePublished:
			open[f.Key] = ""
		}
	}
}

func TestAbortMovesUsersBack(t *testing.T) {
	shelf := newShelf(t)
	p := testProject("prod")
	p.Environments[0].Canary.Deadline = events.Duration(time.Hour)
	p.Environments[0].Canary.Objective = 0.999
	d := start(t, p, Options{})
	v1, v2 := shelf.put(t, "v1", "good"), shelf.put(t, "v2", "good")
	d.publish(v1)
	address := url(d.await(t, "v1", published("prod", v1.Digest)))
	d.publish(v2)
	d.await(t, "canary", is[events.CanaryStepped])
	d.await(t, "first step of v2", func(f events.Event) bool {
		c, ok := f.Content.(events.CanaryStepped)
		return ok && c.Weight < 1
	})
	d.stream.Put(events.Claim, "x", "bo", events.DeploymentAborted{Rollout: events.Rollout{Environment: "prod", Service: "api"}})
	d.await(t, "rollback", is[events.ServiceRolledback])
	for i := range 50 {
		request, _ := http.NewRequest(http.MethodGet, address, nil)
		request.Header.Set("X-User", fmt.Sprint(i))
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if !strings.HasPrefix(string(body), "v1 ") {
			t.Fatalf("user %d sees %s", i, body)
		}
	}
}

// child is what the killed supervisor runs.
type child struct {
	Data, Log string
	Project   events.Project
	Artifacts []events.ArtifactDetail
}

const childVariable = "LEMNIS_TEST_CHILD"

func TestMain(m *testing.M) {
	if code, done := keeper.Main(os.Args); done {
		os.Exit(code)
	}
	if text := os.Getenv(mortalVariable); text != "" {
		os.Exit(mortalMain(text))
	}
	if text := os.Getenv(childVariable); text != "" {
		var c child
		if err := json.Unmarshal([]byte(text), &c); err != nil {
			panic(err)
		}
		f, err := os.OpenFile(c.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			panic(err)
		}
		d := drive(c.Project, Options{Data: c.Data}, f)
		for _, a := range c.Artifacts {
			d.publish(a)
			poll(func() bool { return d.stream.State("prod/api").Serving != nil })
		}
		poll(func() bool { return d.stream.State("prod/api").Stage == rollout.Observing })
		// Paused, so that the weight of before the kill is that of after it.
		d.stream.Put(events.Claim, "x", "bo", events.DeploymentPaused{Rollout: events.Rollout{Environment: "prod", Service: "api"}})
		select {}
	}
	os.Exit(m.Run())
}

func TestASupervisorKilledInTheMiddleOfACanary(t *testing.T) {
	shelf := newShelf(t)
	p := testProject("prod")
	p.Environments[0].Canary.Deadline = events.Duration(time.Hour)
	p.Environments[0].Canary.Objective = 0.999
	v1, v2 := shelf.put(t, "v1", "good"), shelf.put(t, "v2", "good")
	dir := t.TempDir()
	c := child{Data: filepath.Join(dir, "data"), Log: filepath.Join(dir, "facts"), Project: p, Artifacts: []events.ArtifactDetail{v1, v2}}
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+string(text))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	killed := false
	kill := func() {
		if !killed {
			killed = true
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
	defer kill()
	until := func(what string, test func([]events.Event) bool) []events.Event {
		t.Helper()
		var facts []events.Event
		if !poll(func() bool {
			if _, err := os.Stat(c.Log); err != nil {
				return false
			}
			facts = readLog(t, c.Log)
			return test(facts)
		}) {
			t.Fatalf("no %s in\n%s", what, tale(facts))
		}
		return facts
	}
	has := func(test func(events.Event) bool) func([]events.Event) bool {
		return func(facts []events.Event) bool {
			for _, f := range facts {
				if test(f) {
					return true
				}
			}
			return false
		}
	}
	facts := until("pause", has(is[events.DeploymentPaused]))
	var address string
	for _, f := range facts {
		if is[events.ServicePublished](f) {
			address = url(f)
		}
	}
	crowd := traffic(address, 100)
	until("observation", has(func(f events.Event) bool {
		c, ok := f.Content.(events.CanaryObserved)
		return ok && c.Canary.Requests > 0
	}))
	crowd.stop() // some came before the canary had its users
	crowd = traffic(address, 100)
	crowd.await(t, 100)
	kill()
	crowd.stop()

	facts = readLog(t, c.Log)
	var old []string
	versions := map[string]string{}
	for user, seen := range crowd.seen {
		versions[user] = seen[len(seen)-1]
	}
	if left, err := filepath.Glob(filepath.Join(c.Data, "processes", "*.json")); err != nil || len(left) != 2 {
		t.Errorf("records of processes: %v %v", left, err)
	} else {
		for _, file := range left {
			var r struct{ PID int }
			body, _ := os.ReadFile(file)
			_ = json.Unmarshal(body, &r)
			old = append(old, fmt.Sprintf("/proc/%d", r.PID))
		}
	}

	again := drive(p, Options{Data: c.Data}, nil, facts...)
	defer again.stop()
	before := len(facts)
	weight := again.stream.State("prod/api").Weight
	if weight == 0 || weight == 1 {
		t.Fatalf("killed at weight %v", weight)
	}
	// Wait until both versions serve again at the same address.
	ready := func() bool {
		response, err := http.Get(address + "/healthz")
		if err != nil {
			return false
		}
		defer response.Body.Close()
		return response.StatusCode == http.StatusOK
	}
	if !poll(ready) {
		t.Fatal("nothing serves at " + address)
	}
	for _, proc := range old {
		stat, err := os.ReadFile(proc + "/stat")
		if _, state, _ := strings.Cut(string(stat), ") "); err == nil && !strings.HasPrefix(state, "Z") {
			t.Errorf("%s of the killed supervisor runs still: %s", proc, stat)
		}
	}
	crowd = traffic(address, 100)
	crowd.await(t, 100)
	crowd.mu.Lock()
	on2 := 0
	for user, seen := range crowd.seen {
		if versions[user] != seen[0] || len(seen) != 1 {
			t.Errorf("%s saw %s before the kill and %s after", user, versions[user], seen)
		}
		if seen[0] == "v2" {
			on2++
		}
	}
	if on2 == 0 || on2 > 30 || len(crowd.errors) != 0 {
		t.Errorf("%d of %d users on v2; errors %v", on2, len(crowd.seen), crowd.errors)
	}
	crowd.mu.Unlock()
	// The canary goes on, and is brought to its end by the same facts.
	again.await(t, "observation after the kill", func(f events.Event) bool {
		return is[events.CanaryObserved](f) && f.Sequence > facts[before-1].Sequence
	})
	again.stream.Put(events.Claim, "x", "bo", events.DeploymentAborted{Rollout: events.Rollout{Environment: "prod", Service: "api"}})
	again.await(t, "rollback", is[events.ServiceRolledback])
	crowd.stop()
	counts := map[string]int{}
	for _, f := range again.stream.Facts() {
		counts[f.Type.Short()]++
	}
	if counts["deployment.started"] != 2 || counts["service.published"] != 1 || counts["service.upgraded"] != 1 || counts["testsuiterun.finished"] != 2 {
		t.Errorf("after the restart effects led to new facts: %v", counts)
	}
}

// What serves all users goes back when an incident is held against it: to the version before, which a person need not name.
func TestAnIncidentTakesBackWhatServes(t *testing.T) {
	shelf := newShelf(t)
	v1, v2 := shelf.put(t, "v1", "good"), shelf.put(t, "v2", "good")
	d := drive(testProject("dev"), Options{Data: t.TempDir()}, nil)
	defer d.stop()
	d.publish(v1)
	d.await(t, "v1", published("dev", v1.Digest))
	d.publish(v2)
	bad := d.await(t, "v2", published("dev", v2.Digest))
	crowd := traffic(url(bad), 20)
	crowd.await(t, 20)
	d.stream.Put(events.Stated, "i-1", "", events.IncidentDetected{
		Incident: events.Incident{Environment: events.Reference{ID: "dev"}, Service: &events.Reference{ID: "api"}},
		Lemnis:   events.IncidentDetail{Rollout: bad.Content.(events.ServicePublished).Lemnis.Rollout.ID},
	})
	d.await(t, "end of going back", is[events.ServiceRolledback])
	if got := get(t, url(bad)); !strings.HasPrefix(got, "v1 ") {
		t.Errorf("users are served by %s", got)
	}
	crowd.stop()
	if len(crowd.errors) > 0 {
		t.Errorf("users were hurt: %v", crowd.errors)
	}
}
