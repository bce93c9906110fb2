package definition

import (
	"context"
	"errors"
	"fmt"
	"regexp/syntax"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/overloads"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/ext"
	"github.com/google/cel-go/parser"
)

// Occasion is what a pipeline is run for; conditions are about it.
type Occasion struct {
	Branch string   // the master copy's
	Change string   // id of the change; empty for the master copy itself
	Paths  []string // files that the change touches; nil where that is not known, as for the master copy

	Touched func() ([]string, error) // says what Paths are, once a condition asks; nil: they are as they stand
}

// Conditions are bounded by time, all of an occasion together: to count what they cost takes CEL quadratic time in the number of paths. It
// is looked at every so many rounds of a macro. What they may hold is bounded by what they may say, see [bounded].
const (
	mostTime    = 10 * time.Second
	rounds      = 10   // a round may match a long pattern
	mostWhen    = 4096 // bytes of one
	mostNested  = 3    // macros in one another
	mostPattern = 5000 // steps of all patterns of one
)

var conditions = sync.OnceValues(func() (*cel.Env, error) {
	return cel.NewEnv(
		cel.Variable("branch", cel.StringType), cel.Variable("change", cel.StringType), cel.Variable("paths", cel.ListType(cel.StringType)),
		ext.Strings(ext.StringsVersion(5)),
		cel.ClearMacros(), cel.Macros(cel.HasMacro, cel.AllMacro, cel.ExistsMacro, cel.ExistsOneMacro, cel.FilterMacro), // no map: it makes more of what it gets
	)
})

// ErrPaths says that what a change touches could not be found out, which is not the definition's fault.
var ErrPaths = errors.New("what the change touches can not be found out")

// ErrTooMany is an [Occasion.Touched]'s: the change touches more than can be listed, which is not the machinery's fault.
var ErrTooMany = errors.New("the change touches more files than can be listed")

func program(when string) (cel.Program, error) {
	if len(when) > mostWhen {
		return nil, fmt.Errorf("the expression has %d bytes; %d at most", len(when), mostWhen)
	}
	env, err := conditions()
	if err != nil {
		return nil, err
	}
	compiled, issues := env.Compile(when)
	if issues.Err() != nil {
		first := issues.Errors()[0]
		return nil, fmt.Errorf("at %d:%d of the expression: %s", first.Location.Line(), first.Location.Column()+1, first.Message)
	}
	if !compiled.OutputType().IsExactType(types.BoolType) {
		return nil, fmt.Errorf("the expression makes %s, not bool", compiled.OutputType())
	}
	if err := bounded(compiled.NativeRep()); err != nil {
		return nil, err
	}
	return env.Program(compiled, cel.InterruptCheckFrequency(rounds), cel.EvalOptions(cel.OptOptimize)) // patterns are compiled once, not for each path
}

// growing make texts that are longer than what they are made of, and of those longer ones: some bytes of a condition made many GiB.
var growing = []string{"replace", "join", "format", "strings.quote"}

// bounded says what in a condition could make much of little. What it may be made of is left: comparisons, counting, and picking out.
func bounded(tree *ast.AST) (err error) {
	at := func(e ast.Expr, format string, args ...any) {
		if err == nil {
			place := tree.SourceInfo().GetStartLocation(e.ID())
			err = fmt.Errorf("at %d:%d of the expression: %s", place.Line(), place.Column()+1, fmt.Sprintf(format, args...))
		}
	}
	steps := 0
	var visit func(e ast.NavigableExpr, nested int)
	visit = func(e ast.NavigableExpr, nested int) {
		switch e.Kind() {
		case ast.ComprehensionKind:
			if nested++; nested > mostNested {
				at(e, "more than %d macros in one another", mostNested)
			}
		case ast.CallKind:
			call := e.AsCall()
			switch name := call.FunctionName(); {
			case name == operators.Add:
				// What filter is made of adds to what the condition itself can not name.
				if ours := call.Args()[0]; ours.Kind() == ast.IdentKind && ours.AsIdent() == parser.HiddenAccumulatorName {
					break
				}
				for _, overload := range tree.GetOverloadIDs(e.ID()) {
					if slices.Contains([]string{overloads.AddString, overloads.AddBytes, overloads.AddList}, overload) {
						at(e, "only numbers and times can be added up here")
					}
				}
			case slices.Contains(growing, name):
				at(e, "%s can not be used here", name)
			case name == overloads.Matches:
				pattern := call.Args()[len(call.Args())-1]
				text, is := "", false
				if pattern.Kind() == ast.LiteralKind {
					text, is = pattern.AsLiteral().Value().(string)
				}
				if !is {
					at(e, "the pattern has to stand here as it is")
				} else if p, wrong := syntax.Parse(text, syntax.Perl); wrong != nil {
					at(e, "%s", wrong)
				} else if steps += stepsOf(p); steps > mostPattern {
					at(e, "the patterns repeat too much")
				}
			}
		}
		for _, child := range e.Children() {
			visit(child, nested)
		}
	}
	visit(ast.NavigateAST(tree), 0)
	return err
}

// stepsOf is about how much a pattern is once its repetitions are written out.
func stepsOf(p *syntax.Regexp) int {
	n := 1 + len(p.Rune)
	for _, sub := range p.Sub {
		n += stepsOf(sub)
	}
	if p.Op == syntax.OpRepeat {
		n *= max(p.Min, p.Max, 1)
	}
	return min(n, mostPattern+1)
}

// compile says what is wrong with a condition.
func compile(when string) error {
	if when == "" {
		return nil
	}
	_, err := program(when)
	return err
}

// looked is the occasion with its paths looked up, where a condition asks for them; and the name of the first step that does.
func (o Occasion) looked(steps []Step) (Occasion, string, error) {
	i := slices.IndexFunc(steps, func(s Step) bool { return strings.Contains(s.When, "paths") })
	if i >= 0 && o.Touched != nil {
		var err error
		if o.Paths, err = o.Touched(); errors.Is(err, ErrTooMany) {
			return o, steps[i].Name, err
		} else if err != nil {
			return o, steps[i].Name, fmt.Errorf("%w: %w", ErrPaths, err)
		}
	}
	if o.Paths == nil {
		o.Paths = []string{}
	}
	return o, "", nil
}

func (o Occasion) meets(ctx context.Context, when string) (bool, error) {
	if when == "" {
		return true, nil
	}
	p, err := program(when)
	if err != nil {
		return false, err
	}
	out, _, err := p.ContextEval(ctx, map[string]any{"branch": o.Branch, "change": o.Change, "paths": o.Paths})
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return false, fmt.Errorf("the conditions are not evaluated after %s, with %d paths", mostTime, len(o.Paths))
	case ctx.Err() != nil:
		return false, ctx.Err()
	case err != nil:
		return false, err
	}
	met, ok := out.Value().(bool)
	if !ok {
		return false, errors.New("the expression makes no bool")
	}
	return met, nil
}
