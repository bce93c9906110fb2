package deployer

import (
	"fmt"
	"strings"
	"testing"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/deployer/gate"
)

// A gate looks for itself: at the registry, at what users met before, and by the project's own conditions.
func TestAGateLooksThingsUp(t *testing.T) {
	project := testProject("dev", "test")
	half := events.Percent(0.5)
	project.Environments[0].Gate.Conditions = []events.Condition{{Name: "tested", That: "tests.ran >= 2 && artifact.author == 'ann'"}}
	project.Environments[1].Gate.Before = &events.Before{Requests: 20, Errors: &half, P99: events.Duration(1e10)}
	shelf := newShelf(t)
	d := drive(project, Options{Data: t.TempDir()}, nil)
	defer d.stop()
	final := func(environment, digest string) func(events.Event) bool {
		return func(f events.Event) bool {
			c, ok := f.Content.(events.GateEvaluated)
			return ok && c.Rollout.Environment == environment && c.Rollout.Artifact.Digest == digest && !gate.Looks(c)
		}
	}
	checks := func(f events.Event) (failed []string, all map[string]events.Check) {
		all = map[string]events.Check{}
		for _, c := range f.Content.(events.GateEvaluated).Checks {
			all[c.Name] = c
			if !c.Passed {
				failed = append(failed, c.Name)
			}
		}
		return failed, all
	}

	v1 := shelf.put(t, "v1", "good")
	d.publish(v1)
	if failed, all := checks(d.await(t, "v1 at dev's gate", final("dev", v1.Digest))); len(failed) > 0 || all["conditions.tested"].Value != "true" {
		t.Fatalf("%v: %+v", failed, all)
	}
	// Too few users met it: the gate stays closed, and says why.
	failed, all := checks(d.await(t, "v1 at test's gate", final("test", v1.Digest)))
	if fmt.Sprint(failed) != "[before.requests before.errors before.p99]" || all["before.errors"].Value != "too few requests" || all["conditions.tested"].Value != "true" {
		t.Errorf("%v: %+v", failed, all)
	}
	crowd := traffic(url(d.await(t, "v1 in dev", published("dev", v1.Digest))), 40)
	crowd.await(t, 40)
	crowd.stop()
	d.stream.Put(events.Claim, "test/api", "bo", events.DeploymentRequested{Rollout: events.Rollout{Environment: "test", Service: "api", Artifact: v1}})
	d.await(t, "v1 in test", published("test", v1.Digest))

	// What the registry does not have under the stated digest does not pass, whoever said that it is there.
	made := shelf.put(t, "v2", "good")
	made.Digest = v1.Digest[:len(v1.Digest)-4] + "0000"
	d.publish(made)
	if failed, all := checks(d.await(t, "a made-up artifact at dev's gate", final("dev", made.Digest))); fmt.Sprint(failed) != "[artifact]" || !strings.Contains(all["artifact"].Value, "holds") {
		t.Errorf("%v: %+v", failed, all)
	}
}
