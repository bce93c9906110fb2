package definition

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

// Woodpecker reads a workflow of Woodpecker CI. told lists what it holds that has no like here, each with its place; the
// rest is the same pipeline. The error says why it can not be read at all.
func Woodpecker(text []byte) (p Pipeline, told []string, err error) {
	if len(text) > mostFile {
		return Pipeline{}, nil, fmt.Errorf("the workflow has %d bytes; %d at most", len(text), mostFile)
	}
	var whole yaml.MapSlice
	if err := yaml.UnmarshalWithOptions(text, &whole, yaml.UseOrderedMap()); err != nil {
		return Pipeline{}, nil, fmt.Errorf("read the workflow: %s", yaml.FormatError(err, false, false))
	}
	w := members(whole)
	i := importer{}
	i.matrix = i.choices(w.take("matrix"))
	steps := named(w.take("steps"))
	services := i.services(named(w.take("services")))
	i.refuse("", w)
	graph := slices.ContainsFunc(steps, func(s foreign) bool { return s.members["depends_on"] != nil }) // then one that says nothing begins at once
	for _, s := range steps {
		i.step(s, graph, services)
	}
	if len(i.pipeline.Steps) == 0 {
		return Pipeline{}, i.told, errors.New("the workflow has no step with commands")
	}
	i.needs()
	made, err := Encode(i.pipeline)
	if err == nil {
		_, err = Parse("the pipeline made of it", made)
	}
	if err != nil {
		return Pipeline{}, i.told, err
	}
	return i.pipeline, i.told, nil
}

// mapping is what is left of a mapping to be looked at.
type mapping map[string]any

// take looks at a member.
func (m mapping) take(name string) any {
	value := m[name]
	delete(m, name)
	return value
}

func (m mapping) text(name string) string {
	if value := m.take(name); value != nil {
		return fmt.Sprint(value)
	}
	return ""
}

// members are those of a mapping; none of anything else.
func members(value any) mapping {
	all := mapping{}
	if m, ok := value.(yaml.MapSlice); ok {
		for _, item := range m {
			all[fmt.Sprint(item.Key)] = item.Value
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

// texts are one text, several, or those under include.
func texts(value any) (all []string) {
	switch v := value.(type) {
	case nil:
	case []any:
		for _, one := range v {
			all = append(all, fmt.Sprint(one))
		}
	case yaml.MapSlice:
		return texts(members(v)["include"])
	default:
		return []string{fmt.Sprint(v)}
	}
	return all
}

type importer struct {
	pipeline Pipeline
	matrix   map[string][]string
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

func (i *importer) choices(value any) map[string][]string {
	var all map[string][]string
	for variable, values := range members(value) {
		if variable == "include" {
			i.tell("matrix.include: has no like here, and is left out; write the variables with their values")
			continue
		}
		if all == nil {
			all = map[string][]string{}
		}
		all[variable] = texts(values)
	}
	return all
}

func (i *importer) services(list []foreign) (all []Service) {
	for _, f := range list {
		s := Service{Name: stepName(f.name), Image: f.members.text("image")}
		var secrets map[string]string
		if s.Environment, secrets = environment(f.members.take("environment")); len(secrets) > 0 {
			i.tell("services.%s.environment: secrets of a service have no like here", f.name)
		}
		i.refuse("services."+f.name+".", f.members)
		all = append(all, s)
	}
	return all
}

func (i *importer) step(f foreign, graph bool, services []Service) {
	at, m := "steps."+f.name, f.members
	commands, image := texts(m.take("commands")), m.text("image")
	if len(commands) == 0 || m["settings"] != nil {
		i.tell("%s: a plugin (%s) has no like here; write its commands", at, image)
		return
	}
	if strings.Contains(image, "${") {
		i.tell("%s.image: %s: variables in the name of an image are not replaced here", at, image)
	}
	s := Step{Name: stepName(f.name), Image: image, Run: strings.Join(commands, "\n") + "\n", Services: services, Network: true, Matrix: i.matrix}
	s.Environment, s.Secrets = environment(m.take("environment"))
	for _, name := range texts(m.take("secrets")) {
		if s.Secrets == nil {
			s.Secrets = map[string]string{}
		}
		s.Secrets[strings.ToUpper(name)] = "secret:" + name
	}
	if needs := m.take("depends_on"); needs != nil {
		names := []string{}
		for _, need := range texts(needs) {
			names = append(names, stepName(need))
		}
		s.Needs = &names
	} else if graph {
		s.Needs = &[]string{}
	}
	s.When = i.when(at, m.take("when"))
	i.refuse(at+".", m)
	i.pipeline.Steps = append(i.pipeline.Steps, s)
}

// needs drops those on steps that were left out.
func (i *importer) needs() {
	there := map[string]bool{}
	for _, s := range i.pipeline.Steps {
		there[s.Name] = true
	}
	for n, s := range i.pipeline.Steps {
		if s.Needs == nil {
			continue
		}
		kept := slices.DeleteFunc(slices.Clone(*s.Needs), func(need string) bool { return !there[need] })
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
			name, value, _ := strings.Cut(fmt.Sprint(pair), "=")
			set(&env, name, value)
		}
	}
	for name, value := range members(value) {
		if secret := members(value)["from_secret"]; secret != nil {
			set(&secrets, name, fmt.Sprintf("secret:%v", secret))
		} else {
			set(&env, name, fmt.Sprint(value))
		}
	}
	return env, secrets
}

// when makes a condition of event, branch and path; alternatives in a list are or-ed.
func (i *importer) when(at string, when any) string {
	list, many := when.([]any)
	if !many {
		if when == nil {
			return ""
		}
		list = []any{when}
	}
	var either []string
	for _, one := range list {
		var all []string
		conditions := members(one)
		for _, name := range slices.Sorted(maps.Keys(conditions)) {
			value := conditions[name]
			switch name {
			case "branch":
				all = append(all, anyOf(texts(value), func(p string) string { return matches("branch", p) }))
			case "path":
				all = append(all, anyOf(texts(value), func(p string) string { return "paths.exists(p, " + matches("p", p) + ")" }))
			case "event":
				all = append(all, anyOf(texts(value), func(p string) string {
					switch p {
					case "push", "manual":
						return `change == ""`
					case "pull_request":
						return `change != ""`
					}
					i.tell("%s.when.event: %s does not happen here", at, p)
					return "false"
				}))
			default:
				i.tell("%s.when.%s: has no like here, and is left out", at, name)
			}
		}
		if len(all) > 0 {
			either = append(either, strings.Join(all, " && "))
		}
	}
	if len(either) == 1 {
		return either[0]
	}
	return anyOf(either, func(s string) string { return s })
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
	expression := regexp.QuoteMeta(pattern)
	for _, r := range [][2]string{{`\*\*/`, `(.*/)?`}, {`\*\*`, `.*`}, {`\*`, `[^/]*`}, {`\?`, `[^/]`}} {
		expression = strings.ReplaceAll(expression, r[0], r[1])
	}
	return fmt.Sprintf("%s.matches(%q)", variable, "^"+expression+"$")
}

var notInNames = regexp.MustCompile(`[^a-z0-9]+`)

// stepName makes a step's name of any text.
func stepName(name string) string {
	made := strings.Trim(notInNames.ReplaceAllString(strings.ToLower(name), "-"), "-")
	return strings.TrimRight(made[:min(len(made), 40)], "-")
}
