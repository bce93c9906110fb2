package condition

import (
	"strings"
	"testing"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
)

func rollout() events.Rollout {
	return events.Rollout{Environment: "prod", Service: "api", Artifact: events.ArtifactDetail{
		ID: "pkg:oci/api@1", Title: "Faster search", Author: "ann", Size: 4 << 20, Evidence: &events.Evidence{Tests: 12, Coverage: 81.5},
		Supply: &events.Supply{Signature: "c2ln", SBOM: "sha256:bill", Licenses: []string{"MIT"}, Vulnerabilities: &events.Vulnerabilities{High: 2}},
	}}
}

func TestHolds(t *testing.T) {
	monday := time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		that string
		want bool
		err  string
	}{
		{that: `tests.known && tests.ran > 10 && tests.coverage >= 81.5`, want: true},
		{that: `tests.coverage > 90`},
		{that: `tests.changed == -1.0`, want: true},
		{that: `artifact.title.startsWith("WIP")`},
		{that: `artifact.size < 10 * 1024 * 1024 && artifact.author != ""`, want: true},
		{that: `contents.signed && contents.licenses.all(l, l in ["MIT", "ISC"]) && size(contents.unlicensed) == 0`, want: true},
		{that: `contents.high == 2 && contents.critical == 0`, want: true},
		{that: `environment == "prod" && service == "api" && time.getDayOfWeek("UTC") == 1`, want: true},
		{that: `before.requests > 1000 && before.errors < 0.01`},
		{that: `time > timestamp("2026-03-02T00:00:00Z")`, want: true},
		{that: `contents.licenses[7] == "MIT"`, err: "out of"},
		{that: `tests.coverige > 80.0`, err: "undefined field 'coverige'"},
	} {
		f := Of(rollout(), monday)
		got, err := Holds(t.Context(), events.Condition{That: test.that}, f)
		if got != test.want || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%s: %v, %v", test.that, got, err)
		}
	}
}

// What nobody found out makes no condition true, however it is asked; unless it says what then.
func TestWhatIsNotKnownMakesNoConditionTrue(t *testing.T) {
	bare := Of(events.Rollout{Environment: "prod", Service: "api", Artifact: events.ArtifactDetail{ID: "pkg:oci/api@1"}}, time.Time{})
	for _, test := range []struct {
		that string
		want bool
		err  string
	}{
		{that: `contents.critical < 1 && contents.high <= 3`, err: "not known: before, contents.critical, contents.high,"},
		{that: `!(contents.high > 3)`, err: "not known"},
		{that: `contents.high == -1 || contents.high <= 3`, want: true},
		{that: `contents.low >= -1 && contents.critical < 1`, err: "not known"},
		{that: `artifact.size > -1 && contents.critical < 1`, err: "not known"},
		{that: `-1 == contents.high || contents.high <= 3`, want: true},
		{that: `tests.changed == -1.0`, want: true},
		{that: `tests.changed == -1.0 && contents.critical < 1`, err: "not known"},
		{that: `contents.high >= 0`},
		{that: `tests.failed == 0`, err: "not known"},
		{that: `tests.known && tests.failed == 0`},
		{that: `!tests.known || tests.failed == 0`, want: true},
		{that: `contents.licenses.all(l, l in ["MIT"])`, err: "not known"},
		{that: `size(contents.unlicensed) == 0`, err: "not known"},
		{that: `!("GPL-3.0" in contents.licenses)`, err: "not known"},
		{that: `contents.licenses.all(l, !l.startsWith("GPL"))`, err: "not known"},
		{that: `size(contents.licenses) < 5`, err: "not known"},
		{that: `[contents].all(c, size(c.unlicensed) == 0)`, err: "not known"},
		{that: `!contents.unlicensed.exists(u, u.contains("/"))`, err: "not known"},
		{that: `service == "api" || !("GPL-3.0" in contents.licenses)`, want: true},
		{that: `service == "legacy" || !("GPL-3.0" in contents.licenses)`, err: "not known"},
		{that: `(contents.critical == -1 && service == "legacy") || contents.critical < 5`, err: "not known"},
		{that: `service != "contents.critical == -1" && contents.critical < 5`, err: "not known"},
		{that: `contents.critical == - 1 && contents.critical < 5`, err: "not known"},
		{that: `contents.critical != 3`, err: "not known"},
		{that: `[contents.critical].all(c, c < 5)`, err: "not known"},
		{that: `(contents.critical) == -1 ? contents.high <= -1.0 : contents.critical < 5`, want: true},
		{that: `[1].all(one, contents.critical == -1)`, want: true},
		{that: `before.errors < 0.01`, err: "not known"},
		{that: `before.p99 < 0.3`, err: "not known"},
		{that: `environment == "dev" || before.errors < 0.01`, err: "not known"},
		{that: `environment == "prod" || before.errors < 0.01`, want: true},
		{that: `artifact.id != ""`, want: true},
	} {
		got, err := Holds(t.Context(), events.Condition{That: test.that}, bare)
		if got != test.want || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%s: %v, %v", test.that, got, err)
		}
	}
	counted := bare
	counted.Before = Before{Environment: "test", Requests: 5, Errors: 0, P99: 0.1}
	if holds, err := Holds(t.Context(), events.Condition{That: `before.errors < 0.01 && before.p99 < 0.3`}, counted); !holds || err != nil {
		t.Errorf("what was counted: %v, %v", holds, err)
	}
}

