package condition

import (
	"strings"
	"testing"

	"github.com/lemnis/lemnis/pkg/events"
)

func TestPoliciesOfTheConfiguration(t *testing.T) {
	p := events.DefaultProject("shop")
	p.Environments = []events.Environment{
		{Name: "dev", Target: "process", Gate: events.Gate{Tests: "passed"}},
		{Name: "prod", Target: "process", Strategy: "canary", Limits: &events.Limits{Memory: 512 << 20}, Gate: events.Gate{Tests: "passed", Coverage: 70, Approvals: 1},
			Runtime: &events.RuntimeTests{}},
	}
	for _, test := range []struct {
		that string
		want bool
		err  string
	}{
		{that: `environment.strategy == "canary" && environment.gate.approvals >= 1 && environment.gate.coverage > 60`, want: true},
		{that: `environment.gate.approvals == 2`},
		{that: `has(environment.limits) && has(environment.limits.memory)`, want: true},
		{that: `has(environment.canary)`},
		{that: `project.project == "shop" && project.environments.all(e, e.gate.tests == "passed") && size(project.environments) == 2`, want: true},
		{that: `artifact.author != "" && contents.high == 2 && tests.coverage > 80.0 && service == "api"`, want: true},
		{that: `environment.gate.aprovals >= 1`, err: "no such key: aprovals"},
		{that: `environment.strategy`, err: "it made canary"},
		{that: `tests.flaky == 0`, err: "undefined field 'flaky'"},
		{that: `projet.name == ""`, err: "undeclared reference to 'projet'"},
	} {
		got, err := Complies(t.Context(), events.Condition{That: test.that}, p, rollout())
		if got != test.want || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%s: %v, %v", test.that, got, err)
		}
		p.Environments[1].Runtime.Policy = []events.Condition{{Name: "one", That: test.that}}
		wrong := Check(p)
		if refused := test.err != "" && !strings.HasPrefix(test.err, "it made"); (len(wrong) > 0) != refused ||
			refused && (wrong[0].Field != "environments[1].runtime.policy[0].that" || !strings.Contains(wrong[0].At(), test.err)) {
			t.Errorf("apply of %s: %v", test.that, wrong)
		}
	}
}

// A policy is no way around what a gate would not believe.
func TestWhatIsNotKnownMakesNoPolicyTrue(t *testing.T) {
	p := events.DefaultProject("shop")
	bare := events.Rollout{Environment: p.Environments[0].Name, Service: "api", Artifact: events.ArtifactDetail{ID: "pkg:oci/api@1"}}
	for _, test := range []struct {
		that string
		want bool
		err  string
	}{
		{that: `contents.critical < 1`, err: "not known: contents.critical"},
		{that: `tests.failed == 0`, err: "not known"},
		{that: `size(contents.unlicensed) == 0`, err: "contents.licenses, contents.low, contents.medium, contents.unrated, tests"},
		{that: `contents.critical == -1 || contents.critical < 1`, want: true},
		{that: `!("GPL-3.0" in contents.licenses)`, err: "not known"},
		{that: `(contents.critical == -1 && service == "legacy") || contents.critical < 5`, err: "not known"},
		{that: `project.project == "shop"`, want: true},
	} {
		got, err := Complies(t.Context(), events.Condition{That: test.that}, p, bare)
		if got != test.want || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%s: %v, %v", test.that, got, err)
		}
	}
}
