package deployer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/lemnis/lemnis/services/deployer/process"
	"github.com/lemnis/lemnis/services/deployer/proxy"
	"github.com/lemnis/lemnis/services/deployer/rollout"
)

// startError says that a version could not be started.
type startError struct {
	version string
	err     error
}

func (e *startError) Error() string { return fmt.Sprintf("%s does not run: %v", e.version, e.err) }
func (e *startError) Unwrap() error { return e.err }

// converge makes a place what the facts say: it starts what has to run, routes users, and stops the rest once it is
// drained. It may be called at any time, again, and after any crash. A candidate that does not start leaves all
// users with the stable version, and is the error.
func (s *site) converge(ctx context.Context, where at) error {
	p, err := s.place(ctx, where)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	want := s.wanted.running(where) // under the lock: a later call must not be undone by an earlier look

	var failed []error
	routes := proxy.Routes{}
	needed := map[string]bool{}
	if v := want.stable; v != nil {
		needed[v.id] = true
		if routes.Stable, err = s.start(ctx, p, *v); err != nil {
			// Nobody is moved anywhere before what has to serve them runs.
			return &startError{v.id, err}
		}
	}
	if v := want.candidate; v != nil {
		needed[v.id] = true
		upstream, err := s.start(ctx, p, *v)
		switch {
		case err != nil:
			failed = append(failed, &startError{v.id, err})
		case want.stable != nil && want.weight > 0:
			routes.Canary, routes.Weight = &upstream, want.weight
		}
	}
	if want.stable != nil {
		if err := p.route(routes); err != nil {
			return err
		}
		p.drill(s.options.Drill, *want.stable, want.candidate)
	}
	for _, id := range slices.Sorted(maps.Keys(p.instances)) {
		if !needed[id] {
			s.stop(ctx, p, id)
		}
	}
	return errors.Join(failed...)
}

// start runs a version unless it runs.
func (s *site) start(ctx context.Context, p *place, v version) (proxy.Upstream, error) {
	running := p.instances[v.id]
	if running == nil {
		environment, name := rollout.SplitKey(p.at.key)
		if err := s.verify(ctx, s.wanted.project(p.at.project), environment, v.artifact); err != nil {
			return proxy.Upstream{}, err
		}
		file, err := s.executable(ctx, v.artifact)
		if err != nil {
			return proxy.Upstream{}, err
		}
		running, err = s.supervisor.Start(ctx, process.Spec{
			Name: p.at.project + "/" + v.id, Executable: file,
			Env:          []string{"LEMNIS_ENVIRONMENT=" + environment, "LEMNIS_SERVICE=" + name},
			StartTimeout: s.options.StartTimeout, LogFile: s.logFile(p.at.project, v.id),
		})
		switch {
		case err != nil && (ctx.Err() != nil || errors.Is(err, process.ErrClosed)):
			return proxy.Upstream{}, err
		case err != nil:
			return proxy.Upstream{}, fmt.Errorf("%w: %w", errStart, err)
		}
		p.instances[v.id] = running
	}
	return proxy.Upstream{Version: v.id, URL: running.URL()}, nil
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

// stop ends a version once its last request is answered, or the grace is over.
func (s *site) stop(ctx context.Context, p *place, id string) {
	timer := time.NewTimer(s.options.Grace)
	defer timer.Stop()
	select {
	case <-p.front.Drain(id):
	case <-timer.C:
		s.options.Log("stopped with requests in flight", "rollout", id)
	case <-ctx.Done():
	}
	p.instances[id].Stop(ctx)
	p.front.Forget(id)
	delete(p.instances, id)
	delete(p.drilled, id)
}

// route sets the routes if they differ.
func (p *place) route(r proxy.Routes) error {
	now := p.front.Routes()
	same := now.Stable == r.Stable && now.Weight == r.Weight && (now.Canary == nil) == (r.Canary == nil)
	if same && (r.Canary == nil || *now.Canary == *r.Canary) {
		return nil
	}
	return p.front.SetRoutes(r)
}

// drill sets the faults that somebody asked for.
func (p *place) drill(d *Drill, stable version, candidate *version) {
	environment, _ := rollout.SplitKey(p.at.key)
	for _, v := range []*version{&stable, candidate} {
		if v == nil {
			continue
		}
		if rate := d.rate(p.at.project, environment, v.artifact.Digest); rate != p.drilled[v.id] {
			if p.front.SetFault(proxy.Fault{Version: v.id, ErrorRate: rate}) == nil {
				p.drilled[v.id] = rate
			}
		}
	}
}
