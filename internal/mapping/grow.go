package mapping

import (
	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"github.com/google/cel-go/interpreter"
)

var _ interpreter.ActualCostEstimator = costs{}

// costs counts every call by the texts and lists that it was given and made. CEL's own counting goes by the kinds that are
// known when an expression is compiled; of what stands in an event's data none is, and each call would count one.
type costs struct{}

// CallCost is one, and one for each ten bytes or members; of a search, what is searched times what for.
func (costs) CallCost(function, _ string, args []ref.Val, result ref.Val) *uint64 {
	cost := 1 + size(result)/10
	for _, a := range args {
		cost += size(a) / 10
	}
	if (function == "matches" || function == "contains") && len(args) == 2 {
		cost = (1 + size(args[0])/10) * (1 + size(args[1])/10)
	}
	return &cost
}

func size(v ref.Val) uint64 {
	if s, ok := v.(traits.Sizer); ok {
		if n, ok := s.Size().(types.Int); ok && n > 0 {
			return uint64(n)
		}
	}
	return 1
}

// grows finds the calls that may make, in one step, a text far larger than what they are given. The cost of a call is counted
// when it is done, so that such a step is not stopped by the bound on costs.
func grows(compiled *cel.Ast) []Error {
	var all []Error
	info := compiled.NativeRep().SourceInfo()
	ast.PreOrderVisit(compiled.NativeRep().Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() != ast.CallKind {
			return
		}
		reason := ""
		switch call := e.AsCall(); call.FunctionName() {
		case "format":
			reason = "format is not taken; add the parts with +"
		case "join":
			if a := call.Args(); len(a) > 0 && (!isLiteral(a[0]) || len(literal(a[0])) > 8) {
				reason = "the separator of join has to be a literal of at most 8 bytes"
			}
		case "replace":
			if a := call.Args(); len(a) < 2 || !isLiteral(a[0]) || !isLiteral(a[1]) || literal(a[0]) == "" || len(literal(a[1])) > len(literal(a[0])) {
				reason = "replace has to put a literal in the place of a literal that is at least as long"
			}
		}
		if reason != "" {
			at := info.GetStartLocation(e.ID())
			all = append(all, Error{Line: at.Line(), Column: at.Column() + 1, Reason: reason})
		}
	}))
	return all
}

func isLiteral(e ast.Expr) bool {
	if e.Kind() != ast.LiteralKind {
		return false
	}
	_, ok := e.AsLiteral().(types.String)
	return ok
}

func literal(e ast.Expr) string { return string(e.AsLiteral().(types.String)) }
