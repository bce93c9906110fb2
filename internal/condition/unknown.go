package condition

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"

	"github.com/lemnis/lemnis/internal/mapping"
	"github.com/lemnis/lemnis/pkg/events"
)

// holds evaluates an expression over variables with what they are. Where something is not known, it has to be true whatever that is.
func (f Facts) holds(ctx context.Context, env *cel.Env, text string, of map[string]any) (bool, error) {
	compiled, program, wrong := mapping.Compiled(env, text, types.BoolType)
	if len(wrong) > 0 { // it was applied past `lemnis apply`
		return false, errors.New(wrong[0].At())
	}
	holds, err := truth(ctx, program, of)
	missing, unknown := f.missing()
	if err != nil || !holds || len(missing) == 0 {
		return holds, err
	}
	f.answer(compiled)
	if program, err = mapping.Partial(env, compiled); err != nil {
		return false, err
	}
	vars, err := cel.PartialVars(of, unknown...)
	if err != nil {
		return false, err
	}
	if sure, err := truth(ctx, program, vars); err != nil || !sure {
		return false, fmt.Errorf("not known: %s", strings.Join(missing, ", "))
	}
	return true, nil
}

// missing is what is not known of an artifact, for people and for an evaluation.
func (f Facts) missing() (names []string, unknown []*cel.AttributePatternType) {
	add := func(name, variable string, fields ...string) {
		names = append(names, name)
		for _, field := range fields {
			unknown = append(unknown, cel.AttributePattern(variable).QualString(field))
		}
	}
	if f.Before.Requests == 0 && !f.unasked {
		add("before", "before", "errors", "p99")
	}
	for _, name := range slices.Sorted(maps.Keys(f.Contents.counts())) {
		if f.Contents.counts()[name] < 0 {
			add("contents."+name, "contents", name)
		}
	}
	if f.unlisted {
		add("contents.licenses", "contents", "licenses", "unlicensed")
	}
	if !f.Tests.Known {
		add("tests", "tests", "failed", "skipped")
	}
	slices.Sort(names)
	return names, unknown
}

func (c Contents) counts() map[string]int64 {
	return map[string]int64{"critical": c.Critical, "high": c.High, "medium": c.Medium, "low": c.Low, "unrated": c.Unrated}
}

// answer puts a count in its place where an expression compares it with the −1 that stands for one which is not known: that is asked
// whether it is known, and nothing else is.
func (f Facts) answer(compiled *cel.Ast) {
	counts, factory := f.Contents.counts(), ast.NewExprFactory()
	ast.PreOrderVisit(compiled.NativeRep().Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() != ast.CallKind || len(e.AsCall().Args()) != 2 || !slices.Contains(comparisons, e.AsCall().FunctionName()) {
			return
		}
		for i, side := range e.AsCall().Args() {
			if side.Kind() != ast.SelectKind || !isMinusOne(e.AsCall().Args()[1-i]) {
				continue
			}
			of := side.AsSelect()
			if count, ok := counts[of.FieldName()]; ok && !of.IsTestOnly() && of.Operand().Kind() == ast.IdentKind && of.Operand().AsIdent() == "contents" {
				side.SetKindCase(factory.NewLiteral(side.ID(), types.Int(count)))
			}
		}
	}))
}

var comparisons = []string{operators.Equals, operators.NotEquals, operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals}

func isMinusOne(e ast.Expr) bool {
	return e.Kind() == ast.LiteralKind && (e.AsLiteral() == types.Int(-1) || e.AsLiteral() == types.Double(-1))
}

// unproven says where nothing produces evidence for what a condition asks of the environment before: in the first, and behind one
// where another tool deploys. Later environments have the condition too.
func unproven(all []events.Environment, declared int, text string) []mapping.Error {
	asked := ofBefore(text)
	for i := declared; i < len(all); i++ {
		for _, field := range asked {
			reason := ""
			switch {
			case field == "environment":
			case i == 0:
				reason = "there is no environment before the first"
			case all[i-1].Target == events.OutsideTarget && field != "soaked":
				reason = fmt.Sprintf("another tool deploys to %s, before %s", all[i-1].Name, all[i].Name)
			}
			if reason != "" {
				return []mapping.Error{{Reason: fmt.Sprintf("nothing produces evidence for before.%s: %s", field, reason)}}
			}
		}
	}
	return nil
}

// ofBefore are the fields of the environment before that an expression looks at.
func ofBefore(text string) (fields []string) {
	env, err := environment()
	if err != nil {
		return nil
	}
	var compiled *cel.Ast
	if compiled, _ = env.Compile(text); compiled == nil {
		return nil
	}
	ast.PreOrderVisit(compiled.NativeRep().Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() == ast.SelectKind {
			if of := e.AsSelect(); of.Operand().Kind() == ast.IdentKind && of.Operand().AsIdent() == "before" {
				fields = append(fields, of.FieldName())
			}
		}
	}))
	return fields
}
