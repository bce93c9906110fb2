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
		Supply: &events.Supply{Signature: "c2ln", Licenses: []string{"MIT"}, Vulnerabilities: &events.Vulnerabilities{High: 2}},
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
