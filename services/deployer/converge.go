package deployer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/deployer/keeper"
	"github.com/lemnis/lemnis/services/deployer/process"
	"github.com/lemnis/lemnis/services/deployer/proxy"
	"github.com/lemnis/lemnis/services/deployer/rollout"
)

// startError says that a version could not be started.
type startError struct {
	version string
	of      string // the candidate that is compared with it, where it is a fresh baseline
	err     error
}

func (e *startError) Error() string { return fmt.Sprintf("%s does not run: %v", e.version, e.err) }
func (e *startError) Unwrap() error { return e.err }

// startErrors are what an error says of versions that could not be started, by version.
func startErrors(err error) map[string]*startError {
	all := map[string]*startError{}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			maps.Copy(all, startErrors(e))
		}
	} else if s, ok := errors.AsType[*startError](err); ok {
		all[s.version] = s
	}
	return all
}

// hindered is what an error says of a rollout that could not be started, or what it is compared with.
func hindered(err error, r events.Rollout) *startError {
	for _, s := range startErrors(err) {
		if s.version == r.Runs() || s.of == r.Runs() {
			return s
		}
	}
	return nil
}

// converge makes a place what the facts say: it starts what has to run, routes users, and stops the rest once it is
// drained. It may be called at any time, again, and after any crash. A candidate that does not start leaves all
// users with the stable version, and is the error.
func (s *site) converge(ctx context.Context, where at) error {
	p, idle, err := s.move(ctx, where)
	// Without the lock: users that have to be moved back do not wait for the last request of a version.
	var wg sync.WaitGroup
	failed := make([]error, len(idle)+1)
	failed[len(idle)] = err
	for i, one := range idle {
		wg.Go(func() { failed[i] = s.stop(ctx, p, one.id, one.instance) })
	}
	wg.Wait()
	return errors.Join(failed...)
}

// back is converge for who takes users back. What they leave is stopped beside it: a bad version may never answer its last requests,
// and nobody else who goes back waits for them.
func (s *site) back(ctx context.Context, where at) error {
	p, idle, err := s.move(ctx, where)
	for _, one := range idle {
		go s.end(context.WithoutCancel(ctx), p, one)
	}
	return err
}

// end stops a version, until that has worked or the site is given up.
func (s *site) end(ctx context.Context, p *place, one idle) {
	for {
		err := s.stop(ctx, p, one.id, one.instance)
		s.mu.Lock()
		closed := s.closed
		s.mu.Unlock()
		if err == nil || closed {
			return
		}
		s.options.Log("a version that is needed no more could not be stopped; trying again", "at", p.at.String(), "rollout", one.id, "error", err.Error())
		select {
		case <-s.front.Done():
			return
		case <-time.After(time.Second):
		}
	}
}

// move is converge but for what is needed no more, which it returns.
func (s *site) move(ctx context.Context, where at) (*place, []idle, error) {
	p, err := s.place(ctx, where)
	if err != nil {
		return nil, nil, err
	}
	var idle []idle
	for err = errOther; errors.Is(err, errOther); {
		var files map[string]file
		if files, err = s.fetch(ctx, p); err == nil {
			idle, err = s.arrange(ctx, p, files)
		}
	}
	return p, idle, err
}

type idle struct {
	id       string
	instance *instance
}

// file is what a version runs, or why there is none.
type file struct {
	path string
	err  error
}

// errOther says that the facts ask for another version than was fetched.
var errOther = errors.New("another version has to run by now")

// together is how long what serves waits for what else may serve: who had a new version would see the old one in between.
const together = time.Second

