package definition

import (
	"errors"
	"fmt"
	"sync"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/ext"
)

// Occasion is what a pipeline is run for; conditions are about it.
type Occasion struct {
	Branch string   // the master copy's
	Change string   // id of the change; empty for the master copy itself
	Paths  []string // files that the change touches; nil where that is not known, as for the master copy
}

const mostCost = 100_000 // of one condition, in CEL's units

var conditions = sync.OnceValues(func() (*cel.Env, error) {
	return cel.NewEnv(
		cel.Variable("branch", cel.StringType), cel.Variable("change", cel.StringType), cel.Variable("paths", cel.ListType(cel.StringType)),
		ext.Strings(ext.StringsVersion(5)),
	)
})

func program(when string) (cel.Program, error) {
	env, err := conditions()
	if err != nil {
		return nil, err
	}
	ast, issues := env.Compile(when)
	if issues.Err() != nil {
		first := issues.Errors()[0]
		return nil, fmt.Errorf("at %d:%d of the expression: %s", first.Location.Line(), first.Location.Column()+1, first.Message)
	}
	if !ast.OutputType().IsExactType(types.BoolType) {
		return nil, fmt.Errorf("the expression makes %s, not bool", ast.OutputType())
	}
	return env.Program(ast, cel.CostLimit(mostCost))
}

// compile says what is wrong with a condition.
func compile(when string) error {
	if when == "" {
		return nil
	}
	_, err := program(when)
	return err
}

func (o Occasion) meets(when string) (bool, error) {
	if when == "" {
		return true, nil
	}
	p, err := program(when)
	if err != nil {
		return false, err
	}
	paths := o.Paths
	if paths == nil {
		paths = []string{}
	}
	out, _, err := p.Eval(map[string]any{"branch": o.Branch, "change": o.Change, "paths": paths})
	if err != nil {
		return false, err
	}
	met, ok := out.Value().(bool)
	if !ok {
		return false, errors.New("the expression makes no bool")
	}
	return met, nil
}
