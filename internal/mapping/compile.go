package mapping

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/ext"

	"github.com/lemnis/lemnis/pkg/events"
)

// mostCost bounds one evaluation of one expression, in CEL's units: one a step, and one for each ten bytes of text (grow.go).
const mostCost = 100_000

// Error says what is wrong with one expression. Line and column count from 1, within the expression; 0 when it is about the
// field as a whole.
type Error struct {
	Field        string // path in the configuration: "mappings[0].when"
	Line, Column int
	Reason       string
}

// Error is "field: line:column of the expression: reason".
func (e Error) Error() string { return e.Field + ": " + e.At() }

// At is [Error.Error] without the field.
func (e Error) At() string {
	if e.Line == 0 {
		return e.Reason
	}
	return fmt.Sprintf("at %d:%d of the expression: %s", e.Line, e.Column, e.Reason)
}

// Set is a project's mappings, ready to be evaluated. It may be used by several goroutines.
type Set []one

// one is a mapping.
type one struct {
	name    string // "mappings[0]"
	typ     events.Type
	when    cel.Program
	subject cel.Program
	chain   cel.Program // nil: a chain of its own
	fields  []assignment
}

type assignment struct {
	path    string
	program cel.Program
}

var environment = sync.OnceValues(func() (*cel.Env, error) {
	return cel.NewEnv(
		cel.Variable("id", cel.StringType), cel.Variable("source", cel.StringType), cel.Variable("type", cel.StringType),
		cel.Variable("subject", cel.StringType), cel.Variable("time", cel.StringType),
		cel.Variable("extensions", cel.MapType(cel.StringType, cel.DynType)), cel.Variable("data", cel.DynType),
		cel.CrossTypeNumericComparisons(true), ext.Strings(ext.StringsVersion(5)),
	)
})

// Compile reads mappings that [events.Project.Validate] has accepted, and says all that is wrong with their expressions.
func Compile(all []events.Mapping) (Set, []Error) {
	c := &compiler{}
	set := make(Set, 0, len(all))
	for i, m := range all {
		set = append(set, c.mapping(fmt.Sprintf("mappings[%d]", i), m))
	}
	return set, c.errors
}

type compiler struct{ errors []Error }

func (c *compiler) add(field, format string, args ...any) {
	c.errors = append(c.errors, Error{Field: field, Reason: fmt.Sprintf(format, args...)})
}

func (c *compiler) mapping(name string, m events.Mapping) one {
	o := one{name: name}
	var err error
	if o.typ, err = events.ParseType(m.Type); err != nil {
		c.add(name+".type", "%v", err)
		return o
	}
	o.when = c.expression(name+".when", m.When, types.BoolType)
	o.subject = c.expression(name+".subject", m.Subject, types.StringType)
	if m.Chain != "" {
		o.chain = c.expression(name+".chain", m.Chain, types.StringType)
	}
	entry, _ := events.Lookup(o.typ)
	paths := make([]string, 0, len(m.Fields))
	for path := range m.Fields {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	for _, path := range paths {
		field := name + ".fields." + path
		t, ok := find(reflect.TypeOf(entry.Zero()), path)
		if !ok {
			c.add(field, "%s has no such field; `lemnis events types %[1]s` lists them", o.typ.Short())
			continue
		}
		o.fields = append(o.fields, assignment{path, c.expression(field, m.Fields[path], kinds(t)...)})
	}
	return o
}

// expression compiles one; none wanted: a value of any kind may come.
func (c *compiler) expression(field, text string, wanted ...*types.Type) cel.Program {
	env, err := environment()
	if err != nil {
		c.add(field, "%v", err)
		return nil
	}
	program, wrong := Program(env, text, wanted...)
	for _, e := range wrong {
		e.Field = field
		c.errors = append(c.errors, e)
	}
	return program
}

// Program compiles an expression that somebody else wrote, so that no evaluation of it can take long or grow large, and refuses
// it when its value can be none of the wanted kinds. The errors name no field.
func Program(env *cel.Env, text string, wanted ...*types.Type) (cel.Program, []Error) {
	_, program, wrong := Compiled(env, text, wanted...)
	return program, wrong
}

// Compiled is [Program] with what it was made of.
func Compiled(env *cel.Env, text string, wanted ...*types.Type) (*cel.Ast, cel.Program, []Error) {
	ast, issues := env.Compile(text)
	if issues.Err() != nil {
		var wrong []Error
		for _, e := range issues.Errors() {
			reason, _, _ := strings.Cut(e.Message, "\n")
			wrong = append(wrong, Error{Line: e.Location.Line(), Column: e.Location.Column() + 1, Reason: reason})
		}
		return nil, nil, wrong
	}
	if growing := grows(ast); len(growing) > 0 {
		return nil, nil, growing
	}
	if got := ast.OutputType(); got.Kind() != types.DynKind && len(wanted) > 0 && !slices.ContainsFunc(wanted, func(w *types.Type) bool { return w.Kind() == got.Kind() }) {
		return nil, nil, []Error{{Reason: fmt.Sprintf("the expression makes %s, not %s", got, wanted[0])}}
	}
	program, err := planned(env, ast)
	if err != nil {
		return nil, nil, []Error{{Reason: err.Error()}}
	}
	return ast, program, nil
}

// Partial is an expression that [Compiled] accepted as a program that may be asked with something unknown, in [cel.PartialVars].
func Partial(env *cel.Env, ast *cel.Ast) (cel.Program, error) {
	return planned(env, ast, cel.OptPartialEval)
}

func planned(env *cel.Env, ast *cel.Ast, more ...cel.EvalOption) (cel.Program, error) {
	options := append([]cel.EvalOption{cel.OptOptimize}, more...)
	return env.Program(ast, cel.CostTracking(costs{}), cel.CostLimit(mostCost), cel.InterruptCheckFrequency(100), cel.EvalOptions(options...))
}

// find follows a path of JSON names through a content type.
func find(t reflect.Type, path string) (reflect.Type, bool) {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if path == "" {
		return t, true
	}
	if t.Kind() != reflect.Struct {
		return nil, false
	}
	name, rest, _ := strings.Cut(path, ".")
	for i := range t.NumField() {
		f := t.Field(i)
		own, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && own == "":
			if found, ok := find(f.Type, path); ok {
				return found, true
			}
		case f.Name == "Lemnis" && name == "lemnis" && rest != "", own == name:
			return find(f.Type, rest)
		}
	}
	return nil, false
}

// kinds are what a field of this type is made from; nil for lists, maps and what the schema judges.
func kinds(t reflect.Type) []*types.Type {
	switch t.Kind() {
	case reflect.String:
		return []*types.Type{types.StringType}
	case reflect.Bool:
		return []*types.Type{types.BoolType}
	case reflect.Int, reflect.Int64, reflect.Uint64, reflect.Float64:
		if t == reflect.TypeFor[events.Duration]() || t == reflect.TypeFor[events.Percent]() {
			return []*types.Type{types.StringType}
		}
		return []*types.Type{types.DoubleType, types.IntType, types.UintType}
	}
	return nil
}