// fetch gets all that users are or may be served by and that does not run, at once and without the lock: while a registry hangs, users
// can be taken back, and one version does not wait for another's.
func (s *site) fetch(ctx context.Context, p *place) (map[string]file, error) {
	if err := p.mu.take(ctx); err != nil {
		return nil, err
	}
	want := s.wanted.running(p.at)
	missing := slices.DeleteFunc(want.users(), p.runs)
	p.mu.free()
	fetched := make([]file, len(missing))
	var rest sync.WaitGroup
	for i := 1; i < len(missing); i++ {
		rest.Go(func() { fetched[i] = s.file(ctx, p.at, missing[i]) })
	}
	if len(missing) > 0 {
		fetched[0] = s.file(ctx, p.at, missing[0])
	}
	got := make(chan struct{})
	go func() { defer close(got); rest.Wait() }()
	if want.stable != nil && len(missing) == len(want.users()) { // nothing runs, as after the machine was started
		select {
		case <-got:
		case <-ctx.Done():
		case <-time.After(together):
			s.serve(ctx, p, missing[0], fetched[0])
		}
	}
	<-got
	files := map[string]file{}
	for i, v := range missing {
		files[v.key()] = fetched[i]
	}
	return files, nil
}

// serve starts what serves and routes all users there, while what may serve them later is still fetched. An error is met again, and
// told, by arrange.
func (s *site) serve(ctx context.Context, p *place, stable version, f file) {
	if f.err != nil || p.mu.take(ctx) != nil {
		return
	}
	defer p.mu.free()
	if now := s.wanted.running(p.at).stable; now == nil || now.key() != stable.key() || p.runs(stable) {
		return // another call was first, and may have routed users to more than this
	}
	if upstream, err := s.start(ctx, p, stable, f); err == nil {
		_ = p.route(ctx, proxy.Routes{Stable: upstream})
	}
}

// file gets what a version runs, as the environment wants it signed.
func (s *site) file(ctx context.Context, where at, v version) file {
	environment, _ := rollout.SplitKey(where.key)
	if err := s.verify(ctx, s.wanted.project(where.project), environment, v.artifact, nil); err != nil {
		return file{err: err}
	}
	path, err := s.executable(ctx, v.artifact)
	return file{path, err}
}

// runs reports whether a version runs and was not told to end. The caller holds the lock.
func (p *place) runs(v version) bool {
	one := p.instances[v.id]
	return one != nil && one.ended == nil
}

// arrange starts what has to run and routes users; what it returns is needed no more. Files are of what did not run; errOther: of
// another version.
func (s *site) arrange(ctx context.Context, p *place, files map[string]file) ([]idle, error) {
	if err := p.mu.take(ctx); err != nil {
		return nil, err
	}
	defer p.mu.free()
	want := s.wanted.running(p.at) // under the lock: a later call must not be undone by an earlier look
	for _, v := range want.users() {
		if _, there := files[v.key()]; !there && !p.runs(v) {
			return nil, errOther
		}
	}

	var failed, stuck error
	routes := proxy.Routes{}
	needed := map[string]bool{}
	if v := want.stable; v != nil {
		needed[v.id] = true
		upstream, err := s.start(ctx, p, *v, files[v.key()])
		if err != nil {
			stuck = &startError{version: v.id, err: err} // the candidate may be what mends it
		}
		routes.Stable = upstream
	}
	if v := want.candidate; v != nil {
		needed[v.id] = true
		compared := want.stable // what the candidate is compared with
		var baseline *proxy.Upstream
		upstream, err := s.start(ctx, p, *v, files[v.key()])
		if err != nil {
			failed = &startError{version: v.id, err: err}
		}
		if fresh := want.baseline; fresh != nil {
			needed[fresh.id] = true
			if failed == nil {
				if baseline, err = s.fresh(ctx, p, *fresh, files[fresh.key()]); err != nil {
					failed = &startError{version: fresh.id, of: v.id, err: err}
				}
			}
			compared = fresh
		}
		switch {
		case failed != nil:
		case stuck != nil:
		case want.stable != nil && want.weight > 0:
			routes.Canary, routes.Baseline, routes.Weight = &upstream, baseline, want.weight
			environment, service := rollout.SplitKey(p.at.key)
			if err := s.countBy(ctx, p); err != nil {
				return nil, err
			}
			names := guards(s.wanted.project(p.at.project), environment, service)
			if err := p.count(ctx, v.id, compared.id, want.stable.id, names); err != nil { // from its first request on
				return nil, err
			}
		}
	}
	if stuck != nil { // nobody is moved anywhere before what has to serve them runs
		return nil, errors.Join(failed, stuck)
	}
	if want.stable != nil {
		if err := p.route(ctx, routes); err != nil {
			return nil, err
		}
		p.drill(ctx, s.options.Drill, *want.stable, want.candidate)
	}
	if v := want.spare; v != nil && !needed[v.id] {
		needed[v.id] = true
		if p.runs(*v) { // else nobody waits for it
			if _, err := s.start(ctx, p, *v, file{}); err != nil {
				return nil, err
			}
		}
	}
	var rest []idle
	for _, id := range slices.Sorted(maps.Keys(p.instances)) {
		if one := p.instances[id]; !needed[id] {
			if one.wanted == nil {
				one.wanted = make(chan struct{})
			}
			rest = append(rest, idle{id, one})
		}
	}
	return rest, failed
}

