// Package gate judges whether an artifact may enter an environment: check by check, each with the value found, the
// threshold, and where the value comes from. What has no evidence does not pass. It is pure: what has to be looked up first
// (signatures, the registry, what users met before, conditions) is pending until the look-up's checks are given.
package gate

import (
	"fmt"
	"slices"
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
	Changed  = "coverage-changed"
	Runtime  = "runtime"
	Soak     = "soak"
	Licenses = "licenses"
	Freeze   = "freeze"

	Signature       = "signature"
	Vulnerabilities = "vulnerabilities"

	BeforeRequests = "before.requests"
	BeforeErrors   = "before.errors"
	BeforeP99      = "before.p99"

	conditions = "conditions."
)

// Condition is the name of the check that a condition is.
func Condition(name string) string { return conditions + name }

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
	// Now is when it is asked.
	Now time.Time
	// Looked holds the checks that somebody looked up; nil: nobody has.
	Looked []events.Check
}

// Promotion names the fact by which an environment handed an artifact on.
type Promotion struct {
	Environment string `json:"environment"`
	Fact        string `json:"fact"` // id of its service published
}

// Outcome is what a gate says.
type Outcome struct {
	Checks []events.Check
	Passed bool
	// Wait is how long it is closed at least, where time alone may open it; else 0.
	Wait time.Duration
}

// Evaluate judges an artifact against the policy of the environment that it wants to enter.
func Evaluate(policy events.Gate, in Input) Outcome {
	e := &evaluation{in: in}
	e.artifact()
	e.pipeline(policy)
	e.contents(policy)
	e.promotion(policy)
	e.freeze(policy.Freeze)
	e.looked(policy)
	out := Outcome{Checks: e.checks, Passed: true}
	hopeless := false
	for _, c := range out.Checks {
		out.Passed = out.Passed && c.Passed
		hopeless = hopeless || !c.Passed && !c.Pending
	}
	if !hopeless {
		out.Wait = e.wait
	}
	for i := range out.Checks { // nobody waits for a gate that is closed for good
		out.Checks[i].Pending = out.Checks[i].Pending && !hopeless
	}
	return out
}

type evaluation struct {
	in     Input
	checks []events.Check
	wait   time.Duration
}

func (e *evaluation) add(name, value, threshold string, ok bool, evidence string) *events.Check {
	e.checks = append(e.checks, events.Check{Name: name, Value: value, Threshold: threshold, Passed: ok, Evidence: evidence})
	return &e.checks[len(e.checks)-1]
}

// look adds a check that has to be looked up: the one that was, or one that is pending.
func (e *evaluation) look(name, value, threshold, evidence string) {
	if i := slices.IndexFunc(e.in.Looked, func(c events.Check) bool { return c.Name == name }); i >= 0 {
		c := e.in.Looked[i]
		e.add(name, c.Value, threshold, c.Passed, c.Evidence)
		return
	}
	e.add(name, value, threshold, false, evidence).Pending = true
}

// artifact is looked up at the registry where anything is; where not, whoever pulls it by its digest finds out.
func (e *evaluation) artifact() {
	a := e.in.Artifact
	digest := a.Digest
	if digest == "" {
		digest = "no digest"
	}
	ok, evidence := a.Reference != "" && IsDigest(a.Digest), a.Reference
	if i := slices.IndexFunc(e.in.Looked, func(c events.Check) bool { return c.Name == Artifact }); i >= 0 {
		digest, ok, evidence = e.in.Looked[i].Value, ok && e.in.Looked[i].Passed, e.in.Looked[i].Evidence
	}
	e.add(Artifact, digest, "named by digest", ok, evidence)
	if e.in.Barred != "" {
		e.add(Barred, e.in.Barred, "not barred", false, "")
	} else {
		e.add(Barred, "not barred", "not barred", true, "")
	}
}

// pipeline is what the owner of the phase integrate states with the artifact; nobody else's word is among it.
func (e *evaluation) pipeline(policy events.Gate) {
	found := e.in.Artifact.Evidence
	if policy.Tests != "" {
		value, ok := "no evidence", false
		if found != nil {
			value = fmt.Sprintf("%d ran, %d failed, %d skipped", found.Tests, found.Failed, found.Skipped)
			ok = found.Tests > 0 && found.Failed == 0
		}
		e.add(Tests, value, policy.Tests, ok, run(found))
	}
	if policy.Coverage > 0 {
		value, ok := "no evidence", false
		if found != nil {
			value, ok = fmt.Sprintf("%.1f %%", found.Coverage), found.Coverage >= policy.Coverage
		}
		e.add(Coverage, value, fmt.Sprintf("at least %g %%", policy.Coverage), ok, run(found))
	}
	if policy.Changed > 0 {
		value, ok := "no evidence", false
		if found != nil && found.Changed != nil {
			c := *found.Changed
			value, ok = fmt.Sprintf("%.1f %% of %d lines", c.Percent, c.Lines), c.Lines == 0 || c.Percent >= policy.Changed
		}
		e.add(Changed, value, fmt.Sprintf("at least %g %%", policy.Changed), ok, run(found))
	}
}

