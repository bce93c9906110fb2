package pipeline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lemnis/lemnis/internal/excerpt"
	"github.com/lemnis/lemnis/internal/executor"
	"github.com/lemnis/lemnis/services/builder/definition"
)

// task runs one task to its end, as often as it may be tried.
func (r *run) task(ctx context.Context, t definition.Task) result {
	if k, is := r.taken[t.Name]; is {
		return r.reuse(t, k)
	}
	s := Step{Name: t.Name, Outcome: Success, Started: r.spec.Now()}
	out := result{}
	for {
		s.Attempts++
		ended, found, err := r.attempt(ctx, t)
		out.findings, out.unisolated, out.images, out.err = found, ended.Unisolated, ended.Images, err
		s.Outcome, s.Cause, s.Reason = Success, ended.Cause, ended.Reason
		switch {
		case ctx.Err() != nil:
			s.Outcome, s.Cause, s.Reason = Error, CauseCancelled, context.Cause(ctx).Error()
		case err != nil:
			s.Outcome, s.Cause, s.Reason = Error, CauseMachinery, err.Error()
		case ended.Cause != "":
			s.Outcome = Failure
		}
		if s.Outcome != Failure || s.Attempts > t.Step.Retries || s.Cause == CauseSecret {
			break
		}
		_, _ = fmt.Fprintf(r.log.of(t.Name), "%s: attempt %d: %s; once more\n", t.Name, s.Attempts, s.Reason)
	}
	s.Finished = r.spec.Now()
	out.step = s
	return out
}

// attempt runs a task once.
func (r *run) attempt(ctx context.Context, t definition.Task) (executor.Result, findings, error) {
	secrets, missing := r.secrets(t.Step)
	if missing != nil {
		return executor.Result{Cause: CauseSecret, Reason: missing.Error()}, findings{}, nil
	}
	runner := r.spec.Host
	if t.Step.Image != "" || len(t.Step.Services) > 0 {
		if runner = r.spec.Image; runner == nil {
			return executor.Result{Cause: CauseDefinition, Reason: "it asks for an image or a service, and there is no container engine here"}, findings{}, nil
		}
	}
	if err := r.clear(t.Step.Reports); err != nil {
		return executor.Result{Cause: CauseFiles, Reason: "a report of before can not be removed: " + err.Error()}, findings{}, nil
	}
	defer r.takeCaches(t.Step)()
	for line := range strings.Lines(strings.TrimSpace(t.Step.Run)) {
		_, _ = fmt.Fprintf(r.log.of(t.Name), "$ %s\n", strings.TrimRight(line, "\n"))
	}
	hidden := values(secrets)
	end := &tail{most: 4 << 10}
	out := newMask(hidden, both{r.log.of(t.Name), end})
	step := r.step(t, secrets)
	commit, err := r.layered(t, &step)
	if err != nil {
		return executor.Result{}, findings{}, err
	}
	ended, err := runner.Run(ctx, step, out)
	if flushed := out.Flush(); err == nil {
		err = flushed
	}
	if err != nil {
		return executor.Result{}, findings{}, err
	}
	found, wrong := r.read(t.Name, t.Step.Reports, hidden)
	found.quarantine(r.spec.Quarantined)
	if len(found.spared) > 0 && ended.Cause == executor.CauseExit && found.failed() == "" && wrong == nil {
		_, _ = fmt.Fprintf(r.log, "= %s: %s; it counts as passed, since what failed is in quarantine: %s\n", t.Name, ended.Reason, strings.Join(found.spared, ", "))
		ended.Cause, ended.Reason = "", ""
	}
	if ended.Succeeded() {
		commit()
	}
	switch {
	case !ended.Succeeded() && found.failed() != "":
		ended.Cause, ended.Reason = CauseTests, found.failed()
	case !ended.Succeeded() && end.line() != "" && ended.Cause == executor.CauseExit:
		ended.Reason += ": " + end.line()
	case ended.Succeeded() && wrong != nil:
		ended.Cause, ended.Reason = CauseTests, wrong.Error()
	case ended.Succeeded() && len(found.spared) == 0: // what a test in quarantine did is found out each time
		r.keep(t, ended.Unisolated)
	}
	return ended, found, nil
}

// step is a task as the executor takes it.
func (r *run) step(t definition.Task, secrets map[string]string) executor.Step {
	s := t.Step
	variables := r.env.variables
	if s.Image != "" {
		variables = r.env.anywhere
	}
	return executor.Step{
		Name: t.Name, Script: s.Run, Image: s.Image, Dir: r.spec.Dir, At: r.spec.At, Scratch: r.spec.Output, Network: s.Network,
		Environment: slices.Concat(variables, pairs(s.Environment), pairs(secrets)),
		Shared:      r.env.shared, ReadOnly: r.env.readOnly, Hidden: r.spec.Hidden, Beside: beside(s.Services),
		Limits: executor.Limits{CPU: s.Limits.CPU, Memory: int64(s.Limits.Memory), Processes: s.Limits.Processes,
			Output: int64(s.Limits.Output), Time: time.Duration(s.Timeout)},
	}
}

func beside(services []definition.Service) []executor.Service {
	var all []executor.Service
	for _, s := range services {
		all = append(all, executor.Service{Name: s.Name, Image: s.Image, Environment: pairs(s.Environment), Port: s.Port})
	}
	return all
}

func pairs(variables map[string]string) []string {
	all := make([]string, 0, len(variables))
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		all = append(all, name+"="+variables[name])
	}
	return all
}

func values(secrets map[string]string) []string { return slices.Collect(maps.Values(secrets)) }

// secrets looks up what a step refers to.
func (r *run) secrets(s definition.Step) (map[string]string, error) {
	all := map[string]string{}
	for variable, reference := range s.Secrets {
		if r.spec.Secret == nil {
			return nil, errors.New("it asks for " + reference + ", and there are no secrets here")
		}
		value, err := r.spec.Secret(strings.TrimPrefix(reference, "secret:"))
		if err != nil {
			return nil, err
		}
		all[variable] = value
	}
	return all, nil
}

// both writes to two: the log, which may fail, and the tail.
type both struct {
	log  io.Writer
	tail *tail
}

func (b both) Write(p []byte) (int, error) {
	_, _ = b.tail.Write(p)
	return b.log.Write(p)
}

// tail keeps the end of what is written to it.
type tail struct {
	most int
	kept []byte
}

func (t *tail) Write(p []byte) (int, error) {
	if len(p) > t.most {
		t.kept = append(t.kept[:0], p[len(p)-t.most:]...)
		return len(p), nil
	}
	t.kept = append(t.kept, p...)
	if len(t.kept) > 2*t.most {
		t.kept = append(t.kept[:0], t.kept[len(t.kept)-t.most:]...)
	}
	return len(p), nil
}

// line is the last one that says something, for a reason.
func (t *tail) line() string {
	lines := bytes.Split(bytes.TrimSpace(t.kept), []byte("\n"))
	return excerpt.Of(strings.ToValidUTF8(string(bytes.TrimSpace(lines[len(lines)-1])), "\uFFFD"), 300)
}