// settle is converge, and then what is kept to go back to, which no effect waits for.
func (s *site) settle(ctx context.Context, where at) error {
	err := s.converge(ctx, where)
	return errors.Join(err, s.keep(ctx, where))
}

// keep starts what a place keeps to go back to, unless it runs.
func (s *site) keep(ctx context.Context, where at) error {
	p, err := s.place(ctx, where)
	if err != nil {
		return err
	}
	return s.spare(ctx, p)
}

// spare starts what is kept to go back to, unless it runs.
func (s *site) spare(ctx context.Context, p *place) error {
	v := s.wanted.running(p.at).onlySpare()
	if v == nil {
		return nil
	}
	if err := p.mu.take(ctx); err != nil {
		return err
	}
	runs := p.runs(*v)
	p.mu.free()
	if runs {
		return nil
	}
	f := s.file(ctx, p.at, *v)
	if err := p.mu.take(ctx); err != nil {
		return err
	}
	defer p.mu.free()
	if now := s.wanted.running(p.at).onlySpare(); now == nil || now.key() != v.key() {
		return nil
	}
	if _, err := s.start(ctx, p, *v, f); err != nil {
		return &startError{version: v.id, err: err}
	}
	return nil
}

// start runs a version unless it runs; the file is of one that does not.
func (s *site) start(ctx context.Context, p *place, v version, f file) (proxy.Upstream, error) {
	running := p.instances[v.id]
	switch {
	case running == nil:
	case running.ended != nil: // it was told to end before it was wanted again
		select {
		case <-running.ended:
		case <-ctx.Done():
			return proxy.Upstream{}, ctx.Err()
		}
		running = nil
	case running.digest != v.artifact.Digest:
		return proxy.Upstream{}, fmt.Errorf("%w: %s runs, not %s", errArtifact, running.digest, v.artifact.Digest)
	case running.wanted != nil:
		close(running.wanted)
		running.wanted = nil
	}
	if running == nil {
		if f.err != nil {
			return proxy.Upstream{}, f.err
		}
		environment, name := rollout.SplitKey(p.at.key)
		process, err := s.front.Start(ctx, p.at.String(), v.id, v.artifact.Digest, process.Spec{
			Name: p.at.project + "/" + v.id, Executable: f.path,
			Env:          []string{"LEMNIS_ENVIRONMENT=" + environment, "LEMNIS_SERVICE=" + name},
			StartTimeout: s.options.StartTimeout, LogFile: s.logFile(p.at.project, v.id), Limits: s.limits(p.at.project, environment),
		})
		var refused *keeper.Refusal
		switch {
		case err != nil && ctx.Err() == nil && errors.As(err, &refused):
			return proxy.Upstream{}, fmt.Errorf("%w: %w", errStart, err)
		case err != nil:
			return proxy.Upstream{}, err
		}
		running = &instance{url: process.URL, digest: v.artifact.Digest}
		p.instances[v.id] = running
	}
	return proxy.Upstream{Version: v.id, URL: running.url}, nil
}

