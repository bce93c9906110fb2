package service

import (
	"context"
	"fmt"
	"sort"
	"strconv"

	"go.uber.org/zap"

	"github.com/lemnis/lemnis/internal/fold"
	"github.com/lemnis/lemnis/pkg/events"
)

// unrouted is the aggregate that answers claims which no other takes, so that whoever waits for
// an answer gets one. There are as many of a project as there are partitions, not one a claim: the
// claims of one are met in order, so that its watermark tells which of them are answered.
const unrouted = "claim"

// slotOf is the key of the unrouted aggregate that answers a claim.
func slotOf(claim events.Event) string { return strconv.Itoa(events.Partition(claim.ID)) }

func refuseUnrouted() Aggregate {
	return Of(Rules[struct{}]{
		Kind: unrouted, Version: 2,
		Evolve: func(s struct{}, _ events.Event) struct{} { return s },
		Decide: func(_ string, _ struct{}, _ events.Project, e events.Event) (events.Fact, bool) {
			return events.Refuse(e, fmt.Sprintf("nothing in the %s phase takes %s like this", e.Phase, e.Type.Short()))
		},
	})
}

// causeFilters are the subjects that the owner of a phase reads: claims and results of the
// phase, the facts that its aggregates take, and the projects' configurations.
func causeFilters(phase events.Phase, takes map[events.Type]bool) []string {
	filters := []string{
		fmt.Sprintf("%s.*.%s.*.*.*", events.Claim, phase),
		fmt.Sprintf("%s.*.%s.*.*.*", events.Result, phase),
		projectFilter,
	}
	for t := range takes {
		if f := events.Filter(events.Stated, "", "", t); f != projectFilter {
			filters = append(filters, f)
		}
	}
	sort.Strings(filters)
	return filters
}

// dispatch reads causes in stream order and hands each to the workers of the partitions that it
// concerns. It blocks when a worker is behind: that is the back-pressure.
func (t *term) dispatch(ctx, workCtx context.Context) error {
	meet := func(m Message) error {
		if err := t.meet(ctx, workCtx, m); err != nil {
			return err
		}
		return t.faults.redeliver(m, func(again Message) error { return t.meet(ctx, workCtx, again) })
	}
	filters := causeFilters(t.def.Phase, t.takes)
	var err error
	if t.faults != nil && t.faults.read != nil {
		err = t.faults.read(ctx, t, filters, meet)
	} else {
		err = tail(ctx, t.host.JS, t.log, filters, t.floor+1, meet)
	}
	if ctx.Err() != nil {
		return nil //nolint:nilerr // the term was ended
	}
	return err
}

// meet decodes one message, finds the aggregates that it concerns and queues the tasks.
func (t *term) meet(ctx, workCtx context.Context, m Message) error {
	var e *events.Event
	if m.Kind == events.Stated {
		e = t.own.take(m.Sequence)
	}
	if e == nil {
		decoded, err := m.Event()
		if err != nil {
			return t.setAside(ctx, m, err)
		}
		e = &decoded
	}
	e.Stored = m.Stored
	if c, ok := e.Content.(events.ProjectConfigured); ok && m.Kind == events.Stated {
		t.configs.set(e.Project, c)
	}
	t.askRebuild(e)
	project := t.configs.get(e.Project)
	tasks, err := t.tasks(ctx, project, e)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return t.setAside(ctx, m, err)
	}
	if len(tasks) == 0 {
		t.passed(m.Sequence)
		return nil
	}
	c := tasks[0].cause
	c.open.Store(int32(len(tasks)))
	t.mu.Lock()
	t.pending = append(t.pending, c)
	t.read.Store(max(t.read.Load(), m.Sequence))
	t.mu.Unlock()
	for _, k := range tasks {
		w := t.workerOf(fold.PartitionID{Project: e.Project, Partition: events.Partition(k.key)})
		if m.Pending == 0 {
			if begun, err := w.begin(&k); begun || err != nil {
				if err != nil {
					return err
				}
				continue
			}
		}
		w.open.Add(1)
		select {
		case w.tasks <- k:
		case <-ctx.Done():
			return ctx.Err()
		case <-workCtx.Done():
			return workCtx.Err()
		}
	}
	return nil
}

// tasks is the work that a message is: its event's, or that of a dead letter that it sends again.
func (t *term) tasks(ctx context.Context, project *events.Project, e *events.Event) ([]task, error) {
	if r, is := resendOf(e); is {
		return t.again(ctx, project, e, r)
	}
	return t.route(project, e)
}

// setAside puts a message into the dead letter; only then may the floor pass it.
func (t *term) setAside(ctx context.Context, m Message, reason error) error {
	if err := t.buryRaw(ctx, m, "", "", reason); err != nil {
		return err
	}
	t.passed(m.Sequence)
	return nil
}

