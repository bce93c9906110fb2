// Package condition evaluates the checks that a project adds to its gates: CEL expressions over what is known of an artifact.
//
//	tests.coverage > 80.0 && !artifact.title.startsWith("WIP")
//	environment != "prod" || time.getDayOfWeek("UTC") < 5
//
// What an expression may look at has types: a name that nothing produces evidence for is refused when the project is applied.
package condition

import (
	"context"
	"fmt"
	"reflect"
	"sync"
	"time"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/ext"

	"github.com/lemnis/lemnis/internal/mapping"
	"github.com/lemnis/lemnis/pkg/events"
)

// Facts are what an expression may look at: environment, service, time, artifact, tests, contents, before.
type Facts struct {
	Environment string // that the artifact wants to enter
	Service     string
	Time        time.Time // of the evaluation
	Artifact    Artifact
	Tests       Tests
	Contents    Contents
	Before      Before

	unlisted bool // nobody listed the licences
	unasked  bool // what users met before can not be asked for
}

// Artifact is what wants to enter.
type Artifact struct {
	ID         string `json:"id"`
	Digest     string `json:"digest"`
	Repository string `json:"repository"`
	Size       int64  `json:"size"` // bytes
	Commit     string `json:"commit"`
	Change     string `json:"change"`
	Item       string `json:"item"`
	Title      string `json:"title"`
	Author     string `json:"author"`
}

// Tests are those of the pipeline.
type Tests struct {
	Known    bool    `json:"known"`
	Ran      int64   `json:"ran"`
	Failed   int64   `json:"failed"`
	Skipped  int64   `json:"skipped"`
	Coverage float64 `json:"coverage"` // percent
	Changed  float64 `json:"changed"`  // percent of the lines that the change touches; −1 where it is not known
}

// Contents are what the builder found in the artifact. Counts are −1 where nothing is known.
type Contents struct {
	Signed     bool     `json:"signed"`
	Licenses   []string `json:"licenses"`
	Unlicensed []string `json:"unlicensed"`
	Critical   int64    `json:"critical"`
	High       int64    `json:"high"`
	Medium     int64    `json:"medium"`
	Low        int64    `json:"low"`
	Unrated    int64    `json:"unrated"`
}

// Before is what users met of the artifact in the environment before.
type Before struct {
	Environment string  `json:"environment"` // empty: there is none
	Requests    int64   `json:"requests"`
	Errors      float64 `json:"errors"` // share, 0 to 1
	P99         float64 `json:"p99"`    // seconds
	Soaked      float64 `json:"soaked"` // seconds
}

// Of is what is known of an artifact; what users met of it before is for the caller to add.
func Of(r events.Rollout, at time.Time) Facts {
	a := r.Artifact
	f := Facts{
		Environment: r.Environment, Service: r.Service, Time: at,
		Artifact: Artifact{ID: a.ID, Digest: a.Digest, Repository: a.Repository, Size: a.Size, Commit: a.Commit, Change: a.Change, Item: a.Item, Title: a.Title, Author: a.Author},
		Tests:    Tests{Changed: -1}, Contents: Contents{Critical: -1, High: -1, Medium: -1, Low: -1, Unrated: -1},
	}
	if e := a.Evidence; e != nil {
		f.Tests = Tests{true, int64(e.Tests), int64(e.Failed), int64(e.Skipped), e.Coverage, -1}
		if e.Changed != nil {
			f.Tests.Changed = e.Changed.Percent
			if e.Changed.Lines == 0 {
				f.Tests.Changed = 100
			}
		}
	}
	f.unlisted = a.Supply == nil || a.Supply.SBOM == ""
	if s := a.Supply; s != nil {
		c := &f.Contents
		c.Signed, c.Licenses, c.Unlicensed = s.Signature != "", s.Licenses, s.Unlicensed
		if v := s.Vulnerabilities; v != nil {
			of := func(s events.Severity) int64 { return int64(v.Count(s)) }
			c.Critical, c.High, c.Medium = of(events.SeverityCritical), of(events.SeverityHigh), of(events.SeverityMedium)
			c.Low, c.Unrated = of(events.SeverityLow), of(events.SeverityUnrated)
		}
	}
	return f
}

var environment = sync.OnceValues(func() (*cel.Env, error) {
	object := func(name string) *cel.Type { return cel.ObjectType("condition." + name) }
	return cel.NewEnv(
		ext.NativeTypes(ext.ParseStructTag("json"), reflect.TypeFor[Artifact](), reflect.TypeFor[Tests](), reflect.TypeFor[Contents](), reflect.TypeFor[Before]()),
		cel.Variable("environment", cel.StringType), cel.Variable("service", cel.StringType), cel.Variable("time", cel.TimestampType),
		cel.Variable("artifact", object("Artifact")), cel.Variable("tests", object("Tests")),
		cel.Variable("contents", object("Contents")), cel.Variable("before", object("Before")),
		cel.CrossTypeNumericComparisons(true), ext.Strings(ext.StringsVersion(5)),
	)
})

// Check says what is wrong with the conditions of a project; each error names its field.
func Check(p events.Project) (all []mapping.Error) {
	env, err := environment()
	if err != nil {
		return []mapping.Error{{Reason: err.Error()}}
	}
	for i, e := range p.Environments {
		for j, c := range e.Gate.Conditions {
			_, wrong := mapping.Program(env, c.That, types.BoolType)
			if len(wrong) == 0 {
				wrong = unproven(p.Environments, i, c.That)
			}
			for _, w := range wrong {
				w.Field = fmt.Sprintf("environments[%d].gate.conditions[%d].that", i, j)
				all = append(all, w)
			}
		}
	}
	return append(all, checkPolicies(p)...)
}

// Holds evaluates one condition. What is not known makes none true.
func Holds(ctx context.Context, c events.Condition, f Facts) (bool, error) {
	env, err := environment()
	if err != nil {
		return false, err
	}
	return f.holds(ctx, env, c.That, map[string]any{
		"environment": f.Environment, "service": f.Service, "time": f.Time,
		"artifact": f.Artifact, "tests": f.Tests, "contents": f.Contents, "before": f.Before,
	})
}

func truth(ctx context.Context, program cel.Program, of any) (bool, error) {
	out, _, err := program.ContextEval(ctx, of)
	if err != nil {
		return false, err
	}
	holds, ok := out.Value().(bool)
	if !ok {
		return false, fmt.Errorf("it made %v, which is neither true nor false", out.Value())
	}
	return holds, nil
}
