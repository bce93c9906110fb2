// Package gate judges whether an artifact may enter an environment: check by check, each with the value found, the
// threshold, and where the value comes from. What has no evidence does not pass. It is pure.
package gate

import (
	"fmt"
	"strings"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
)

// Names of the checks that the policy of an environment asks for; Artifact and Barred are always asked.
const (
	Artifact = "artifact"
	Barred   = "barred"
	Tests    = "tests"
	Coverage = "coverage"
	Runtime  = "runtime"
	Soak     = "soak"

	Signature       = "signature"
	Vulnerabilities = "vulnerabilities"
)

// Input is all that a gate may look at.
type Input struct {
	Artifact events.ArtifactDetail
	// Promotion proves that the artifact serves all users of the environment before and passed its runtime tests;
	// zero when nothing does.
	Promotion Promotion
	// Soaked is how long ago that was.
	Soaked time.Duration
	// Barred says why the artifact may enter no environment; empty when it may.
	Barred string
}

// Promotion names the fact by which an environment handed an artifact on.
type Promotion struct {
	Environment string `json:"environment"`
	Fact        string `json:"fact"` // id of its service published
}

// Evaluate judges an artifact against the policy of the environment that it wants to enter. wait is how much longer
// it has to soak when that is the only thing missing, else 0.
func Evaluate(policy events.Gate, in Input) (checks []events.Check, passed bool, wait time.Duration) {
	a := in.Artifact
	add := func(name, value, threshold string, ok bool, evidence string) {
		checks = append(checks, events.Check{Name: name, Value: value, Threshold: threshold, Passed: ok, Evidence: evidence})
	}

	digest := a.Digest
	if digest == "" {
		digest = "no digest"
	}
	add(Artifact, digest, "named by digest", a.Reference != "" && IsDigest(a.Digest), a.Reference)
	if in.Barred != "" {
		add(Barred, in.Barred, "not barred", false, "")
	} else {
		add(Barred, "not barred", "not barred", true, "")
	}
	if policy.Tests != "" {
		value, ok := "no evidence", false
		if e := a.Evidence; e != nil {
			value = fmt.Sprintf("%d ran, %d failed, %d skipped", e.Tests, e.Failed, e.Skipped)
			ok = e.Tests > 0 && e.Failed == 0
		}
		add(Tests, value, policy.Tests, ok, run(a.Evidence))
	}
	if policy.Coverage > 0 {
		value, ok := "no evidence", false
		if e := a.Evidence; e != nil {
			value, ok = fmt.Sprintf("%.1f %%", e.Coverage), e.Coverage >= policy.Coverage
		}
		add(Coverage, value, fmt.Sprintf("at least %g %%", policy.Coverage), ok, run(a.Evidence))
	}
	if policy.Signature != "" {
		// That it is there; before it runs, whoever pulls it verifies it.
		value, ok, evidence := "no evidence", false, ""
		if s := a.Supply; s != nil && s.Signature != "" && s.Provenance != "" {
			value, ok, evidence = "signed by "+s.Key, true, s.Provenance
		}
		add(Signature, value, policy.Signature, ok, evidence)
	}
	for _, severity := range events.Severities() {
		most, asked := policy.Vulnerabilities[severity]
		if !asked {
			continue
		}
		value, ok, evidence := "not known", false, ""
		if s := a.Supply; s != nil && s.Vulnerabilities != nil {
			n := s.Vulnerabilities.Count(severity)
			value, ok, evidence = fmt.Sprintf("%d known", n), n <= most, s.SBOM
		}
		add(Vulnerabilities+"."+string(severity), value, fmt.Sprintf("at most %d", most), ok, evidence)
	}
	promoted := in.Promotion.Fact != ""
	if policy.Runtime != "" {
		value := "no evidence"
		if promoted {
			value = "passed in " + in.Promotion.Environment
		}
		add(Runtime, value, policy.Runtime, promoted, in.Promotion.Fact)
	}
	if need := time.Duration(policy.Soak); need > 0 {
		value, ok := "no evidence", false
		if promoted {
			value, ok = in.Soaked.Truncate(time.Second).String(), in.Soaked >= need
		}
		add(Soak, value, "at least "+need.String(), ok, in.Promotion.Fact)
		if promoted && !ok && onlySoak(checks) {
			wait = need - in.Soaked
		}
	}
	passed = true
	for _, c := range checks {
		passed = passed && c.Passed
	}
	return checks, passed, wait
}

func onlySoak(checks []events.Check) bool {
	for _, c := range checks {
		if !c.Passed && c.Name != Soak {
			return false
		}
	}
	return true
}

// Waits reports whether a gate is closed only until the artifact has soaked long enough.
func Waits(g events.GateEvaluated) bool {
	last := len(g.Checks) - 1
	return !g.Passed && onlySoak(g.Checks) && last >= 0 && g.Checks[last].Evidence != ""
}

// Reason says in one sentence why a gate is closed; empty when it is open.
func Reason(checks []events.Check) string {
	var failed []string
	for _, c := range checks {
		if !c.Passed {
			failed = append(failed, fmt.Sprintf("%s: %s (asked for: %s)", c.Name, c.Value, c.Threshold))
		}
	}
	return strings.Join(failed, "; ")
}

func run(e *events.Evidence) string {
	if e == nil {
		return ""
	}
	return e.Run
}

// IsDigest reports whether s has the form sha256:<64 hex digits>.
func IsDigest(s string) bool {
	digits, ok := strings.CutPrefix(s, "sha256:")
	return ok && len(digits) == 64 && strings.Trim(digits, "0123456789abcdef") == ""
}
