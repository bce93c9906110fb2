package deployer

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/lemnis/lemnis/internal/executor"
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

// Commands of a project see nothing that the deployer has for itself. Where they would, because nothing keeps them apart, its log says so
// once, and so does the fact.
func TestCommandsSeeNothingOfTheDeployer(t *testing.T) {
	shelf := newShelf(t)
	for _, isolation := range []executor.Isolation{executor.Required, executor.None} {
		t.Run(string(isolation), func(t *testing.T) {
			apart := isolation == executor.Required
			if isolated, why, err := executor.NewProcess(isolation).Isolated(t.Context()); err != nil || !isolated && apart {
				t.Skipf("SKIPPED: that commands see nothing of the deployer was NOT shown: %s (%v)", why, err)
			}
			seen := t.TempDir()
			t.Setenv("PATH", os.Getenv("PATH")+":"+seen) // of the machine commands see what is there
			o := Options{Data: filepath.Join(seen, "data"), SecretsDir: filepath.Join(seen, "secrets"), Private: []string{filepath.Join(seen, "nats.key")}, Isolation: isolation}
			for _, file := range []string{filepath.Join(o.SecretsDir, "shop", "key"), o.Private[0]} {
				if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, []byte("hunter2"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var mu sync.Mutex
			var told []string
			o.Log = func(message string, keysAndValues ...any) {
				mu.Lock()
				defer mu.Unlock()
				if strings.Contains(message, "NOT kept apart") {
					told = append(told, fmt.Sprint(message, keysAndValues))
				}
			}
			p := testProject("dev")
			look := events.RuntimeCommand{Name: "look", Kind: "security", JUnit: "r.xml", Run: fmt.Sprintf(
				`found=$(ls -A %[1]s/data | grep -vx executables; ls -A %[1]s/secrets; cat %[1]s/nats.key)
				bash -c "exec 3<>/dev/tcp/127.0.0.1/$PORT" && test -x "$ARTIFACT" && echo '<testsuite><testcase name="look"/></testsuite>' > r.xml
				test -z "$found" || { echo sees $found; exit 7; }`, seen)}
			again := look
			again.Name = "again"
			p.Environments[0].Runtime.Commands = []events.RuntimeCommand{look, again}
			d := start(t, p, o)
			d.publish(shelf.put(t, "v1", "good"))
			outcome := d.await(t, "its tests", func(f events.Event) bool { _, ok := f.Content.(events.TestSuiteRunFinished); return ok }).Content.(events.TestSuiteRunFinished)
			mu.Lock()
			defer mu.Unlock()
			if apart != (len(told) == 0) || !apart && (len(told) != 1 || !strings.Contains(told[0], "the deployer's rights") || !strings.Contains(told[0], "switched off")) {
				t.Errorf("the log says %q", told)
			}
			for _, c := range outcome.Lemnis.Cases {
				if !strings.HasPrefix(c.Name, "commands.") {
					continue
				}
				if c.Passed != apart || strings.Contains(c.Reason, "; NOT ISOLATED: isolation is switched off") == apart {
					t.Errorf("%+v", c)
				}
				if sees := strings.Contains(c.Reason, "front") && strings.Contains(c.Reason, "shop") && strings.Contains(c.Reason, "hunter2"); sees == apart {
					t.Errorf("%+v", c)
				}
			}
		})
	}
}