// passed notes a message that needs no worker.
func (t *term) passed(sequence uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.read.Store(max(t.read.Load(), sequence))
}

// maxKey bounds an aggregate's key, in bytes: escaped, it is part of a subject, and the server ends
// the connection of whoever sends one of over 4 KiB.
const maxKey = 1024

// route asks every aggregate which of its instances the event concerns.
func (t *term) route(project *events.Project, e *events.Event) (tasks []task, err error) {
	c := &cause{event: e, project: project}
	defer func() {
		r := recover()
		if r == nil {
			return
		}
		poison := panicked(fmt.Sprintf("routing %s panics", e.Type.Short()), r)
		if tasks, err = nil, poison; e.Kind == events.Claim { // its author gets an answer
			tasks, err = []task{{cause: c, kind: t.kinds[unrouted], key: slotOf(*e), poison: poison}}, nil
		}
	}()
	if e.Kind == events.Stated && !t.takes[e.Type] || e.Project == internalProject {
		return nil, nil
	}
	for i := range t.def.Aggregates {
		a := &t.def.Aggregates[i]
		for _, key := range a.route(*project, *e) {
			if len(key) > maxKey {
				if e.Kind == events.Claim {
					continue
				}
				return nil, fmt.Errorf("the key of a %s has %d bytes; %d at most", a.kind, len(key), maxKey)
			}
			tasks = append(tasks, task{cause: c, kind: a, key: key})
		}
	}
	if len(tasks) == 0 && e.Kind == events.Claim {
		tasks = append(tasks, task{cause: c, kind: t.kinds[unrouted], key: slotOf(*e)})
	}
	return tasks, nil
}

// projects is the configuration of every project, as of the place that the reader has reached.
// One goroutine writes; a value, once handed out, never changes.
type projects struct{ known map[string]*events.Project }

const projectSubject = "dev.cdeventsx.lemnis-project.configured.0.1.0"

var projectFilter = events.Filter(events.Stated, "", events.Plan, projectSubject)

func (p *projects) set(name string, c events.ProjectConfigured) {
	project := c.Project
	project.Name, project.Revision = name, c.Revision
	p.known[name] = &project
}

func (p *projects) get(name string) *events.Project {
	known := p.known[name]
	if known == nil {
		project := events.DefaultProject(name)
		known = &project
		p.known[name] = known
	}
	return known
}

// loadProjects reads the configurations in force at the floor.
func (t *term) loadProjects(ctx context.Context, barrier uint64, base *kept, first uint64) error {
	t.configs.known = map[string]*events.Project{}
	if base != nil {
		for _, p := range base.Projects {
			if p.Sequence < first {
				t.configs.set(p.Name, p.Content)
			}
		}
	}
	return t.readUntil(ctx, []string{projectFilter, barrierFilter(t.def.Phase)}, 1, barrier, func(m Message) error {
		if m.Kind != events.Stated || m.Sequence > t.floor {
			return nil
		}
		e, err := m.Event()
		if err != nil {
			t.log.Error("a configuration can not be read; the one before stays in force", zap.Uint64("sequence", m.Sequence), zap.Error(err))
			return nil
		}
		if c, ok := e.Content.(events.ProjectConfigured); ok {
			t.configs.set(e.Project, c)
		}
		return nil
	})
}

func barrierFilter(phase events.Phase) string {
	return events.Filter(events.Result, internalProject, phase, events.TypeOf(events.OwnerElected{}))
}

// readUntil reads what the filters let through up to the barrier, which they let through too.
func (t *term) readUntil(ctx context.Context, filters []string, from, barrier uint64, each func(Message) error) error {
	if from > barrier {
		return nil
	}
	return tail(ctx, t.host.JS, t.log, filters, from, func(m Message) error {
		if m.Sequence >= barrier {
			return errStop
		}
		return each(m)
	})
}

// few messages are read by readUntil as fast as by readMost before it.
const few = 1000

// readMost reads what one filter lets through, as far as the reader sees and below the barrier, and returns where to go on:
// whether that was all, only readUntil can tell, since a replica that lags behind gives less. But several filters, as it
// needs, cost the server five times as much a message as one.
//
// An error of each is met again by readUntil, which begins at the same message.
func (t *term) readMost(ctx context.Context, filter string, from, barrier uint64, each func(Message) error) (next uint64) {
	pending, err := pendingFor(ctx, t.host.JS, []string{filter}, from)
	if err != nil || pending < few {
		return from
	}
	_ = tail(ctx, t.host.JS, t.log, []string{filter}, from, func(m Message) error {
		if m.Sequence >= barrier {
			return errStop
		}
		if err := each(m); err != nil {
			return err
		}
		from = m.Sequence + 1
		if m.Pending == 0 {
			return errStop
		}
		return nil
	})
	return from
}
