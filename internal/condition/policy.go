package condition

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"

	"github.com/lemnis/lemnis/internal/mapping"
	"github.com/lemnis/lemnis/pkg/events"
)

// Policies are about the configuration: project and environment are as people write them, numbers as such and durations as text.
//
//	environment.strategy == "canary" && environment.gate.approvals >= 1
//	has(project.quarantine) == false
var configured = sync.OnceValues(func() (*cel.Env, error) {
	env, err := environment()
	if err != nil {
		return nil, err
	}
	written := cel.MapType(cel.StringType, cel.DynType)
	object := func(name string) *cel.Type { return cel.ObjectType("condition." + name) }
	bare, err := cel.NewEnv(cel.CustomTypeAdapter(env.CELTypeAdapter()), cel.CustomTypeProvider(env.CELTypeProvider()))
	if err != nil {
		return nil, err
	}
	return bare.Extend(
		cel.Variable("project", written), cel.Variable("environment", written), cel.Variable("service", cel.StringType),
		cel.Variable("artifact", object("Artifact")), cel.Variable("tests", object("Tests")), cel.Variable("contents", object("Contents")),
		cel.CrossTypeNumericComparisons(true),
	)
})

// Complies evaluates a policy of the environment that a rollout is in. What is not known of the artifact makes none true.
func Complies(ctx context.Context, c events.Condition, p events.Project, r events.Rollout) (bool, error) {
	env, err := configured()
	if err != nil {
		return false, err
	}
	project, err := written(p)
	if err != nil {
		return false, err
	}
	policy, _ := p.Environment(r.Environment)
	own, err := written(policy)
	if err != nil {
		return false, err
	}
	f := Of(r, time.Time{})
	f.unasked = true
	return f.holds(ctx, env, c.That, map[string]any{
		"project": project, "environment": own, "service": r.Service, "artifact": f.Artifact, "tests": f.Tests, "contents": f.Contents,
	})
}

func written(of any) (out map[string]any, err error) {
	text, err := json.Marshal(of)
	if err == nil {
		err = json.Unmarshal(text, &out)
	}
	return out, err
}

// checkPolicies refuses what does not compile, and what asks for a field that the configuration does not have: it would never hold.
func checkPolicies(p events.Project) (all []mapping.Error) {
	env, err := configured()
	if err != nil {
		return []mapping.Error{{Reason: err.Error()}}
	}
	for i, e := range p.Environments {
		if e.Runtime == nil {
			continue
		}
		for j, c := range e.Runtime.Policy {
			field := fmt.Sprintf("environments[%d].runtime.policy[%d].that", i, j)
			_, wrong := mapping.Program(env, c.That, types.BoolType)
			for _, w := range wrong {
				w.Field = field
				all = append(all, w)
			}
			if len(wrong) > 0 {
				continue
			}
			if _, err := Complies(context.Background(), c, p, events.Rollout{Environment: e.Name}); err != nil && strings.Contains(err.Error(), "no such key") {
				all = append(all, mapping.Error{Field: field, Reason: err.Error() + " in the configuration; where it may be left out, ask has(…) first"})
			}
		}
	}
	return all
}
