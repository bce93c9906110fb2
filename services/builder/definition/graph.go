package definition

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Task is one script to be run: a step with one choice of its matrix.
type Task struct {
	Name  string   // the step's, with the values of its matrix: "test (GO=1.26, RACE=on)"
	Needs []string // names of tasks
	Step  Step     // Environment holds the pipeline's and the matrix's variables too
}

// Tasks are those whose condition holds on this occasion, each behind what it needs. What needs a step that is left out
// needs what that step needs.
func (p Pipeline) Tasks(ctx context.Context, on Occasion) ([]Task, error) {
	on, of, err := on.looked(p.Steps)
	if err != nil {
		return nil, fmt.Errorf("step %s: when: %w", of, err)
	}
	limited, cancel := context.WithTimeout(ctx, mostTime)
	defer cancel()
	var tasks []Task
	made := map[string][]string{} // the tasks that stand for a step
	for _, i := range p.order() {
		s := p.Steps[i]
		var needs []string
		for _, need := range p.needs(i) {
			for _, name := range made[need] {
				if !slices.Contains(needs, name) {
					needs = append(needs, name)
				}
			}
		}
		ok, err := on.meets(limited, s.When)
		if ctx.Err() != nil {
			return nil, ctx.Err() // not the definition's fault
		}
		if err != nil {
			return nil, fmt.Errorf("step %s: when: %w", s.Name, err)
		}
		if !ok {
			made[s.Name] = needs
			continue
		}
		for _, choice := range s.choices() {
			t := Task{Name: s.Name, Needs: needs, Step: s}
			if len(choice) > 0 {
				t.Name += " (" + strings.Join(choice, ", ") + ")"
			}
			t.Step.Environment = maps.Clone(p.Environment)
			if t.Step.Environment == nil {
				t.Step.Environment = map[string]string{}
			}
			maps.Copy(t.Step.Environment, s.Environment)
			for _, pair := range choice {
				name, value, _ := strings.Cut(pair, "=")
				t.Step.Environment[name] = value
			}
			t.Step.Image = imageOf(s.Image, choice)
			t.Step.Services = slices.Clone(s.Services)
			for n := range t.Step.Services {
				t.Step.Services[n].Image = imageOf(s.Services[n].Image, choice)
			}
			tasks = append(tasks, t)
			made[s.Name] = append(made[s.Name], t.Name)
		}
	}
	return tasks, nil
}

// imageOf is the name of an image with a choice's values for its variables.
func imageOf(name string, choice []string) string {
	for _, pair := range choice {
		variable, value, _ := strings.Cut(pair, "=")
		name = strings.ReplaceAll(name, "${"+variable+"}", value)
	}
	return name
}

// choices are all combinations of the matrix, as NAME=value in the order of the names; one empty choice without a matrix.
func (s Step) choices() [][]string {
	all := [][]string{nil}
	for _, name := range slices.Sorted(maps.Keys(s.Matrix)) {
		var next [][]string
		for _, choice := range all {
			for _, value := range s.Matrix[name] {
				next = append(next, append(slices.Clip(choice), name+"="+value))
			}
		}
		all = next
	}
	return all
}

// tasks counts them without making them.
func (p Pipeline) tasks() int {
	total := 0
	for _, s := range p.Steps {
		n := 1
		for _, values := range s.Matrix {
			n = min(n*max(len(values), 1), mostTasks+1)
		}
		total += n
	}
	return total
}

// needs are the names of the steps that step i comes after.
func (p Pipeline) needs(i int) []string {
	switch s := p.Steps[i]; {
	case s.Needs != nil:
		return *s.Needs
	case i > 0:
		return []string{p.Steps[i-1].Name}
	}
	return nil
}

// order lists the steps, each behind what it needs, else as in the file. What is in a circle is left out.
func (p Pipeline) order() []int {
	var order []int
	done := map[string]bool{}
	for len(order) < len(p.Steps) {
		before := len(order)
		for i, s := range p.Steps {
			if !done[s.Name] && !slices.ContainsFunc(p.needs(i), func(n string) bool { return !done[n] }) {
				order, done[s.Name] = append(order, i), true
				break
			}
		}
		if len(order) == before {
			break
		}
	}
	return order
}

// circle names steps of which each needs the next; nil when there is none.
func (p Pipeline) circle() []string {
	at := map[string]int{}
	for i, s := range p.Steps {
		at[s.Name] = i
	}
	const open, closed = 1, 2
	state := map[string]int{}
	var way []string
	var visit func(name string) []string
	visit = func(name string) []string {
		i, known := at[name]
		switch {
		case !known || state[name] == closed:
			return nil
		case state[name] == open:
			return slices.Clone(way[slices.Index(way, name):])
		}
		state[name], way = open, append(way, name)
		for _, need := range p.needs(i) {
			if c := visit(need); c != nil {
				return c
			}
		}
		state[name], way = closed, way[:len(way)-1]
		return nil
	}
	for _, s := range p.Steps {
		if c := visit(s.Name); c != nil {
			return c
		}
	}
	return nil
}

func deref(list *[]string) []string {
	if list == nil {
		return nil
	}
	return *list
}

func keysOf(m map[string]int) []string { return slices.Sorted(maps.Keys(m)) }
