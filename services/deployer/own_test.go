package deployer

import (
	"slices"
	"strings"
	"testing"

	"github.com/lemnis/lemnis/pkg/events"
)

// A project adds tests of its own, in an environment where they run: commands, and policies of its configuration. Each is in the
// fact, and one that does not pass ends the rollout.
func TestRuntimeTestsOfTheProject(t *testing.T) {
	p := testProject("dev")
	p.Environments[0].Gate.Approvals = 0
	own := p.Environments[0].Runtime
	own.Policy = []events.Condition{{Name: "tested", That: `environment.gate.tests == "passed"`}}
	own.Commands = []events.RuntimeCommand{{Name: "it-is-told", Kind: "quality", JUnit: "r.xml",
		Run: `case "$URL" in http://127.0.0.1:$PORT) echo '<testsuite><testcase name="told"/></testsuite>' > r.xml;; esac; test -s "$ARTIFACT"`}}
	d := start(t, p, Options{})
	shelf := newShelf(t)
	v1 := shelf.put(t, "v1", "good")
	d.publish(v1)
	tested := func(a events.ArtifactDetail) func(events.Event) bool {
		return func(f events.Event) bool {
			c, ok := f.Content.(events.TestSuiteRunFinished)
			return ok && c.Lemnis.Artifact != nil && c.Lemnis.Artifact.Digest == a.Digest
		}
	}
	cases := map[string]events.TestCaseResult{}
	outcome := d.await(t, "its tests", tested(v1)).Content.(events.TestSuiteRunFinished)
	for _, c := range outcome.Lemnis.Cases {
		cases[c.Name] = c
	}
	for name, kind := range map[string]string{"commands.it-is-told": "quality", "policy.tested": "compliance", "secrets": "security"} {
		if c := cases[name]; !c.Passed || c.Kind != kind {
			t.Errorf("%s: %+v", name, c)
		}
	}
	d.await(t, "v1", published("dev", v1.Digest))

	strict := d.stream.Configured()
	strict.Environments = slices.Clone(strict.Environments)
	runtime := *own
	runtime.Policy = []events.Condition{{Name: "two-eyes", That: `environment.gate.approvals >= 1`}}
	runtime.Commands = []events.RuntimeCommand{{Name: "scan", Kind: "security", SARIF: "r.sarif",
		Run: `echo '{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"s"}},"results":[{"ruleId":"R7","level":"error","message":{"text":"door open"}}]}]}' > r.sarif`}}
	strict.Environments[0].Runtime = &runtime
	d.configure(strict)
	v2 := shelf.put(t, "v2", "good")
	d.publish(v2)
	end := d.await(t, "the end of v2", func(f events.Event) bool {
		c, ok := f.Content.(events.DeploymentFailed)
		return ok && c.Rollout.Artifact.Digest == v2.Digest
	}).Content.(events.DeploymentFailed)
	for _, want := range []string{"security commands.scan: 1 found: R7 (error): door open", "compliance policy.two-eyes: "} {
		if end.Step != "test" || !strings.Contains(end.Reason, want) {
			t.Errorf("it does not say %q: %s: %s", want, end.Step, end.Reason)
		}
	}
}
