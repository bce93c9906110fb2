package definition

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// choices are the values of a matrix's variables. Where combinations are listed under include, they are the matrix, whatever stands beside.
func (i *importer) choices(value any) map[string][]string {
	all := map[string][]string{}
	m := members(value)
	if m["include"] != nil {
		i.include(all, m["include"])
	}
	for _, variable := range slices.Sorted(maps.Keys(m)) {
		if variable == "include" || len(all) > 0 || len(i.listed) > 0 {
			continue
		}
		for _, v := range texts(m[variable]) {
			if !slices.Contains(all[variable], v) {
				all[variable] = append(all[variable], v)
			}
		}
	}
	if len(all) == 0 {
		return nil
	}
	return all
}

// include takes combinations that are listed one by one: as a matrix where they are all that their variables' values make, else as they are.
func (i *importer) include(all map[string][]string, value any) {
	list, _ := value.([]any)
	made, seen := map[string][]string{}, map[string]bool{}
	var listed []map[string]string
	for _, one := range list {
		var words []string
		combination := map[string]string{}
		m := members(one)
		for _, variable := range slices.Sorted(maps.Keys(m)) {
			v := word(m[variable])
			words, combination[variable] = append(words, variable+"="+v), v
			if !slices.Contains(made[variable], v) {
				made[variable] = append(made[variable], v)
			}
		}
		if key := strings.Join(words, "\n"); len(words) > 0 && !seen[key] {
			seen[key], listed = true, append(listed, combination)
		}
	}
	product := 1
	for _, values := range made {
		product *= len(values)
	}
	even := !slices.ContainsFunc(listed, func(c map[string]string) bool { return len(c) < len(made) })
	switch {
	case len(listed) == 0:
		i.tell("matrix.include: is no list of combinations, and is left out")
	case even && product == len(listed) && product <= mostTasks:
		maps.Copy(all, made)
	default:
		i.listed = listed
		i.tell("matrix.include: these combinations are not all that their values make, which no matrix here can say: there is a copy of all steps for each of the %d combinations", len(listed))
	}
}

// variable says whether the matrix has it.
func (i *importer) variable(name string) bool {
	_, is := i.matrix[name]
	return is || slices.ContainsFunc(i.listed, func(c map[string]string) bool { _, is := c[name]; return is })
}

// spread makes a copy of all steps for each combination that is listed. One's do not wait for another's, as tasks of a matrix do not.
func (i *importer) spread() {
	if len(i.listed) == 0 {
		return
	}
	var all []Step
	for n, combination := range i.listed {
		named := func(name string) string { return fmt.Sprintf("%s-%d", name[:min(len(name), 36)], n+1) }
		for first, s := range i.pipeline.Steps {
			at := "steps." + s.Name
			s.Name = named(s.Name)
			for _, v := range imageVariable.FindAllStringSubmatch(s.Image, -1) {
				if value, is := combination[v[1]]; is {
					s.Image = strings.ReplaceAll(s.Image, v[0], value)
				} else if i.variable(v[1]) {
					i.tell("%s.image: combination %s of matrix.include says no %s", at, strconv.Itoa(n+1), v[1])
				}
			}
			environment := maps.Clone(combination)
			maps.Copy(environment, filled(s.Environment, combination))
			for name := range s.Secrets {
				delete(environment, name)
			}
			s.Environment = environment
			s.Services = slices.Clone(s.Services)
			for at := range s.Services {
				service := &s.Services[at]
				service.Image, service.Environment = fill(service.Image, combination), filled(service.Environment, combination)
			}
			switch {
			case s.Needs != nil:
				needs := []string{}
				for _, need := range *s.Needs {
					needs = append(needs, named(need))
				}
				s.Needs = &needs
			case first == 0:
				s.Needs = &[]string{}
			}
			all = append(all, s)
		}
	}
	i.pipeline.Steps = all
}

// fill puts the values of a combination in the places of its variables.
func fill(text string, combination map[string]string) string {
	return imageVariable.ReplaceAllStringFunc(text, func(v string) string {
		if value, is := combination[imageVariable.FindStringSubmatch(v)[1]]; is {
			return value
		}
		return v
	})
}

func filled(environment, combination map[string]string) map[string]string {
	all := maps.Clone(environment)
	for name, value := range all {
		all[name] = fill(value, combination)
	}
	return all
}

// checked is the pipeline with a value for each variable of an image that nobody knows: that it is to be written has been told.
func (i *importer) checked() Pipeline {
	p := i.pipeline
	p.Steps = slices.Clone(p.Steps)
	for n, s := range p.Steps {
		known := func(image string) string {
			return imageVariable.ReplaceAllStringFunc(image, func(v string) string {
				if _, is := s.Matrix[imageVariable.FindStringSubmatch(v)[1]]; is {
					return v
				}
				return "x"
			})
		}
		p.Steps[n].Image, p.Steps[n].Services = known(s.Image), slices.Clone(s.Services)
		for at := range p.Steps[n].Services {
			p.Steps[n].Services[at].Image = known(s.Services[at].Image)
		}
	}
	return p
}
