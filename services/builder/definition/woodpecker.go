package definition

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Woodpecker reads a workflow of Woodpecker CI. told lists what it holds that has no like here, each with its place; the
// rest is the same pipeline. The error says why it can not be read at all.
func Woodpecker(text []byte) (p Pipeline, told []string, err error) {
	if len(text) > mostFile {
		return Pipeline{}, nil, fmt.Errorf("the workflow has %d bytes; %d at most", len(text), mostFile)
	}
	whole, more, err := readWorkflow(text)
	if err != nil {
		return Pipeline{}, nil, fmt.Errorf("read the workflow: %s", yaml.FormatError(err, false, false))
	}
	w := members(whole)
	i := importer{names: map[string]string{}, left: map[string][]string{}}
	if more {
		i.tell("only the first of the file's documents is read")
	}
	i.matrix = i.choices(w.take("matrix"))
	steps := named(w.take("steps"))
	if steps == nil {
		steps = named(w.take("pipeline")) // as it was called before version 1
	}
	services := i.services(named(w.take("services")))
	w.take("variables") // where anchors are kept, which stand in their places already
	always := i.when("", w.take("when"))
	i.refuse("", w)
	i.name(steps)
	graph := slices.ContainsFunc(steps, func(s foreign) bool { return s.members["depends_on"] != nil }) // then one that says nothing begins at once
	for _, s := range steps {
		i.step(s, graph, services, always)
	}
	if len(i.pipeline.Steps) == 0 {
		return Pipeline{}, i.told, errors.New("the workflow has no step with commands")
	}
	i.needs()
	i.unset()
	i.spread()
	made, err := Encode(i.checked())
	if err == nil {
		_, err = Parse("the pipeline made of it", made)
	}
	if err != nil {
		return Pipeline{}, i.told, err
	}
	return i.pipeline, i.told, nil
}

// readWorkflow reads YAML with all numbers as they are written: a version 1.10 is no 1.1.
func readWorkflow(text []byte) (whole yaml.MapSlice, more bool, err error) {
	file, err := parser.ParseBytes(text, 0)
	if err != nil || len(file.Docs) == 0 || file.Docs[0].Body == nil {
		return nil, false, err
	}
	more = slices.ContainsFunc(file.Docs[1:], func(d *ast.DocumentNode) bool { return d.Body != nil })
	body := file.Docs[0].Body
	ast.Walk(asWritten{}, body)
	err = yaml.NodeToValue(body, &whole, yaml.UseOrderedMap())
	return whole, more, err
}

// asWritten makes texts of numbers.
type asWritten struct{}

func (a asWritten) Visit(n ast.Node) ast.Visitor {
	text := func(n ast.Node) ast.Node {
		switch n.(type) {
		case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
			return ast.String(n.GetToken())
		}
		return n
	}
	switch n := n.(type) {
	case *ast.MappingValueNode:
		n.Value = text(n.Value)
	case *ast.SequenceNode:
		for i := range n.Values {
			n.Values[i] = text(n.Values[i])
		}
	case *ast.AnchorNode:
		n.Value = text(n.Value)
	}
	return a
}

// mapping is what is left of a mapping to be looked at.
type mapping map[string]any

// take looks at a member.
func (m mapping) take(name string) any {
	value := m[name]
	delete(m, name)
	return value
}

func (m mapping) text(name string) string { return word(m.take(name)) }

// word is a scalar as Woodpecker has it: what it replaces by variables before all else knows $$ as a $.
func word(value any) string {
	if value == nil {
		return ""
	}
	return strings.ReplaceAll(fmt.Sprint(value), "$$", "$")
}

// members are those of a mapping, and of what is merged into it; none of anything else.
func members(value any) mapping {
	all := mapping{}
	m, _ := value.(yaml.MapSlice)
	for _, item := range m {
		if fmt.Sprint(item.Key) != "<<" {
			all[fmt.Sprint(item.Key)] = item.Value
			continue
		}
		from, many := item.Value.([]any)
		if !many {
			from = []any{item.Value}
		}
		for _, one := range from {
			for name, value := range members(one) {
				if _, own := all[name]; !own && !slices.ContainsFunc(m, func(i yaml.MapItem) bool { return i.Key == name }) {
					all[name] = value
				}
			}
		}
	}
	return all
}

// foreign is a step or a service of the workflow.
type foreign struct {
	name    string
	members mapping
}

// named is a list of steps, or a mapping from their names.
func named(value any) (all []foreign) {
	switch v := value.(type) {
	case []any:
		for _, one := range v {
			m := members(one)
			all = append(all, foreign{m.text("name"), m})
		}
	case yaml.MapSlice:
		for _, item := range v {
			all = append(all, foreign{fmt.Sprint(item.Key), members(item.Value)})
		}
	}
	return all
}

