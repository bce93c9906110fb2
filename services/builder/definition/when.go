package definition

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/ext"
)

// Occasion is what a pipeline is run for; conditions are about it.
type Occasion struct {
	Branch string   // the master copy's
	Change string   // id of the change; empty for the master copy itself
	Paths  []string // files that the change touches; nil where that is not known, as for the master copy

	Touched func() ([]string, error) // says what Paths are, once a condition asks; nil: they are as they stand
}

// A condition is bounded by time: to count what it costs takes CEL quadratic time in the number of paths. It is looked at every so many
// rounds of a macro.
const (
	mostTime = 10 * time.Second
	rounds   = 1000
)

var conditions = sync.OnceValues(func() (*cel.Env, error) {
	return cel.NewEnv(
		cel.Variable("branch", cel.StringType), cel.Variable("change", cel.StringType), cel.Variable("paths", cel.ListType(cel.StringType)),
		ext.Strings(ext.StringsVersion(5)),
	)
})

// ErrPaths says that what a change touches could not be found out, which is not the definition's fault.
var ErrPaths = errors.New("what the change touches can not be found out")

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
	return env.Program(ast, cel.InterruptCheckFrequency(rounds))
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
	paths := o.Paths
	if o.Touched != nil && strings.Contains(when, "paths") {
		var err error
		if paths, err = o.Touched(); err != nil {
			return false, fmt.Errorf("%w: %w", ErrPaths, err)
		}
	}
	p, err := program(when)
	if err != nil {
		return false, err
	}
	if paths == nil {
		paths = []string{}
	}
	ctx, cancel := context.WithTimeout(context.Background(), mostTime)
	defer cancel()
	out, _, err := p.ContextEval(ctx, map[string]any{"branch": o.Branch, "change": o.Change, "paths": paths})
	if ctx.Err() != nil {
		return false, fmt.Errorf("the expression is not evaluated after %s, with %d paths", mostTime, len(paths))
	}
	if err != nil {
		return false, err
	}
	met, ok := out.Value().(bool)
	if !ok {
		return false, errors.New("the expression makes no bool")
	}
	return met, nil
}
