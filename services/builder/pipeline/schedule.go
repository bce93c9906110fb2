package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/lemnis/lemnis/services/builder/definition"
)

// choose takes the tasks of the steps that are named, and all that those need.
func choose(p definition.Pipeline, tasks []definition.Task, only []string) ([]definition.Task, error) {
	if len(only) == 0 {
		return tasks, nil
	}
	wanted := map[string]bool{}
	for _, name := range only {
		if !slices.ContainsFunc(p.Steps, func(s definition.Step) bool { return s.Name == name }) {
			return nil, fmt.Errorf("there is no step %q; there is: %s", name, names(p))
		}
	}
	for _, t := range slices.Backward(tasks) { // each comes after what it needs
		if slices.Contains(only, t.Step.Name) || wanted[t.Name] {
			wanted[t.Name] = true
			for _, need := range t.Needs {
				wanted[need] = true
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(tasks), func(t definition.Task) bool { return !wanted[t.Name] }), nil
}

func names(p definition.Pipeline) string {
	all := make([]string, len(p.Steps))
	for i, s := range p.Steps {
		all[i] = s.Name
	}
	return strings.Join(all, ", ")
}

// result is what became of a task.
type result struct {
	step       Step
	of         string // the step of the definition
	findings   findings
	unisolated string            // see executor.Result
	images     map[string]string // see executor.Result
	err        error             // of the machinery
}

// inTurn says whether the tasks of a step have to be run one after the other: they leave files of the same names.
func inTurn(s definition.Step) bool {
	return len(s.Reports.Tests)+len(s.Reports.Coverage)+len(s.Outputs)+len(s.Cache) > 0
}

// schedule runs tasks, each as soon as all that it needs has succeeded. After a fault of the machinery no further one begins.
func (r *run) schedule(ctx context.Context, tasks []definition.Task) error {
	ended := make(chan result)
	outcomes := map[string]Outcome{}
	busy := map[string]bool{} // steps of whose tasks one is run
	waiting, active := tasks, 0
	var fault error
	for len(waiting) > 0 || active > 0 {
		var later []definition.Task
		for _, t := range waiting {
			switch ready, lost := r.ready(t, outcomes); {
			case lost != "":
				outcomes[t.Name] = Skipped
				now := r.spec.Now()
				r.end(Step{Name: t.Name, Outcome: Skipped, Reason: "it needs " + lost + ", which did not succeed", Started: now, Finished: now})
			case fault != nil || ctx.Err() != nil:
				// not begun any more
			case !ready || active >= r.spec.Parallel || busy[t.Step.Name]:
				later = append(later, t)
			default:
				active++
				busy[t.Step.Name] = inTurn(t.Step)
				go func() {
					done := r.task(ctx, t)
					done.of = t.Step.Name
					ended <- done
				}()
			}
		}
		waiting = later
		if active == 0 {
			continue // what is left waits for what was skipped just now
		}
		done := <-ended
		active--
		busy[done.of] = false
		outcomes[done.step.Name] = done.step.Outcome
		r.end(done.step)
		for i := range done.findings.cases {
			done.findings.cases[i].Reused = done.step.Reused != ""
		}
		r.report.add(done.findings)
		r.report.use(done.images)
		if done.unisolated != "" && r.report.Unisolated == "" {
			r.report.Unisolated = done.unisolated
			_, _ = fmt.Fprintf(r.log, "NOT ISOLATED: %s; steps see this machine, with the rights of the process that runs them\n", done.unisolated)
		}
		if done.err != nil && fault == nil {
			fault = fmt.Errorf("step %s: %w", done.step.Name, done.err)
		}
	}
	return errors.Join(fault, ctx.Err())
}

// ready says whether all that a task needs has succeeded, and which did not.
func (r *run) ready(t definition.Task, outcomes map[string]Outcome) (ready bool, lost string) {
	for _, need := range t.Needs {
		switch outcome, known := outcomes[need]; {
		case !known:
			return false, ""
		case outcome != Success:
			return false, need
		}
	}
	return true, ""
}
