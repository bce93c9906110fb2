package condition

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"

	"github.com/lemnis/lemnis/internal/mapping"
	"github.com/lemnis/lemnis/pkg/events"
)

// asksIfKnown finds the counts that an expression compares with the −1 that stands for one which is not known.
var asksIfKnown = regexp.MustCompile(`\bcontents\.(\w+)\s*[=<>!]=?\s*-\s*1\b|-\s*1\s*[=<>!]=?\s*contents\.(\w+)`)

// sure evaluates an expression. Where something is not known, the worst has to make it true too.
func (f Facts) sure(text string, evaluate func(Facts) (bool, error)) (bool, error) {
	holds, err := evaluate(f)
	if worst, missing := f.worst(text); holds && err == nil && len(missing) > 0 {
		if sure, err := evaluate(worst); err != nil || !sure {
			return false, fmt.Errorf("not known: %s", strings.Join(missing, ", "))
		}
	}
	return holds, err
}

// worst is what may be true of an artifact of which not everything is known, and names what is not.
func (f Facts) worst(text string) (Facts, []string) {
	var missing []string
	if t := &f.Tests; !t.Known {
		t.Failed, t.Skipped = math.MaxInt64, math.MaxInt64
		missing = append(missing, "tests")
	}
	asked := map[string]bool{}
	for _, m := range asksIfKnown.FindAllStringSubmatch(text, -1) {
		asked[m[1]], asked[m[2]] = true, true
	}
	c := &f.Contents
	for name, count := range map[string]*int64{"critical": &c.Critical, "high": &c.High, "medium": &c.Medium, "low": &c.Low, "unrated": &c.Unrated} {
		if *count < 0 && !asked[name] {
			*count = math.MaxInt64
			missing = append(missing, "contents."+name)
		}
	}
	if f.unlisted {
		c.Licenses, c.Unlicensed = []string{"not known"}, []string{"not known"}
		missing = append(missing, "contents.licenses")
	}
	if b := &f.Before; b.Requests == 0 && !f.unasked {
		b.Errors, b.P99 = 1, math.Inf(1)
		missing = append(missing, "before")
	}
	slices.Sort(missing)
	return f, missing
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
