//go:build linux

package runtimetest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// A schema comes from whoever made the service, and the library bounds nothing: few references unfold to more than there is time for,
// and every difference is kept. So what holding an answer to its schema takes is counted before.
const (
	mostHeld     = 256 << 10 // bytes of an answer that is held to its schema
	mostNodes    = 200_000   // of a schema, with what it refers to
	mostObjects  = 40_000    // among them, with booleans, that may be schemas: compiling looks through all that it knows for each
	mostCopied   = 100 << 20 // objects times references: it copies what it knows for each
	mostUnfolded = 10_000    // schemas that a single value is held to, references unfolded
	mostSteps    = 1 << 18   // for an answer, about a microsecond and 600 bytes each
	mostNumber   = 400       // characters of a number and its exponent: it is reckoned with exactly
	mostPattern  = 20_000    // instructions of a regular expression
	mostPatterns = 2 << 20   // instructions of all that are compiled together
)

// notHeld says why an answer is neither known to differ from its schema nor to be as it says.
type notHeld string

func (n notHeld) Error() string { return string(n) }

const (
	errLarge   = notHeld("it, or its schema, is too large")
	errDynamic = notHeld("its schema has $dynamicRef or $recursiveRef, which are not followed")
	errUnread  = notHeld("its schema has a pattern that RE2 can not read, or that is too large, in what not, oneOf, if, maxContains or unevaluatedProperties turn around")
)

var errUnfolds = notHeld(fmt.Sprintf("its schema unfolds to more than %d schemas, or %d levels, for one value", mostUnfolded, mostNested))