// contents are where the artifact comes from and what is in it.
func (e *evaluation) contents(policy events.Gate) {
	supply := e.in.Artifact.Supply
	if policy.Signature != "" {
		if supply != nil && supply.Signature != "" && supply.Provenance != "" {
			e.look(Signature, "said to be signed by "+supply.Key+", not yet verified", policy.Signature, supply.Provenance)
		} else {
			e.add(Signature, "no evidence", policy.Signature, false, "")
		}
	}
	for _, severity := range events.Severities() {
		most, asked := policy.Vulnerabilities[severity]
		if !asked {
			continue
		}
		value, ok, evidence := "not known", false, ""
		if supply != nil && supply.Vulnerabilities != nil {
			n := supply.Vulnerabilities.Count(severity)
			value, ok, evidence = fmt.Sprintf("%d known", n), n <= most, supply.SBOM
		}
		e.add(Vulnerabilities+"."+string(severity), value, fmt.Sprintf("at most %d", most), ok, evidence)
	}
	if len(policy.Licenses) > 0 {
		value, ok, evidence := "not known", false, ""
		if supply != nil && supply.SBOM != "" {
			value, ok = licences(*supply, policy.Licenses)
			evidence = supply.SBOM
		}
		e.add(Licenses, value, "among "+strings.Join(policy.Licenses, ", "), ok, evidence)
	}
}

func licences(s events.Supply, allowed []string) (value string, ok bool) {
	refused := slices.DeleteFunc(slices.Clone(s.Licenses), func(l string) bool { return slices.Contains(allowed, l) })
	switch {
	case len(refused) > 0:
		return "also " + strings.Join(refused, ", "), false
	case len(s.Unlicensed) > 0:
		return "not known of " + strings.Join(s.Unlicensed, ", "), false
	case len(s.Licenses) == 0:
		return "no modules of others", true
	}
	return strings.Join(s.Licenses, ", "), true
}

// promotion is what the environment before stated.
func (e *evaluation) promotion(policy events.Gate) {
	fact := e.in.Promotion.Fact
	if policy.Runtime != "" {
		value := "no evidence"
		if fact != "" {
			value = "passed in " + e.in.Promotion.Environment
		}
		e.add(Runtime, value, policy.Runtime, fact != "", fact)
	}
	if need := time.Duration(policy.Soak); need > 0 {
		value, ok := "no evidence", false
		if fact != "" {
			value, ok = e.in.Soaked.Truncate(time.Second).String(), e.in.Soaked >= need
		}
		c := e.add(Soak, value, "at least "+need.String(), ok, fact)
		if fact != "" && !ok {
			c.Pending, e.wait = true, max(e.wait, need-e.in.Soaked)
		}
	}
}

// freeze holds up, and closes nothing for good.
func (e *evaluation) freeze(windows []events.Freeze) {
	if len(windows) == 0 {
		return
	}
	end, which := Frozen(windows, e.in.Now)
	if end.IsZero() {
		e.add(Freeze, "open at "+e.in.Now.UTC().Format(time.RFC3339), "outside of "+fmt.Sprint(len(windows))+" windows", true, "")
		return
	}
	e.add(Freeze, "frozen until "+end.Format(time.RFC3339), "outside of "+which.String(), false, "").Pending = true
	e.wait = max(e.wait, end.Sub(e.in.Now))
}

// Frozen is when the window ends that a time is in, the latest of several; zero when it is in none.
func Frozen(windows []events.Freeze, at time.Time) (end time.Time, which events.Freeze) {
	for _, w := range windows {
		if until, in := w.Ends(at); in && until.After(end) {
			end, which = until, w
		}
	}
	return end, which
}

// looked are the checks that somebody has to look up.
func (e *evaluation) looked(policy events.Gate) {
	if b := policy.Before; b != nil {
		if e.in.Promotion.Fact == "" {
			e.add(BeforeRequests, "no evidence", fmt.Sprintf("at least %d", b.Least()), false, "")
			return
		}
		e.look(BeforeRequests, "not yet counted", fmt.Sprintf("at least %d", b.Least()), "")
		if b.Errors != nil {
			e.look(BeforeErrors, "not yet counted", fmt.Sprintf("at most %.4g %%", 100*float64(*b.Errors)), "")
		}
		if b.P99 > 0 {
			e.look(BeforeP99, "not yet counted", "at most "+time.Duration(b.P99).String(), "")
		}
	}
	for _, c := range policy.Conditions {
		e.look(Condition(c.Name), "not yet evaluated", c.That, "")
	}
}

// Waits reports whether time alone may open a gate; a look-up comes after it.
func Waits(g events.GateEvaluated) bool {
	waits := false
	for _, c := range g.Checks {
		timed := c.Name == Soak || c.Name == Freeze
		// Facts from before checks could be pending had no other that waited.
		pending := c.Pending || c.Name == Soak && c.Evidence != ""
		if !c.Passed && !pending {
			return false
		}
		waits = waits || timed && !c.Passed
	}
	return waits && !g.Passed
}

// Looks reports whether a gate is closed only until somebody has looked something up.
func Looks(g events.GateEvaluated) bool {
	return !g.Passed && !Waits(g) && len(g.Checks) > 0 && !slices.ContainsFunc(g.Checks, func(c events.Check) bool { return !c.Passed && !c.Pending })
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
