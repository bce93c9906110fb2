package deployer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/services/deployer/process"
	"github.com/lemnis/lemnis/services/deployer/proxy"
	"github.com/lemnis/lemnis/services/deployer/rollout"
)

// deployer is what the effects share.
type deployer struct {
	options Options
	wanted  *wanted

	mu     sync.Mutex
	site   *site
	opened chan struct{} // closed while site is set
}

// site is what the owner of the phase holds: processes and listeners.
type site struct {
	options    Options
	wanted     *wanted
	supervisor *process.Supervisor
	ports      *ports

	mu     sync.Mutex
	places map[at]*place
	closed bool
}

// place is one service in one environment. Its lock is held while it converges.
type place struct {
	mu        sync.Mutex
	at        at
	front     *proxy.Front
	instances map[string]*process.Process // by rollout
	drilled   map[string]float64
	observed  observed
}

// run is the duty: it opens the site, makes everything run that has to, and closes it when the phase is given up. Requests
// in flight may take their time, and the next owner of the phase need not wait for them: where somebody waits for Closing,
// the site closes while the phase is handed on.
func (d *deployer) run(ctx context.Context, _ *service.Reporter) error {
	s, err := d.open(ctx)
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.site = s
	close(d.opened)
	d.mu.Unlock()
	s.restore(ctx)
	<-ctx.Done()
	d.mu.Lock()
	d.site, d.opened = nil, make(chan struct{})
	d.mu.Unlock()
	closing := func() { s.close(context.WithoutCancel(ctx)) } // what ends now still has its grace
	if d.options.Closing == nil {
		closing()
	} else {
		d.options.Closing.Go(closing)
	}
	return ctx.Err()
}

// open opens the site as soon as the owner before has closed it, where both have the same folder.
func (d *deployer) open(ctx context.Context) (*site, error) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for told := false; ; {
		s, err := openSite(d.options, d.wanted)
		if !errors.Is(err, process.ErrInUse) {
			return s, err
		}
		if !told {
			told = true
			d.options.Log("waiting for the owner before to close", "folder", d.options.Data)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
		}
	}
}

// use waits for the site.
func (d *deployer) use(ctx context.Context) (*site, error) {
	for {
		d.mu.Lock()
		s, opened := d.site, d.opened
		d.mu.Unlock()
		if s != nil {
			return s, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-opened:
		}
	}
}

func openSite(o Options, w *wanted) (*site, error) {
	for _, folder := range []string{o.Data, filepath.Join(o.Data, "executables"), filepath.Join(o.Data, "logs")} {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return nil, fmt.Errorf("deployer's data: %w", err)
		}
	}
	known, err := openPorts(filepath.Join(o.Data, "ports.json"), o.Door)
	if err != nil {
		return nil, err
	}
	supervisor, err := process.New(process.Config{
		StateDir: filepath.Join(o.Data, "processes"), Grace: o.Grace,
		Notify: func(n process.Notice) {
			o.Log("process "+string(n.Kind), "rollout", n.Name, "pid", n.PID, "port", n.Port, "reason", n.Reason, "again", n.Again)
		},
	})
	if err != nil {
		return nil, err
	}
	for _, l := range supervisor.Leftovers() {
		o.Log("ended what was left of an earlier run", "rollout", l.Name, "pids", fmt.Sprint(l.PIDs))
	}
	return &site{options: o, wanted: w, supervisor: supervisor, ports: known, places: map[at]*place{}}, nil
}

// restore converges every place, again while one fails.
func (s *site) restore(ctx context.Context) {
	const atOnce = 4
	for pause := 500 * time.Millisecond; ; pause = min(2*pause, 10*time.Second) {
		var wg sync.WaitGroup
		var mu sync.Mutex
		failed := 0
		slots := make(chan struct{}, atOnce)
		for _, where := range s.wanted.all() {
			r := s.wanted.running(where)
			if r.stable == nil && r.candidate == nil {
				continue
			}
			wg.Go(func() {
				slots <- struct{}{}
				defer func() { <-slots }()
				if err := s.converge(ctx, where); err != nil && ctx.Err() == nil {
					s.options.Log("does not run as it should; trying again", "at", where.String(), "error", err.Error())
					mu.Lock()
					failed++
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if failed == 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// place finds a place, with its address open.
func (s *site) place(ctx context.Context, where at) (*place, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, process.ErrClosed
	}
	if p := s.places[where]; p != nil {
		return p, nil
	}
	environment, name := rollout.SplitKey(where.key)
	features := map[string]string{}
	for _, f := range s.wanted.project(where.project).Features {
		if f.Service == name && f.Name != proxy.OtherFeature && strings.HasPrefix(f.Path, "/") {
			features[f.Name], _, _ = strings.Cut(f.Path, "?")
		}
	}
	p := &place{at: where, instances: map[string]*process.Process{}, drilled: map[string]float64{}}
	err := s.ports.listen(where.String(), func(port int) (err error) {
		p.front, err = proxy.New(proxy.Config{
			Environment: environment, Service: name, Address: net.JoinHostPort(s.options.Door.listen(), strconv.Itoa(port)),
			Open: s.options.Door.Listen != "", Host: s.options.Door.Host, Features: features, Log: s.options.Log,
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(p.front.Addr())
	if err == nil {
		var number int
		if number, err = strconv.Atoi(port); err == nil {
			err = s.ports.remember(where.String(), number)
		}
	}
	if err != nil {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_ = p.front.Close(ctx)
		return nil, err
	}
	s.places[where] = p
	return p, nil
}

// close ends listeners, requests in flight first, and then processes. Each has a grace of its own: requests that hang do not
// cost the processes their orderly end.
func (s *site) close(ctx context.Context) {
	s.mu.Lock()
	s.closed = true
	places := s.places
	s.mu.Unlock()
	draining, cancel := context.WithTimeout(ctx, s.options.Grace)
	defer cancel()
	var wg sync.WaitGroup
	for _, p := range places {
		wg.Go(func() {
			if err := p.front.Close(draining); err != nil {
				s.options.Log("closed with requests in flight", "at", p.at.String(), "error", err.Error())
			}
		})
	}
	wg.Wait()
	ending, cancel := context.WithTimeout(ctx, s.options.Grace+time.Second) // the supervisor kills after the grace
	defer cancel()
	if err := s.supervisor.Close(ending); err != nil {
		s.options.Log("processes did not end in order", "error", err.Error())
	}
}
