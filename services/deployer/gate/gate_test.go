package gate

import (
	"strings"
	"testing"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
)

var digest = "sha256:" + strings.Repeat("ab", 32)

func artifact(e *events.Evidence) events.ArtifactDetail {
	return events.ArtifactDetail{Service: "api", Reference: "127.0.0.1:1/shop/api@" + digest, Digest: digest, Evidence: e}
}

func TestEvaluate(t *testing.T) {
	supplied := func(s *events.Supply) events.ArtifactDetail {
		a := artifact(nil)
		a.Supply = s
		return a
	}
	bounded := events.Gate{Vulnerabilities: map[events.Severity]int{events.SeverityCritical: 0, events.SeverityHigh: 2}}
	christmas := time.Date(2026, 12, 24, 12, 0, 0, 0, time.UTC)
	green := &events.Evidence{Run: "run-1", Tests: 12, Coverage: 81.25}
	promoted := Promotion{Environment: "dev", Fact: "f-1"}
	for _, test := range []struct {
		name   string
		policy events.Gate
		in     Input
		failed string // names of the failed checks
		wait   time.Duration
		looks  bool // it is closed only until somebody has looked something up
	}{
		{name: "nothing asked", in: Input{Artifact: artifact(nil)}},
		{name: "no digest", in: Input{Artifact: events.ArtifactDetail{Reference: "x"}}, failed: "artifact"},
		{name: "a digest that is none", in: Input{Artifact: events.ArtifactDetail{Reference: "x", Digest: "sha256:ab"}}, failed: "artifact"},
		{name: "barred", in: Input{Artifact: artifact(nil), Barred: "rolled back in prod"}, failed: "barred"},
		{name: "green", policy: events.Gate{Tests: "passed", Coverage: 80}, in: Input{Artifact: artifact(green)}},
		{name: "red", policy: events.Gate{Tests: "passed"}, in: Input{Artifact: artifact(&events.Evidence{Tests: 3, Failed: 1})}, failed: "tests"},
		{name: "no test ran", policy: events.Gate{Tests: "passed"}, in: Input{Artifact: artifact(&events.Evidence{Skipped: 3})}, failed: "tests"},
		{name: "no evidence", policy: events.Gate{Tests: "passed", Coverage: 1}, in: Input{Artifact: artifact(nil)}, failed: "tests coverage"},
		{name: "coverage", policy: events.Gate{Coverage: 81.3}, in: Input{Artifact: artifact(green)}, failed: "coverage"},
		{name: "changed lines", policy: events.Gate{Changed: 80}, in: Input{Artifact: artifact(&events.Evidence{Changed: &events.Covered{Percent: 80, Lines: 5}})}},
		{name: "too few changed lines", policy: events.Gate{Changed: 80}, in: Input{Artifact: artifact(&events.Evidence{Changed: &events.Covered{Percent: 79.9, Lines: 50}})}, failed: "coverage-changed"},
		{name: "no changed line can run", policy: events.Gate{Changed: 80}, in: Input{Artifact: artifact(&events.Evidence{Changed: &events.Covered{}})}},
		{name: "changed lines not measured", policy: events.Gate{Changed: 80}, in: Input{Artifact: artifact(green)}, failed: "coverage-changed"},
		{name: "never ran before", policy: events.Gate{Runtime: "passed", Soak: events.Duration(time.Hour)}, in: Input{Artifact: artifact(nil)}, failed: "runtime soak"},
		{name: "promoted", policy: events.Gate{Runtime: "passed"}, in: Input{Artifact: artifact(nil), Promotion: promoted}},
		{name: "soaks", policy: events.Gate{Soak: events.Duration(time.Hour)}, in: Input{Artifact: artifact(nil), Promotion: promoted, Soaked: 20 * time.Minute}, failed: "soak", wait: 40 * time.Minute},
		{name: "soaked", policy: events.Gate{Soak: events.Duration(time.Hour)}, in: Input{Artifact: artifact(nil), Promotion: promoted, Soaked: time.Hour}},
		{name: "signed", policy: events.Gate{Signature: "verified"}, in: Input{Artifact: supplied(&events.Supply{Signature: "c2ln", Provenance: "r"})}, failed: "signature", looks: true},
		{name: "verified", policy: events.Gate{Signature: "verified"}, in: Input{Artifact: supplied(&events.Supply{Signature: "c2ln", Provenance: "r"}),
			Looked: []events.Check{{Name: Artifact, Value: digest, Passed: true}, {Name: Signature, Value: "verified", Passed: true}}}},
		{name: "another's signature", policy: events.Gate{Signature: "verified"}, in: Input{Artifact: supplied(&events.Supply{Signature: "c2ln", Provenance: "r"}),
			Looked: []events.Check{{Name: Signature, Value: "no trusted key signed it"}}}, failed: "signature"},
		{name: "the registry has something else", policy: events.Gate{Signature: "verified"}, in: Input{Artifact: supplied(&events.Supply{Signature: "c2ln", Provenance: "r"}),
			Looked: []events.Check{{Name: Artifact, Value: "holds another"}, {Name: Signature, Value: "verified", Passed: true}}}, failed: "artifact"},
		{name: "not signed", policy: events.Gate{Signature: "verified"}, in: Input{Artifact: supplied(&events.Supply{})}, failed: "signature"},
		{name: "nothing known of it", policy: events.Gate{Signature: "verified"}, in: Input{Artifact: artifact(nil)}, failed: "signature"},
		{name: "few vulnerabilities", policy: bounded, in: Input{Artifact: supplied(&events.Supply{Vulnerabilities: &events.Vulnerabilities{High: 2, Medium: 9}})}},
		{name: "many vulnerabilities", policy: bounded, in: Input{Artifact: supplied(&events.Supply{Vulnerabilities: &events.Vulnerabilities{Critical: 1, High: 3}})},
			failed: "vulnerabilities.critical vulnerabilities.high"},
		{name: "unknown is not none", policy: bounded, in: Input{Artifact: supplied(&events.Supply{})}, failed: "vulnerabilities.critical vulnerabilities.high"},
		{name: "licences", policy: events.Gate{Licenses: []string{"MIT"}}, in: Input{Artifact: supplied(&events.Supply{SBOM: "r", Licenses: []string{"MIT"}})}},
		{name: "another licence", policy: events.Gate{Licenses: []string{"MIT"}}, in: Input{Artifact: supplied(&events.Supply{SBOM: "r", Licenses: []string{"AGPL-3.0", "MIT"}})}, failed: "licenses"},
		{name: "a licence that nobody knows", policy: events.Gate{Licenses: []string{"MIT"}}, in: Input{Artifact: supplied(&events.Supply{SBOM: "r", Unlicensed: []string{"example.org/m"}})}, failed: "licenses"},
		{name: "licences not known", policy: events.Gate{Licenses: []string{"MIT"}}, in: Input{Artifact: supplied(&events.Supply{})}, failed: "licenses"},
		{name: "frozen", policy: events.Gate{Freeze: []events.Freeze{{From: "2026-12-23", Until: "2027-01-02"}}}, in: Input{Artifact: artifact(nil), Now: christmas}, failed: "freeze", wait: 8*24*time.Hour + 12*time.Hour},
		{name: "frozen, and red", policy: events.Gate{Tests: "passed", Freeze: []events.Freeze{{From: "2026-12-23", Until: "2027-01-02"}}}, in: Input{Artifact: artifact(nil), Now: christmas}, failed: "tests freeze"},
		{name: "not frozen any more", policy: events.Gate{Freeze: []events.Freeze{{From: "2026-12-20", Until: "2026-12-24"}}}, in: Input{Artifact: artifact(nil), Now: christmas}},
		{name: "before, not counted yet", policy: events.Gate{Before: &events.Before{Requests: 5}}, in: Input{Artifact: artifact(nil), Promotion: promoted}, failed: "before.requests", looks: true},
		{name: "before, never there", policy: events.Gate{Before: &events.Before{Requests: 5}}, in: Input{Artifact: artifact(nil)}, failed: "before.requests"},
		{name: "a condition, after soaking", policy: events.Gate{Soak: events.Duration(time.Hour), Conditions: []events.Condition{{Name: "small", That: "true"}}},
			in: Input{Artifact: artifact(nil), Promotion: promoted, Soaked: 50 * time.Minute}, failed: "soak conditions.small", wait: 10 * time.Minute},
		{name: "a condition", policy: events.Gate{Conditions: []events.Condition{{Name: "small", That: "true"}}}, in: Input{Artifact: artifact(nil)}, failed: "conditions.small", looks: true},
		{name: "a condition that does not hold", policy: events.Gate{Conditions: []events.Condition{{Name: "small", That: "false"}}},
			in: Input{Artifact: artifact(nil), Looked: []events.Check{{Name: "conditions.small", Value: "false"}}}, failed: "conditions.small"},
		{name: "no use in soaking", policy: events.Gate{Tests: "passed", Soak: events.Duration(time.Hour)}, in: Input{Artifact: artifact(nil), Promotion: promoted}, failed: "tests soak"},
	} {
		t.Run(test.name, func(t *testing.T) {
			out := Evaluate(test.policy, test.in)
			checks, passed, wait := out.Checks, out.Passed, out.Wait
			var failed []string
			for _, c := range checks {
				if !c.Passed {
					failed = append(failed, c.Name)
				}
				if c.Value == "" || c.Threshold == "" {
					t.Errorf("check %+v says too little", c)
				}
			}
			if got := strings.Join(failed, " "); got != test.failed || passed != (got == "") || wait != test.wait {
				t.Errorf("failed %q, passed %v, wait %s", got, passed, wait)
			}
			fact := events.GateEvaluated{Passed: passed, Checks: checks}
			if Waits(fact) != (test.wait > 0) || Looks(fact) != test.looks {
				t.Errorf("waits %v, looks %v", Waits(fact), Looks(fact))
			}
			if (Reason(checks) == "") != passed {
				t.Errorf("reason %q", Reason(checks))
			}
		})
	}
}

// Facts that were stated before checks could be pending are read as they were meant.
func TestAnOldFactWaits(t *testing.T) {
	soak := events.Check{Name: Soak, Value: "20m0s", Threshold: "at least 1h0m0s", Evidence: "f-1"}
	if !Waits(events.GateEvaluated{Checks: []events.Check{{Name: Artifact, Passed: true}, soak}}) {
		t.Error("it soaked")
	}
	soak.Evidence = ""
	for _, checks := range [][]events.Check{{soak}, {{Name: Tests}, {Name: Soak, Evidence: "f-1"}}, {{Name: "environment", Value: "not configured"}}, {}} {
		if fact := (events.GateEvaluated{Checks: checks}); Waits(fact) || Looks(fact) {
			t.Errorf("%+v was closed for good", checks)
		}
	}
}
