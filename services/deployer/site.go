package deployer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/lemnis/lemnis/internal/executor"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/services/deployer/keeper"
	"github.com/lemnis/lemnis/services/deployer/proxy"
	"github.com/lemnis/lemnis/services/deployer/rollout"
)

// deployer is what the effects share.
type deployer struct {
	options Options
	wanted  *wanted
	host    *executor.Process // runs the commands of projects
	exposed sync.Once         // it was told that they were not isolated

	mu     sync.Mutex
	site   *site
	opened chan struct{} // closed while site is set
	kept   *site         // goes on serving after the phase was lost, until another process has it
}

// site is what the owner of the phase commands: the front with its processes and listeners.
type site struct {
	options Options
	wanted  *wanted
	lock    *os.File
	front   *keeper.Client
	ports   *ports

	running map[string][]keeper.Process // by place: what the front ran when this owner came
	noted   map[string]keeper.Door
	retried map[at]time.Time // of the look: when what is kept there was tried once more
	tidying sync.Mutex       // held while what nothing needs is removed

	patience time.Duration // how long a place may take to become what the facts say
	share    time.Duration // how long one that is slow may hold up the others

	mu      sync.Mutex // not held while the front is asked anything: it may hang
	places  map[at]*place
	untried map[at]bool          // places that are to be restored and were not tried yet: they are not looked at
	opening map[at]chan struct{} // closed when that place was opened, or could not be
	closed  bool
}

// place is one service in one environment. Its lock is held while the front is asked to start and to route, not while a registry is
// asked, or versions drain.
type place struct {
	mu        lock
	at        at
	front     *keeper.Client
	url       string
	config    proxy.Config // of the door
	routes    proxy.Routes
	instances map[string]*instance // by rollout
	drilled   map[string]float64
	observed  observed
	history   history
}

// instance is a version that runs.
type instance struct {
	url, digest string
	wanted      chan struct{} // closed when one that drains is wanted again; nil while it does not drain
	ended       chan struct{} // closed when one that is told to end has ended; nil before
}

// run is the duty: it opens the site, makes everything run that has to, and closes it when the phase is given up. Requests
// in flight may take their time, and the next owner of the phase need not wait for them: where somebody waits for Closing,
// the site closes while the phase is handed on. Who loses the phase, with the bus for example, keeps the site: users are served
// until another process has the phase, and often that is this one again. A front that is gone is replaced.
func (d *deployer) run(ctx context.Context, r *service.Reporter) error {
	for {
		s := d.takeKept()
		if s == nil {
			var err error
			if s, err = d.open(ctx); err != nil {
				return err
			}
		}
		d.mu.Lock()
		d.site = s
		close(d.opened)
		d.mu.Unlock()
		restoring, gone := context.WithCancel(ctx)
		stop := context.AfterFunc(ctx, gone)
		go func() {
			select {
			case <-s.front.Done():
			case <-restoring.Done():
			}
			gone()
		}()
		var looking sync.WaitGroup
		s.restore(restoring, func() { looking.Go(func() { s.look(restoring, r) }) })
		<-restoring.Done()
		looking.Wait()
		stop()
		d.mu.Lock()
		d.site, d.opened = nil, make(chan struct{})
		d.mu.Unlock()
		if service.Lost(ctx) {
			d.options.Log("the phase is lost; users are served until another process has it", "folder", d.options.Data)
			d.mu.Lock()
			d.kept = s
			d.mu.Unlock()
			return ctx.Err()
		}
		if ctx.Err() != nil {
			d.giveUp(s) //nolint:contextcheck // what ends now still has its grace
			return ctx.Err()
		}
		d.options.Log("the front is gone, and what it ran with it; starting another", "folder", d.options.Data)
		s.leave()
	}
}

// giveUp closes a site.
func (d *deployer) giveUp(s *site) {
	closing := func() { s.close(context.Background()) }
	if d.options.Closing == nil {
		closing()
	} else {
		d.options.Closing.Go(closing)
	}
}

func (d *deployer) takeKept() *site {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.kept
	d.kept = nil
	return s
}

// retire gives up a site that was kept.
func (d *deployer) retire() {
	if s := d.takeKept(); s != nil {
		d.options.Log("another process has the phase, or this one stops: giving up what was kept", "folder", d.options.Data)
		d.giveUp(s)
	}
}