// texts are one text, or several; those in a list within the list too, as an anchor makes them.
func texts(value any) (all []string) {
	switch v := value.(type) {
	case nil, yaml.MapSlice:
	case []any:
		for _, one := range v {
			all = append(all, texts(one)...)
		}
	default:
		return []string{word(v)}
	}
	return all
}

type importer struct {
	pipeline Pipeline
	matrix   map[string][]string
	listed   []map[string]string // combinations of variables that are no matrix
	names    map[string]string   // of steps there to their names here
	left     map[string][]string // what steps that are left out depend on
	told     []string
}

func (i *importer) tell(format string, args ...any) {
	i.told = append(i.told, fmt.Sprintf(format, args...))
}

// refuse tells of members that are not looked at.
func (i *importer) refuse(at string, rest mapping) {
	for _, name := range slices.Sorted(maps.Keys(rest)) {
		i.tell("%s%s: has no like here, and is left out", at, name)
	}
}

// name gives each step a name of its own.
func (i *importer) name(steps []foreign) {
	taken := map[string]bool{}
	for at := range steps {
		s := &steps[at]
		if s.name == "" {
			s.name = "step-" + strconv.Itoa(at+1)
		}
		name := cmp.Or(stepName(s.name), "step-"+strconv.Itoa(at+1))
		for n := 2; taken[name]; n++ {
			name = stepName(s.name[:min(len(s.name), 36)] + " " + strconv.Itoa(n))
		}
		taken[name], i.names[s.name] = true, name
	}
}

func (i *importer) services(list []foreign) (all []Service) {
	for _, f := range list {
		s := Service{Name: stepName(f.name), Image: f.members.text("image")}
		var secrets map[string]string
		if s.Environment, secrets = environment(f.members.take("environment")); len(secrets) > 0 {
			i.tell("services.%s.environment: secrets of a service have no like here", f.name)
		}
		for _, port := range texts(f.members.take("ports")) { // the first one: it is waited for
			number, _, _ := strings.Cut(port, "/")
			if n, err := strconv.Atoi(number); err == nil && s.Port == 0 {
				s.Port = n
			}
		}
		if s.Name != f.name {
			i.tell("services.%s: is reached as %s here", f.name, s.Name)
		}
		i.replaced("services."+f.name, s.Image, s.Environment)
		i.refuse("services."+f.name+".", f.members)
		all = append(all, s)
	}
	return all
}

func (i *importer) step(f foreign, graph bool, services []Service, always string) {
	at, m := "steps."+f.name, f.members
	commands, image := texts(m.take("commands")), m.text("image")
	needs := i.needsOf(at, m.take("depends_on"), graph)
	if len(commands) == 0 || m["settings"] != nil {
		i.left[i.names[f.name]] = deref(needs)
		i.tell("%s: a plugin (%s) has no like here; write its commands", at, image)
		return
	}
	if folder := m.text("directory"); folder != "" {
		quoted := "'" + strings.ReplaceAll(folder, "'", `'\''`) + "'"
		if strings.Contains(folder, "${") && !strings.ContainsAny(folder, "\"`\\") {
			quoted = `"` + folder + `"` // the shell knows the variables of the matrix
		}
		commands = append([]string{"cd " + quoted}, commands...)
	}
	s := Step{Name: i.names[f.name], Image: image, Run: strings.Join(commands, "\n") + "\n", Services: services, Network: true, Matrix: i.matrix}
	s.Environment, s.Secrets = environment(m.take("environment"))
	i.replaced(at, image, s.Environment)
	i.secrets(&s, m.take("secrets"))
	s.Needs = needs
	s.When = both(always, i.when(at+".", m.take("when")))
	i.refuse(at+".", m)
	i.pipeline.Steps = append(i.pipeline.Steps, s)
}

// needsOf are the steps that one depends on, by their names here; nil: the one before it.
func (i *importer) needsOf(at string, value any, graph bool) *[]string {
	if value == nil && !graph {
		return nil
	}
	names := []string{}
	for _, need := range texts(value) {
		if name, there := i.names[need]; there {
			names = append(names, name)
		} else {
			i.tell("%s.depends_on: there is no step %s", at, need)
		}
	}
	return &names
}

// secrets takes names, as older files have them: each a variable of its own name, or of another under target.
func (i *importer) secrets(s *Step, value any) {
	list, _ := value.([]any)
	for _, one := range list {
		name, variable := word(one), ""
		if m := members(one); len(m) > 0 {
			name, variable = m.text("source"), m.text("target")
		}
		if variable == "" {
			variable = name
		}
		if s.Secrets == nil {
			s.Secrets = map[string]string{}
		}
		s.Secrets[strings.ToUpper(variable)] = "secret:" + name
	}
}

var builtin = regexp.MustCompile(`\bCI_[A-Z_]+\b`)