// fresh starts what the candidate is compared with: without it, it can not be judged.
func (s *site) fresh(ctx context.Context, p *place, v version, f file) (*proxy.Upstream, error) {
	upstream, err := s.start(ctx, p, v, f)
	if err != nil {
		return nil, fmt.Errorf("what it is compared with, %s: %w", v.id, err)
	}
	return &upstream, nil
}

func (s *site) limits(project, environment string) process.Limits {
	e, _ := s.wanted.project(project).Environment(environment)
	if e.Limits == nil {
		return process.Limits{}
	}
	return process.Limits{Memory: int64(e.Limits.Memory), Processes: e.Limits.Processes}
}

func (s *site) logFile(project, id string) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.' {
			return r
		}
		return '_'
	}, project+"_"+id)
	return filepath.Join(s.options.Data, "logs", name+".log")
}

// stop ends a version once its last request is answered, or the grace is over, unless it is wanted again before.
func (s *site) stop(ctx context.Context, p *place, id string, one *instance) error {
	if err := p.mu.take(ctx); err != nil {
		return err
	}
	wanted := one.wanted
	p.mu.free()
	if wanted == nil {
		return nil
	}
	draining, cancel := context.WithTimeout(ctx, s.options.Grace)
	defer cancel()
	again := make(chan struct{})
	defer close(again)
	go func() {
		select {
		case <-wanted:
			cancel()
		case <-again:
		}
	}()
	err := s.front.Drain(draining, p.at.String(), id)
	if busy := p.mu.take(ctx); busy != nil {
		return errors.Join(err, busy)
	}
	switch {
	case one.wanted != wanted, p.instances[id] != one:
		p.mu.free()
		return nil // it is wanted again
	case one.ended != nil: // by another call
		ended := one.ended
		p.mu.free()
		select {
		case <-ended:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	case err != nil && draining.Err() == nil, ctx.Err() != nil:
		p.mu.free()
		return errors.Join(err, ctx.Err())
	}
	ended := make(chan struct{})
	one.ended = ended
	p.mu.free()
	if err != nil {
		s.options.Log("stopped with requests in flight", "rollout", id)
	}
	ending, over := context.WithTimeout(context.WithoutCancel(ctx), 2*s.options.Grace+5*time.Second)
	defer over()
	err = s.front.Stop(ending, p.at.String(), id)
	// Who waits for its end holds the lock.
	close(ended)
	if busy := p.mu.take(context.WithoutCancel(ctx)); busy != nil {
		return errors.Join(err, busy)
	}
	defer p.mu.free()
	if p.instances[id] == one {
		delete(p.instances, id)
		delete(p.drilled, id)
	}
	return err
}

// route sets the routes if they differ.
func (p *place) route(ctx context.Context, r proxy.Routes) error {
	same := func(a, b *proxy.Upstream) bool { return a == b || a != nil && b != nil && *a == *b }
	if p.routes.Stable == r.Stable && p.routes.Weight == r.Weight && same(p.routes.Canary, r.Canary) && same(p.routes.Baseline, r.Baseline) {
		return nil
	}
	if err := p.front.Route(ctx, p.at.String(), r); err != nil {
		return err
	}
	p.routes = r
	return nil
}

// drill sets the faults that somebody asked for.
func (p *place) drill(ctx context.Context, d *Drill, stable version, candidate *version) {
	environment, _ := rollout.SplitKey(p.at.key)
	for _, v := range []*version{&stable, candidate} {
		if v == nil {
			continue
		}
		if rate := d.rate(p.at.project, environment, v.artifact.Digest); rate != p.drilled[v.id] {
			if p.front.Fault(ctx, p.at.String(), proxy.Fault{Version: v.id, ErrorRate: rate}) == nil {
				p.drilled[v.id] = rate
			}
		}
	}
}