// shaped gives up when ctx ends. What goes on then is bounded by what was counted before.
func (d document) shaped(ctx context.Context, pointer string, got answer) error {
	if got.more {
		return errLarge
	}
	done := make(chan error, 1)
	go func() {
		defer func() {
			if odd := recover(); odd != nil {
				done <- fmt.Errorf("its schema can not be read: %.100s", fmt.Sprint(odd))
			}
		}()
		done <- d.held(pointer, got)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (d document) held(pointer string, got answer) error {
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(got.body))
	if err != nil {
		return fmt.Errorf("answers %d with a body that is no JSON", got.status)
	}
	schema, err := d.compile(pointer)
	if why := notHeld(""); errors.As(err, &why) {
		return err
	}
	if err != nil {
		return fmt.Errorf("its schema can not be read: %s", oneLine(err))
	}
	if !nestsIn(value, mostNested) || !reckons(value) {
		return errLarge
	}
	w := work{enums: map[*jsonschema.Enum]int{}, marks: map[*jsonschema.Schema]marks{}}
	if err := w.value(schema, value, 0); err != nil {
		return err
	}
	err = schema.Validate(value)
	if differs := (*jsonschema.ValidationError)(nil); errors.As(err, &differs) {
		if w.unread {
			return errUnread
		}
		return fmt.Errorf("answers %d with another body: %s", got.status, strings.Join(differences(differs, nil), ", "))
	}
	return err
}

const place = "lemnis:contract" // what the document is called among schemas

type nothing struct{}

func (nothing) Load(address string) (any, error) {
	return nil, fmt.Errorf("%s is not within the document", address)
}

// compiled are the schemas that were read already, and what they reach.
type compiled struct {
	*jsonschema.Compiler
	reach
	patterns *patterns
}

// compile begins anew where it knows too much for another one.
func (d document) compile(pointer string) (*jsonschema.Schema, error) {
	at := object{"$ref": "#" + pointer}
	known := d.compiled.Compiler != nil && d.compiled.add(d, at)
	for {
		if !known {
			if err := d.anew(at); err != nil {
				return nil, err
			}
		}
		schema, err := d.compiled.Compile(place + "#" + pointer)
		if err == nil || d.compiled.patterns.left >= 0 {
			return schema, err
		}
		d.compiled.Compiler = nil
		if !known {
			return nil, errLarge
		}
		known = false // others had taken what patterns may take
	}
}

// anew makes a compiler that knows nothing yet.
func (d document) anew(at object) error {
	d.compiled.Compiler, d.compiled.reach = nil, reach{refs: map[string]bool{}}
	if !d.compiled.add(d, at) {
		return errLarge
	}
	compiler := jsonschema.NewCompiler()
	d.compiled.patterns = &patterns{known: map[string]pattern{}, left: mostPatterns}
	compiler.DefaultDraft(jsonschema.Draft2020)
	compiler.UseRegexpEngine(d.compiled.patterns.compile)
	compiler.UseLoader(nothing{}) // what a document names elsewhere is not fetched, nor read from this machine
	if err := compiler.AddResource(place, d.root); err != nil {
		return err
	}
	d.compiled.Compiler = compiler
	return nil
}

const mostDifferences = 3

// differences leaves out which schema it was, which is a pointer into the document.
func differences(e *jsonschema.ValidationError, all []string) []string {
	for _, cause := range e.Causes {
		if len(all) == mostDifferences {
			break
		}
		if _, reference := cause.ErrorKind.(*kind.Reference); !reference || len(cause.Causes) != 1 {
			alone := *cause
			alone.Causes = nil
			all = append(all, strings.ReplaceAll(alone.Error(), "\n", " "))
		}
		all = differences(cause, all)
	}
	return all
}

// reach is what schemas are made of, with what they refer to, each reference once.
type reach struct {
	nodes, objects int
	refs           map[string]bool
}

// add is false where it is too much.
func (r *reach) add(d document, node any) bool {
	r.nodes++
	switch n := node.(type) {
	case json.Number:
		return reckons(n)
	case bool:
		r.objects++
	case []any:
		for _, one := range n {
			if !r.add(d, one) {
				return false
			}
		}
	case object:
		r.objects++
		for _, one := range n {
			if !r.add(d, one) {
				return false
			}
		}
		ref, ok := n["$ref"].(string)
		if ok && (d.wide || !strings.HasPrefix(ref, "#/") || len(ref) > mostPointer) {
			ref = "#" // it may be anywhere in the document
		}
		if ok && !r.refs[ref] {
			r.refs[ref] = true
			return r.add(d, d.find(ref[1:]))
		}
	}
	return r.nodes <= mostNodes && r.objects <= mostObjects && r.objects*len(r.refs) <= mostCopied
}

// identifies says whether a schema has a name, or a version, of its own.
func identifies(name string, value any) bool {
	_, is := value.(string)
	return is && (name == "$id" || name == "$schema")
}

// holds says whether there is such a property anywhere.
func holds(node any, such func(name string, value any) bool) bool {
	switch n := node.(type) {
	case []any:
		return slices.ContainsFunc(n, func(one any) bool { return holds(one, such) })
	case object:
		for name, one := range n {
			if such(name, one) || holds(one, such) {
				return true
			}
		}
	}
	return false
}

// reckons says whether all numbers are such that fractions of them take little.
func reckons(node any) bool {
	switch n := node.(type) {
	case json.Number:
		digits, exponent, _ := strings.Cut(strings.ToLower(n.String()), "e")
		power, err := strconv.Atoi(exponent)
		return len(digits) <= mostNumber && (exponent == "" || err == nil && max(power, -power) <= 1000)
	case []any:
		return !slices.ContainsFunc(n, func(one any) bool { return !reckons(one) })
	case object:
		for _, one := range n {
			if !reckons(one) {
				return false
			}
		}
	}
	return true
}

// work counts what the library will do, step by step as it does, but for where it ends early.
type work struct {
	steps int
	enums map[*jsonschema.Enum]int
	marks map[*jsonschema.Schema]marks
	// turned and beside are in how many schemas we are that may refuse more where these allow more, and where these know fewer names.
	turned, beside int
	unread         bool // such a one has lost a pattern
}

func (w *work) value(s *jsonschema.Schema, v any, level int) error {
	unfolded, beside := 0, w.beside
	w.beside = 0
	defer func() { w.beside = beside }()
	return w.schema(s, v, level, nil, &unfolded, 0)
}

// schema is held against v beneath those of over, which are too; copied are the names or items that each of them notes down.
func (w *work) schema(s *jsonschema.Schema, v any, level int, over []*jsonschema.Schema, unfolded *int, copied int) error {
	if slices.Contains(over, s) {
		return nil // the library says so by itself
	}
	over = append(over, s)
	*unfolded++
	switch {
	case *unfolded > mostUnfolded || len(over) > mostNested:
		return errUnfolds
	case s.RecursiveRef != nil || s.DynamicRef != nil:
		return errDynamic
	}
	w.steps += 1 + (level+len(over))/8 + (len(s.Required)+copied)/4 + w.own(s, v)
	if w.steps > mostSteps {
		return errLarge
	}
	if s.UnevaluatedProperties != nil || s.UnevaluatedItems != nil {
		copied = max(copied, length(v))
		w.beside++
		defer func() { w.beside-- }()
	}
	if w.turned+w.beside > 0 {
		lost := w.lost(s)
		_, text := v.(string)
		_, names := v.(object)
		w.unread = w.unread || names && lost.name || text && lost.text && w.turned > 0
	}
	plain, turning := inPlace(s, v)
	inEach := func(schemas []*jsonschema.Schema) error {
		for _, one := range schemas {
			if one != nil {
				if err := w.schema(one, v, level, over, unfolded, copied); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if err := inEach(plain); err != nil {
		return err
	}
	if err := w.within(func() error { return inEach(turning) }); err != nil {
		return err
	}
	switch v := v.(type) {
	case object:
		return w.properties(s, v, level+1)
	case []any:
		return w.items(s, v, level+1)
	}
	return nil
}

// within is for what may refuse more where it allows more.
func (w *work) within(do func() error) error {
	w.turned++
	defer func() { w.turned-- }()
	return do()
}

func (w *work) properties(s *jsonschema.Schema, v object, level int) error {
	additional, _ := s.AdditionalProperties.(*jsonschema.Schema)
	for name, one := range v {
		to := []*jsonschema.Schema{s.Properties[name], additional, s.UnevaluatedProperties}
		for pattern, schema := range s.PatternProperties {
			if w.steps += 1 + matching(pattern, name); w.steps > mostSteps {
				return errLarge
			}
			if pattern.MatchString(name) {
				to = append(to, schema)
			}
		}
		if err := w.each(to, one, level); err != nil {
			return err
		}
		if err := w.each([]*jsonschema.Schema{s.PropertyNames}, name, level); err != nil {
			return err
		}
	}
	return nil
}

func (w *work) items(s *jsonschema.Schema, v []any, level int) error {
	items, _ := s.Items.(*jsonschema.Schema)
	tuple, _ := s.Items.([]*jsonschema.Schema)
	additional, _ := s.AdditionalItems.(*jsonschema.Schema)
	tuple = append(slices.Clone(tuple), s.PrefixItems...)
	for i, one := range v {
		to := []*jsonschema.Schema{items, additional, s.Items2020, s.UnevaluatedItems}
		if i < len(tuple) {
			to = append(to, tuple[i])
		}
		if err := w.each(to, one, level); err != nil {
			return err
		}
		contains := func() error { return w.each([]*jsonschema.Schema{s.Contains}, one, level) }
		if s.MaxContains == nil {
			if err := contains(); err != nil {
				return err
			}
		} else if err := w.within(contains); err != nil {
			return err
		}
	}
	return nil
}

func (w *work) each(schemas []*jsonschema.Schema, v any, level int) error {
	for _, s := range schemas {
		if s != nil {
			if err := w.value(s, v, level); err != nil {
				return err
			}
		}
	}
	return nil
}

// own is what a schema itself takes, in steps.
func (w *work) own(s *jsonschema.Schema, v any) (steps int) {
	if s.Enum != nil {
		if _, known := w.enums[s.Enum]; !known {
			w.enums[s.Enum] = size(s.Enum.Values)
		}
		steps += w.enums[s.Enum] / 8
	}
	if s.Const != nil {
		steps += size(*s.Const) / 8
	}
	switch v := v.(type) {
	case string:
		if s.Pattern != nil {
			steps += matching(s.Pattern, v)
		}
		steps += len(v) / 1024
	case object:
		steps += len(v) / 4
	case []any:
		if s.UniqueItems {
			steps += size(v) * min(len(v), 20) / 4 // each with each, where there are few
		}
	}
	return steps
}

// inPlace are the schemas that are held against the same value. Where one that turns allows more, the whole may allow less.
func inPlace(s *jsonschema.Schema, v any) (plain, turning []*jsonschema.Schema) {
	plain = slices.Concat([]*jsonschema.Schema{s.Ref, s.Then, s.Else}, s.AllOf, s.AnyOf)
	properties, _ := v.(object)
	for name := range properties {
		of, _ := s.Dependencies[name].(*jsonschema.Schema)
		plain = append(plain, of, s.DependentSchemas[name])
	}
	if turning = []*jsonschema.Schema{s.Not, s.If}; len(s.OneOf) == 1 {
		return append(plain, s.OneOf...), turning
	}
	return plain, append(turning, s.OneOf...)
}

func length(v any) int {
	switch v := v.(type) {
	case []any:
		return len(v)
	case object:
		return len(v)
	}
	return 0
}

func size(node any) int {
	n := 1
	switch v := node.(type) {
	case []any:
		for _, one := range v {
			n += size(one)
		}
	case object:
		for _, one := range v {
			n += size(one)
		}
	}
	return n
}

type pattern struct {
	*regexp.Regexp
	size int
}

func matching(p jsonschema.Regexp, text string) int {
	if known, ok := p.(pattern); ok {
		return known.size * len(text) / 1024
	}
	return len(text)
}

// patterns compiles each regular expression once.
type patterns struct {
	known map[string]pattern
	left  int // instructions; below 0 once there were too many
}

func (p *patterns) compile(text string) (jsonschema.Regexp, error) {
	if one, ok := p.known[text]; ok {
		return one, nil
	}
	n, ok := instructions(text)
	if p.left -= n; !ok || p.left < 0 {
		return nil, errors.New("its patterns take too much, or can not be read")
	}
	compiled, err := regexp.Compile(text)
	p.known[text] = pattern{compiled, n}
	return p.known[text], err
}

// instructions are about those of a regular expression that is compiled; false where it is not RE2's, or too large.
func instructions(text string) (int, bool) {
	parsed, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return 0, false
	}
	var count func(*syntax.Regexp) int
	count = func(r *syntax.Regexp) int {
		n := 2 + len(r.Rune)
		for _, sub := range r.Sub {
			n += count(sub)
		}
		if r.Op == syntax.OpRepeat {
			n *= max(r.Min, r.Max, 1)
		}
		return n
	}
	n := count(parsed)
	return n, n <= mostPattern
}

// What stands where a regular expression stood that RE2 can not read: for a text, all match; for a name, none does.
const (
	anyText = "(?:unread)?"
	noName  = `[^\x00-\x{10FFFF}]`
)

// marks are of what a schema has lost.
type marks struct{ text, name bool }

func (w *work) lost(s *jsonschema.Schema) marks {
	m, known := w.marks[s]
	if !known {
		m.text = s.Pattern != nil && s.Pattern.String() == anyText
		for name := range s.PatternProperties {
			m.name = m.name || name.String() == noName
		}
		w.marks[s] = m
	}
	return m
}

// legible takes away the regular expressions that RE2 can not read, such as those that look ahead, and what depends on them: a schema
// allows more for that, but for where it is turned around.
func legible(node any) { legibly(node, false) }

// naming are the words behind which names of somebody's own stand.
var naming = []string{"properties", "patternProperties", "dependentSchemas", "$defs", "definitions", "schemas"}

// legibly is legible of what stands behind such a word, or not.
func legibly(node any, names bool) {
	switch n := node.(type) {
	case []any:
		for _, one := range n {
			legibly(one, false)
		}
	case object:
		for name, one := range n {
			_, list := one.([]any)
			if value := name == "enum" && list || name == "const" && !names; !value { // which is no schema, nor has any
				legibly(one, !names && slices.Contains(naming, name))
			}
		}
		if text, ok := n["pattern"].(string); ok {
			if _, ok := instructions(text); !ok {
				n["pattern"] = anyText
			}
		}
		named, _ := n["patternProperties"].(object)
		for _, text := range slices.Collect(maps.Keys(named)) {
			if _, ok := instructions(text); !ok {
				delete(named, text)
				named[noName] = object{}
				delete(n, "additionalProperties")
				delete(n, "unevaluatedProperties")
			}
		}
	}
}