// open opens the site as soon as the owner before has closed it, where both have the same folder.
func (d *deployer) open(ctx context.Context) (*site, error) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for told := false; ; {
		s, err := openSite(ctx, d.options, d.wanted)
		if !errors.Is(err, errInUse) {
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

// errInUse says that another owner has the folder.
var errInUse = errors.New("in use by another owner")

// hold takes a data folder, until it is closed or the process ends.
func hold(folder string) (*os.File, error) {
	lock, err := os.OpenFile(filepath.Join(folder, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = errInUse
		}
		return nil, fmt.Errorf("folder %s: %w", folder, err)
	}
	return lock, nil
}

func openSite(ctx context.Context, o Options, w *wanted) (*site, error) {
	for _, folder := range []string{o.Data, filepath.Join(o.Data, "executables"), filepath.Join(o.Data, "logs")} {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return nil, fmt.Errorf("deployer's data: %w", err)
		}
	}
	lock, err := hold(o.Data)
	if err != nil {
		return nil, err
	}
	s := &site{options: o, wanted: w, lock: lock, places: map[at]*place{}, opening: map[at]chan struct{}{}, untried: map[at]bool{}, running: map[string][]keeper.Process{}, noted: map[string]keeper.Door{}, retried: map[at]time.Time{}}
	if s.ports, err = openPorts(filepath.Join(o.Data, "ports.json"), o.Door); err == nil {
		s.front, err = keeper.Attach(ctx, keeper.Config{Folder: o.Data, Grace: o.Grace, Alone: o.Alone, Patience: o.Patience}, o.Front, func(n keeper.Notice) { o.Log(n.Message, n.Fields...) })
	}
	if err != nil {
		_ = lock.Close()
		return nil, err
	}
	// What a place needs is fetched at once, and each of the four versions that it may have to run gets its time to start, one after
	// the other. These bounds end first: so it is known which version did not start.
	s.patience = 2*o.FetchTimeout + 4*o.StartTimeout + o.Grace + time.Minute
	s.share = 5 * time.Second
	state := s.front.State()
	for _, d := range state.Doors {
		s.noted[d.Name] = d
	}
	for _, p := range state.Processes {
		s.running[p.Door] = append(s.running[p.Door], p)
	}
	if len(state.Doors)+len(state.Processes) > 0 {
		o.Log("goes on with what the front holds", "front", state.PID, "doors", len(state.Doors), "processes", len(state.Processes))
	}
	return s, nil
}

// restore converges every place, each again until it is what the facts say; begun is called before the first is tried.
func (s *site) restore(ctx context.Context, begun func()) {
	places := s.torn()
	s.mu.Lock()
	for _, where := range places {
		s.untried[where] = true
	}
	s.mu.Unlock()
	begun()
	turns := newTurns(s.patience, s.share)
	var all sync.WaitGroup
	for _, where := range places {
		all.Go(func() { s.restoreAt(ctx, turns, where) })
	}
	all.Wait()
}

func (s *site) restoreAt(ctx context.Context, turns *turns, where at) {
	for pause := 500 * time.Millisecond; ; pause = min(2*pause, 10*time.Second) {
		var err error
		turns.turn(ctx, func(turn context.Context) {
			if err = s.converge(turn, where); err != nil {
				return
			}
			if kept := s.keep(turn, where); kept != nil { // the look tells of it, and tries again
				s.options.Log("what is kept to go back to does not run", "at", where.String(), "error", kept.Error())
			}
		})
		if ctx.Err() != nil {
			return
		}
		s.mu.Lock()
		delete(s.untried, where)
		s.mu.Unlock()
		if err == nil {
			return
		}
		s.options.Log("does not run as it should; trying again", "at", where.String(), "error", err.Error())
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		if !s.isTorn(where) {
			return
		}
	}
}

// torn are the places where something has to run, or the front runs something.
func (s *site) torn() []at {
	return slices.DeleteFunc(s.known(), func(where at) bool { return !s.isTorn(where) })
}

func (s *site) isTorn(where at) bool {
	r := s.wanted.running(where)
	return r.stable != nil || r.candidate != nil || len(s.running[where.String()]) > 0
}

// known are the places of the facts, and those that the front holds.
func (s *site) known() []at {
	all := s.wanted.all()
	for name := range s.noted {
		project, key, _ := strings.Cut(name, "/")
		if where := (at{project, key}); !slices.Contains(all, where) {
			all = append(all, where)
		}
	}
	return all
}

// place finds a place, with its address open.
func (s *site) place(ctx context.Context, where at) (*place, error) {
	for {
		s.mu.Lock()
		p, other, closed := s.places[where], s.opening[where], s.closed
		mine := make(chan struct{})
		if !closed && p == nil && other == nil {
			s.opening[where] = mine
		}
		s.mu.Unlock()
		switch {
		case closed:
			return nil, keeper.ErrGone
		case p != nil:
			return p, nil
		case other != nil:
			select {
			case <-other:
				continue
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		p, err := s.enter(ctx, where)
		s.mu.Lock()
		if err == nil {
			s.places[where] = p
		}
		delete(s.opening, where)
		s.mu.Unlock()
		close(mine)
		return p, err
	}
}

// features are the path prefixes of a service's features, by name.
func (s *site) features(where at) map[string]string {
	_, name := rollout.SplitKey(where.key)
	features := map[string]string{}
	for _, f := range s.wanted.project(where.project).Features {
		if f.Service == name && f.Name != proxy.OtherFeature && strings.HasPrefix(f.Path, "/") {
			features[f.Name], _, _ = strings.Cut(f.Path, "?")
		}
	}
	return features
}

// countBy has the front count by the features that the project has now: a guard of one that came after the door was opened would
// count nothing.
func (s *site) countBy(ctx context.Context, p *place) error {
	features := s.features(p.at)
	if maps.Equal(features, p.config.Features) {
		return nil
	}
	config := p.config
	config.Features = features
	_, err := s.front.Open(ctx, p.at.String(), config)
	if err == nil {
		p.config = config
	}
	return err
}

// enter opens the address of a place.
func (s *site) enter(ctx context.Context, where at) (*place, error) {
	environment, name := rollout.SplitKey(where.key)
	features := s.features(where)
	held, existing := s.noted[where.String()]
	if existing && !s.options.Door.shows(held) {
		s.options.Log("users come in otherwise than is configured now; closing that and opening anew", "at", where.String(), "address", held.Addr, "url", held.URL)
		var refused *keeper.Refusal // requests were cut off
		if err := s.front.Shut(ctx, where.String()); err != nil && !errors.As(err, &refused) {
			return nil, err
		}
	}
	var door keeper.Door
	var config proxy.Config
	err := s.ports.listen(where.String(), func(port int) (err error) {
		config = proxy.Config{
			Environment: environment, Service: name, Address: net.JoinHostPort(s.options.Door.listen(), strconv.Itoa(port)),
			Open: s.options.Door.Listen != "", Host: s.options.Door.Host, Features: features,
		}
		door, err = s.front.Open(ctx, where.String(), config)
		return err
	})
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(door.Addr)
	if err == nil {
		var number int
		if number, err = strconv.Atoi(port); err == nil {
			err = s.ports.remember(where.String(), number)
		}
	}
	if err != nil {
		_ = s.front.Shut(ctx, where.String())
		return nil, err
	}
	p := &place{mu: newLock(), at: where, front: s.front, url: door.URL, config: config, routes: door.Routes, instances: map[string]*instance{}, drilled: map[string]float64{}}
	if existing {
		counted, err := s.front.Snapshot(ctx, where.String())
		if err != nil {
			return nil, err
		}
		for _, f := range counted.Faults { // of the deployer before
			p.drilled[f.Version] = f.ErrorRate
		}
	}
	for _, r := range s.running[where.String()] {
		p.instances[r.Version] = &instance{url: r.URL, digest: r.Digest}
	}
	var n note
	if len(door.Note) > 0 && json.Unmarshal(door.Note, &n) == nil {
		p.observed, p.history = n.observed, n.History
	}
	return p, nil
}

// close ends the front: listeners, requests in flight first, and then processes.
func (s *site) close(ctx context.Context) {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	ending, cancel := context.WithTimeout(ctx, 2*s.options.Grace+5*time.Second)
	defer cancel()
	if err := s.front.Close(ending); err != nil {
		s.options.Log("the front did not end in order", "error", err.Error())
	}
	_ = s.lock.Close()
}

// leave gives up a front that is gone.
func (s *site) leave() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.front.Leave()
	_ = s.lock.Close()
}