func TestCheckRefusesWhatNothingCounts(t *testing.T) {
	process, outside := events.ProcessTarget, events.OutsideTarget
	for _, test := range []struct {
		targets []string
		at      int
		that    string
		want    string
	}{
		{[]string{process, process}, 0, `before.errors < 0.01`, "before.errors: there is no environment before the first"},
		{[]string{process, process}, 0, `environment == "dev" || before.soaked > 60.0`, "before.soaked: there is no environment before the first"},
		{[]string{process, process}, 0, `before.environment == ""`, ""},
		{[]string{process, process}, 1, `before.errors < 0.01`, ""},
		{[]string{outside, process}, 1, `before.p99 < 0.3`, "before.p99: another tool deploys to e0, before e1"},
		{[]string{outside, process}, 1, `before.soaked > 60.0`, ""},
		{[]string{process, process, outside, process}, 1, `before.requests > 10`, "before.requests: another tool deploys to e2, before e3"},
		{[]string{process, process, process, outside}, 1, `before.requests > 10`, ""},
	} {
		p := events.DefaultProject("shop")
		p.Environments = nil
		for i, target := range test.targets {
			p.Environments = append(p.Environments, events.Environment{Name: "e" + string(rune('0'+i)), Target: target})
		}
		p.Environments[test.at].Gate.Conditions = []events.Condition{{Name: "one", That: test.that}}
		wrong := Check(p)
		if (len(wrong) > 0) != (test.want != "") || len(wrong) > 0 && !strings.Contains(wrong[0].At(), test.want) {
			t.Errorf("%s at %d of %v: %v", test.that, test.at, test.targets, wrong)
		}
	}
}

func TestCheckRefusesWhatNothingProduces(t *testing.T) {
	p := events.DefaultProject("shop")
	for text, want := range map[string]string{
		`tests.coverage > 80.0`: "",
		`tests.mutants > 80.0`:  "at 1:6 of the expression: undefined field 'mutants'",
		`uptime > 1.0`:          "undeclared reference to 'uptime'",
		`tests.coverage`:        "makes double, not bool",
		`tests.coverage >`:      "Syntax error",
	} {
		p.Environments[1].Gate.Conditions = []events.Condition{{Name: "one", That: text}}
		wrong := Check(p)
		if (len(wrong) == 0) != (want == "") || len(wrong) > 0 && (!strings.Contains(wrong[0].At(), want) || wrong[0].Field != "environments[1].gate.conditions[0].that") {
			t.Errorf("%s: %v", text, wrong)
		}
	}
}
