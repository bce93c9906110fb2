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
	green := &events.Evidence{Run: "run-1", Tests: 12, Coverage: 81.25}
	promoted := Promotion{Environment: "dev", Fact: "f-1"}
	for _, test := range []struct {
		name   string
		policy events.Gate
		in     Input
		failed string // names of the failed checks
		wait   time.Duration
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
		{name: "never ran before", policy: events.Gate{Runtime: "passed", Soak: events.Duration(time.Hour)}, in: Input{Artifact: artifact(nil)}, failed: "runtime soak"},
		{name: "promoted", policy: events.Gate{Runtime: "passed"}, in: Input{Artifact: artifact(nil), Promotion: promoted}},
		{name: "soaks", policy: events.Gate{Soak: events.Duration(time.Hour)}, in: Input{Artifact: artifact(nil), Promotion: promoted, Soaked: 20 * time.Minute}, failed: "soak", wait: 40 * time.Minute},
		{name: "soaked", policy: events.Gate{Soak: events.Duration(time.Hour)}, in: Input{Artifact: artifact(nil), Promotion: promoted, Soaked: time.Hour}},
		{name: "signed", policy: events.Gate{Signature: "verified"}, in: Input{Artifact: supplied(&events.Supply{Signature: "c2ln", Provenance: "r"})}},
		{name: "not signed", policy: events.Gate{Signature: "verified"}, in: Input{Artifact: supplied(&events.Supply{})}, failed: "signature"},
		{name: "nothing known of it", policy: events.Gate{Signature: "verified"}, in: Input{Artifact: artifact(nil)}, failed: "signature"},
		{name: "few vulnerabilities", policy: bounded, in: Input{Artifact: supplied(&events.Supply{Vulnerabilities: &events.Vulnerabilities{High: 2, Medium: 9}})}},
		{name: "many vulnerabilities", policy: bounded, in: Input{Artifact: supplied(&events.Supply{Vulnerabilities: &events.Vulnerabilities{Critical: 1, High: 3}})},
			failed: "vulnerabilities.critical vulnerabilities.high"},
		{name: "unknown is not none", policy: bounded, in: Input{Artifact: supplied(&events.Supply{})}, failed: "vulnerabilities.critical vulnerabilities.high"},
		{name: "no use in soaking", policy: events.Gate{Tests: "passed", Soak: events.Duration(time.Hour)}, in: Input{Artifact: artifact(nil), Promotion: promoted}, failed: "tests soak"},
	} {
		t.Run(test.name, func(t *testing.T) {
			checks, passed, wait := Evaluate(test.policy, test.in)
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
			if waits := Waits(events.GateEvaluated{Passed: passed, Checks: checks}); waits != (test.wait > 0) {
				t.Errorf("waits %v", waits)
			}
			if (Reason(checks) == "") != passed {
				t.Errorf("reason %q", Reason(checks))
			}
		})
	}
}
