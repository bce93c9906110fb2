package subscription

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/checker"
	"github.com/google/cel-go/common/types"
)

const (
	longestExpression = 4 << 10
	// mostCost is what one evaluation may cost, in units of CEL: about a millisecond. An expression whose estimate for
	// large events is a thousand times that is refused at once.
	mostCost     = 20_000
	mostEstimate = 1000 * mostCost
	// Sizes that an estimate goes by: of an attribute, of a text within the data, of a list there.
	estimatedAttribute = 256
	estimatedData      = 1000
)

// Attributes of a fact by their type in CEL. One that a fact does not have is empty, or zero.
var (
	textVariables = []string{
		"id", "source", "specversion", "type", "subject", "datacontenttype", "project", "phase", "key", "aggregate",
		"principal", "causationid", "traceparent", "chainid", "kind",
	}
	numberVariables = []string{"sequence", "causesequence", "configrevision", "attempt"}
	timeVariables   = []string{"time", "recordedtime", "deadline"}
)

// celEnv is the one environment of all filters.
var celEnv = sync.OnceValues(func() (*cel.Env, error) {
	o := []cel.EnvOption{cel.Variable("data", cel.DynType), cel.ParserExpressionSizeLimit(longestExpression), cel.ParserRecursionLimit(32)}
	for _, name := range textVariables {
		o = append(o, cel.Variable(name, cel.StringType))
	}
	for _, name := range numberVariables {
		o = append(o, cel.Variable(name, cel.IntType))
	}
	for _, name := range timeVariables {
		o = append(o, cel.Variable(name, cel.TimestampType))
	}
	return cel.NewEnv(o...)
})

func compileCEL(field, expression string) (predicate, error) {
	if strings.TrimSpace(expression) == "" {
		return nil, fail(field, "may not be empty")
	}
	if len(expression) > longestExpression {
		return nil, fail(field, "has %d bytes; %d at most", len(expression), longestExpression)
	}
	env, err := celEnv()
	if err != nil {
		return nil, fmt.Errorf("prepare CEL: %w", err)
	}
	ast, issues := env.Compile(expression)
	if issues.Err() != nil {
		first := issues.Errors()[0]
		message, _, _ := strings.Cut(strings.TrimSuffix(first.Message, " (in container '')"), "\n")
		return nil, fail(field, "line %d, column %d: %s", first.Location.Line(), first.Location.Column()+1, message)
	}
	if t := ast.OutputType(); !t.IsExactType(cel.BoolType) && !t.IsExactType(cel.DynType) {
		return nil, fail(field, "yields a %s, not a bool", t)
	}
	estimate, err := env.EstimateCost(ast, sizes{})
	if err != nil {
		return nil, fail(field, "its cost can not be estimated: %v", err)
	}
	if estimate.Min > mostCost || estimate.Max > mostEstimate {
		return nil, fail(field, "costs too much: loops within loops over the data are not for a filter")
	}
	program, err := env.Program(ast, cel.CostLimit(mostCost))
	if err != nil {
		return nil, fail(field, "%v", err)
	}
	return func(i *item) (bool, error) {
		v, _, err := program.Eval(activation{i})
		if err != nil {
			return false, fmt.Errorf("%s: %w", field, err)
		}
		ok, isBool := v.(types.Bool)
		if !isBool {
			return false, fmt.Errorf("%s: it yields a %s, not a bool", field, v.Type().TypeName())
		}
		return bool(ok), nil
	}, nil
}

// activation lends a fact's attributes and data to an expression.
type activation struct{ *item }

// ResolveName finds a variable.
func (a activation) ResolveName(name string) (any, bool) {
	if name == "data" {
		data, err := a.decoded()
		if err != nil {
			return types.NewErrFromString("the data can not be read: " + err.Error()), true
		}
		return data, true
	}
	v, ok := a.variables()[name]
	return v, ok
}

// Parent is nil: there are no other variables.
func (a activation) Parent() cel.Activation { return nil }

// sizes estimates how large what an expression looks at can be.
type sizes struct{}

// EstimateSize bounds texts and lists.
func (sizes) EstimateSize(element checker.AstNode) *checker.SizeEstimate {
	if path := element.Path(); len(path) > 0 && path[0] != "data" {
		return &checker.SizeEstimate{Min: 0, Max: estimatedAttribute}
	}
	return &checker.SizeEstimate{Min: 0, Max: estimatedData}
}

// EstimateCallCost leaves calls to the library.
func (sizes) EstimateCallCost(string, string, *checker.AstNode, []checker.AstNode) *checker.CallEstimate {
	return nil
}

var errNoData = errors.New("it is no JSON")