// replaced tells of variables that Woodpecker replaces by their values and nobody does here.
func (i *importer) replaced(at, image string, environment map[string]string) {
	for _, v := range imageVariable.FindAllStringSubmatch(image, -1) {
		if !i.variable(v[1]) {
			i.tell("%s.image: %s: only variables of the matrix are replaced here; the file is refused until you write what %s stands for", at, image, v[0])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(environment)) {
		for _, v := range imageVariable.FindAllStringSubmatch(environment[name], -1) {
			if !slices.ContainsFunc(i.listed, func(c map[string]string) bool { _, is := c[v[1]]; return is }) {
				i.tell("%s.environment.%s: %s is not replaced here", at, name, v[0])
			}
		}
	}
}

// unset tells of variables that Woodpecker sets and nobody sets here.
func (i *importer) unset() {
	for _, s := range i.pipeline.Steps {
		text := s.Run
		for _, value := range s.Environment {
			text += "\n" + imageVariable.ReplaceAllString(value, "") // of which it is told
		}
		for _, name := range slices.Compact(slices.Sorted(slices.Values(builtin.FindAllString(text, -1)))) {
			if _, own := s.Environment[name]; !own {
				i.tell("steps.%s: %s is not set here", s.Name, name)
			}
		}
	}
}

// needs puts what a step that was left out depends on in the place of it.
func (i *importer) needs() {
	for n, s := range i.pipeline.Steps {
		if s.Needs == nil {
			continue
		}
		kept, seen := []string{}, map[string]bool{}
		var add func(names []string)
		add = func(names []string) {
			for _, name := range names {
				if seen[name] {
					continue
				}
				seen[name] = true
				if instead, left := i.left[name]; left {
					add(instead)
				} else {
					kept = append(kept, name)
				}
			}
		}
		add(*s.Needs)
		i.pipeline.Steps[n].Needs = &kept
	}
}

// environment takes NAME: value, NAME: {from_secret: name} and, as older files have it, a list of NAME=value.
func environment(value any) (env, secrets map[string]string) {
	set := func(m *map[string]string, name, value string) {
		if *m == nil {
			*m = map[string]string{}
		}
		(*m)[name] = value
	}
	if list, ok := value.([]any); ok {
		for _, pair := range list {
			name, value, _ := strings.Cut(word(pair), "=")
			set(&env, name, value)
		}
	}
	for name, value := range members(value) {
		if secret := members(value)["from_secret"]; secret != nil {
			set(&secrets, name, fmt.Sprintf("secret:%v", secret))
		} else {
			set(&env, name, word(value))
		}
	}
	return env, secrets
}

// when makes a condition of event, branch, path and status; alternatives in a list are or-ed.
func (i *importer) when(at string, when any) string {
	list, many := when.([]any)
	if !many {
		if when == nil {
			return ""
		}
		list = []any{when}
	}
	list = flat(list)
	var either []string
	for _, one := range list {
		all := ""
		conditions := members(one)
		for _, name := range slices.Sorted(maps.Keys(conditions)) {
			value := conditions[name]
			switch name {
			case "branch":
				all = both(all, i.sorted(at+"when.branch", value, func(p string) string { return matches("branch", p) }))
			case "path":
				all = both(all, i.path(at, value))
			case "event":
				all = both(all, i.sorted(at+"when.event", value, func(p string) string {
					switch p {
					case "push", "manual":
						return `change == ""`
					case "pull_request":
						return `change != ""`
					}
					i.tell("%swhen.event: %s does not happen here", at, p)
					return "false"
				}))
			case "status":
				if on := texts(value); len(on) > 0 && !slices.Contains(on, "success") {
					i.tell("%swhen.status: what is run after failures only has no like here: it is never run", at)
					all = both(all, "false")
				} else if len(on) > 1 {
					i.tell("%swhen.status: what is run after failures too has no like here: it is run after success", at)
				}
			default:
				i.tell("%swhen.%s: has no like here, and is left out", at, name)
			}
		}
		if all == "" {
			return "" // one of them is met always
		}
		either = append(either, all)
	}
	if len(either) == 1 {
		return either[0]
	}
	return anyOf(either, func(s string) string { return s })
}

// flat is a list with the lists in it laid open, as an anchor makes them.
func flat(list []any) (all []any) {
	for _, one := range list {
		if inner, is := one.([]any); is {
			all = append(all, flat(inner)...)
		} else {
			all = append(all, one)
		}
	}
	return all
}

// sorted is a condition of what a list includes, and what it excludes.
func (i *importer) sorted(at string, value any, condition func(string) string) string {
	m := members(value)
	include, exclude := i.known(at, append(texts(value), texts(m.take("include"))...), true), i.known(at, texts(m.take("exclude")), false)
	i.refuse(at+".", m)
	all := anyOf(include, unlessUnknown(condition))
	if len(exclude) > 0 {
		all = both(all, "!("+anyOf(exclude, condition)+")")
	}
	return all
}

// unknown is a pattern that holds a variable: what that stands for is not known when the condition is written.
func unknown(pattern string) bool { return strings.Contains(pattern, "${") }

func unlessUnknown(condition func(string) string) func(string) string {
	return func(pattern string) string {
		if unknown(pattern) {
			return "false"
		}
		return condition(pattern)
	}
}

// known are the patterns that are known, and one that is not where all would be included without: it includes nothing then. The default branch
// is known: all that is built here is of it, or goes into it.
func (i *importer) known(at string, patterns []string, included bool) []string {
	const all = "${CI_REPO_DEFAULT_BRANCH}"
	if slices.Contains(patterns, all) {
		if included {
			i.tell("%s: %s is what all is built for here, and is left out", at, all)
			return nil
		}
		return []string{"**"}
	}
	known := slices.DeleteFunc(slices.Clone(patterns), unknown)
	never := included && len(known) == 0
	for _, p := range slices.DeleteFunc(patterns, func(p string) bool { return !unknown(p) }) {
		if never {
			i.tell("%s: %s is not known here, and nothing else is included: it is never met; write what it stands for", at, p)
			known = []string{p}
		} else {
			i.tell("%s: %s is not known here, and is left out; write what it stands for", at, p)
		}
	}
	return known
}

// path holds where a file that is included changes and not all are excluded, and where nothing is known to change, as for the master copy.
func (i *importer) path(at string, value any) string {
	m := members(value)
	include, exclude := i.known(at+"when.path", append(texts(value), texts(m.take("include"))...), true), i.known(at+"when.path", texts(m.take("exclude")), false)
	empty := m.text("on_empty")
	i.refuse(at+"when.path.", m)
	is := unlessUnknown(func(p string) string { return matches("p", p) })
	all := ""
	if len(include) > 0 {
		all = "paths.exists(p, " + anyOf(include, is) + ")"
	}
	if len(exclude) > 0 {
		all = both(all, "paths.exists(p, !("+anyOf(exclude, is)+"))")
	}
	switch {
	case all == "":
		return ""
	case empty == "false":
		return both("size(paths) > 0", all)
	}
	return "(size(paths) == 0 || " + all + ")"
}

// both is a condition for two; an empty one is met always.
func both(a, b string) string {
	switch {
	case a == "":
		return b
	case b == "":
		return a
	}
	return a + " && " + b
}

func anyOf(all []string, condition func(string) string) string {
	made := []string{}
	for _, one := range all {
		if text := condition(one); !slices.Contains(made, text) {
			made = append(made, text)
		}
	}
	if len(made) == 1 {
		return made[0]
	}
	for i, one := range made {
		if strings.Contains(one, " && ") {
			made[i] = "(" + one + ")"
		}
	}
	if len(made) == 0 {
		return ""
	}
	return "(" + strings.Join(made, " || ") + ")"
}

// matches is a condition for a pattern with * and **.
func matches(variable, pattern string) string {
	if !strings.ContainsAny(pattern, "*?[{") {
		return fmt.Sprintf("%s == %q", variable, pattern)
	}
	expression := alternatives.ReplaceAllStringFunc(regexp.QuoteMeta(pattern), func(all string) string {
		return "(" + strings.ReplaceAll(all[2:len(all)-2], ",", "|") + ")"
	})
	expression = classes.ReplaceAllStringFunc(expression, func(all string) string {
		inner := all[2 : len(all)-2]
		if rest := strings.TrimPrefix(strings.TrimPrefix(inner, "!"), `\^`); rest != inner {
			inner = "^/" + rest
		}
		if _, err := regexp.Compile("[" + inner + "]"); err != nil {
			return all
		}
		return "[" + inner + "]"
	})
	for _, r := range [][2]string{{`\*\*/`, `(.*/)?`}, {`\*\*`, `.*`}, {`\*`, `[^/]*`}, {`\?`, `[^/]`}} {
		expression = strings.ReplaceAll(expression, r[0], r[1])
	}
	return fmt.Sprintf("%s.matches(%q)", variable, "^"+expression+"$")
}

var ( // of a pattern that is quoted
	alternatives = regexp.MustCompile(`\\\{[^{}]*\\\}`)
	classes      = regexp.MustCompile(`\\\[[^][*?{}]+\\\]`)
)

var notInNames = regexp.MustCompile(`[^a-z0-9]+`)

// stepName makes a step's name of any text.
func stepName(name string) string {
	made := strings.Trim(notInNames.ReplaceAllString(strings.ToLower(name), "-"), "-")
	return strings.TrimRight(made[:min(len(made), 40)], "-")
}
