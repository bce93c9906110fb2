package executor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Isolation says whether steps on the host see the rest of the machine.
type Isolation string

// The isolations.
const (
	Auto     Isolation = "auto"     // by namespaces where the kernel grants them
	Required Isolation = "required" // by namespaces, or not at all
	None     Isolation = "off"      // the program's own rights and view; processes are bounded and ended all the same
)

// Process runs steps as processes of the host.
type Process struct {
	isolation Isolation

	mu      sync.Mutex
	granted bool      // the kernel grants namespaces
	refused error     // why it does not
	asked   time.Time // when it refused

	layered sync.Map // device of a file system and folders to why its own can not be laid over those; empty: they can

	cores atomic.Uint32 // handed out to steps that are limited to some
}

// askAgain is how long a refusal is believed: it may have been a shortage of the moment.
const askAgain = time.Minute

var _ Executor = (*Process)(nil)

// NewProcess makes the executor of the host.
func NewProcess(isolation Isolation) *Process {
	if isolation == "" {
		isolation = Auto
	}
	return &Process{isolation: isolation}
}

// ParseIsolation reads an isolation; empty is [Auto].
func ParseIsolation(text string) (Isolation, error) {
	switch i := Isolation(text); i {
	case "":
		return Auto, nil
	case Auto, Required, None:
		return i, nil
	}
	return "", fmt.Errorf("isolation %q: want %s, %s or %s", text, Auto, Required, None)
}

// Isolated says whether steps are kept apart from the machine, and if not, why. The error is the context's, or that of a
// machine on which nothing can be tried.
func (p *Process) Isolated(ctx context.Context) (isolated bool, why string, err error) {
	if p.isolation == None {
		return false, "isolation is switched off", nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.granted && (p.refused == nil || time.Since(p.asked) > askAgain) {
		refused, err := p.probe(ctx)
		if err != nil {
			return false, "", err
		}
		p.granted, p.refused, p.asked = refused == nil, refused, time.Now()
	}
	if !p.granted {
		return false, fmt.Sprintf("this kernel or container grants no namespaces (%v)", p.refused), nil
	}
	return true, "", nil
}

// Exposed is what the operator of a service is told, once, of what it runs that is not isolated.
func Exposed(what, service string) string {
	return fmt.Sprintf("%s are NOT kept apart from this machine: they run with the %s's rights and see its files and credentials; "+
		"allow user namespaces (seccomp, kernel.apparmor_restrict_unprivileged_userns), or refuse to run them by LEMNIS_ISOLATION=required", what, service)
}

// Layered says whether steps can be given layers whose upper folders lie in a folder, and which have others of it and those given
// below, and if not, why.
func (p *Process) Layered(ctx context.Context, folder string, lower ...string) (layered bool, why string, err error) {
	isolated, why, err := p.Isolated(ctx)
	if err != nil || !isolated {
		return false, why, err
	}
	var at syscall.Stat_t
	if err := syscall.Stat(folder, &at); err != nil {
		return false, "", &os.PathError{Op: "stat", Path: folder, Err: err}
	}
	asked := fmt.Sprintf("%d %q", at.Dev, lower)
	if known, is := p.layered.Load(asked); is {
		why = known.(string) //nolint:forcetypeassert // nothing else is put there
		return why == "", why, nil
	}
	dir, err := os.MkdirTemp(folder, "lemnis-probe-")
	if err != nil {
		return false, "", err
	}
	defer func() { removeAll(dir) }()
	own := filepath.Join(dir, "below")
	if err := os.Mkdir(own, 0o700); err != nil {
		return false, "", err
	}
	layers := []Layer{{Target: "/layered", Lower: []string{own}, Upper: filepath.Join(dir, "own")}}
	for i, below := range lower { // each by itself: they may lie on other file systems, and not all can be below
		n := strconv.Itoa(i)
		layers = append(layers, Layer{Target: "/layered" + n, Lower: []string{own, below}, Upper: filepath.Join(dir, n)})
	}
	refused, err := p.probe(ctx, layers...)
	if err != nil {
		return false, "", err
	}
	if refused != nil {
		why = fmt.Sprintf("this kernel or file system does not let folders be laid over one another (%v)", refused)
	}
	p.layered.Store(asked, why)
	return why == "", why, nil
}

// probe tries an isolated step. A probe that was cancelled has found out nothing.
func (p *Process) probe(ctx context.Context, layers ...Layer) (refused, err error) {
	dir, err := os.MkdirTemp("", "lemnis-probe-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	var said strings.Builder
	script := ":\n"
	for _, l := range layers {
		script += ": >" + l.Target + "/probe\n"
	}
	result, refused := p.run(ctx, Step{Name: "probe", Script: script, Dir: dir, Layers: layers}, &said, true)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if refused == nil && !result.Succeeded() {
		refused = errors.New(strings.TrimSpace(result.Reason + " " + said.String()))
	}
	return refused, nil
}

// Run runs the step.
func (p *Process) Run(ctx context.Context, step Step, out io.Writer) (Result, error) {
	if step.Image != "" {
		return Result{}, fmt.Errorf("step %s: image %s: this executor runs on the host only", step.Name, step.Image)
	}
	isolated, why, err := p.Isolated(ctx)
	if err != nil {
		return Result{}, err
	}
	if !isolated && p.isolation == Required {
		return Result{}, fmt.Errorf("step %s: isolation is required, and %s", step.Name, why)
	}
	result, err := p.run(ctx, step, out, isolated)
	result.Unisolated = why
	return result, err
}

// order is what the init is told; the end of its pipe tells it to end.
type order struct {
	Isolated bool
	Network  bool
	Binds    []bind
	Layers   []Layer
	Script   string
	Dir      string
	Watched  string // a path on the disk that the step writes to
	Env      []string
	Limits   Limits
	First    int // where its processors begin, if it may not use all
}

// verdict is what the init answers.
type verdict struct {
	Result Result
	Error  string // of the machinery
}

func (p *Process) run(ctx context.Context, step Step, out io.Writer, isolated bool) (Result, error) {
	dir, err := filepath.Abs(step.Dir)
	if err != nil {
		return Result{}, err
	}
	step.Dir, step.Limits = dir, step.Limits.filled()
	scratch, err := os.MkdirTemp(step.Scratch, "lemnis-step-")
	if err != nil {
		return Result{}, err
	}
	defer func() { removeAll(scratch) }()
	o, err := prepare(step, scratch, isolated)
	if err != nil {
		return Result{}, err
	}
	if cores := uint32(math.Ceil(step.Limits.CPU)); cores > 0 { // in turn, so that steps beside one another have others
		o.First = int(p.cores.Add(cores) - cores)
	}
	r, err := start(o)
	if err != nil {
		return Result{}, fmt.Errorf("start the sandbox: %w", err)
	}
	result, err := r.attend(ctx, step.Limits, out)
	go ahead.provide(o.kind())
	return result, err
}

// prepare lays out the private folders of a step and says how it is to be run.
func prepare(step Step, scratch string, isolated bool) (order, error) {
	o := order{Isolated: isolated, Network: step.Network, Script: step.Script, Dir: step.Dir, Limits: step.Limits, Watched: step.Dir}
	home, temp := filepath.Join(scratch, "home"), filepath.Join(scratch, "tmp")
	for _, folder := range []string{home, temp} {
		if err := os.Mkdir(folder, 0o700); err != nil {
			return order{}, err
		}
	}
	if isolated {
		at := step.At
		if at == "" {
			at = step.Dir
		}
		o.Dir, o.Watched = at, at
		// In this order: what is read may lie in /tmp, and what may be written in what is hidden.
		seen := system(step.ReadOnly)
		o.Binds = append([]bind{{Source: home, Target: "/home/step", Write: true}, {Source: temp, Target: "/tmp", Write: true}}, seen...)
		o.Binds = append(o.Binds, hiding(step.Hidden, seen)...) // not its own home, wherever that was made
		for _, path := range step.Shown {
			o.Binds = append(o.Binds, bind{Source: path, Target: path})
		}
		for _, folder := range step.Shared {
			o.Binds = append(o.Binds, bind{Source: folder, Target: folder, Write: true})
		}
		o.Binds, o.Layers = append(o.Binds, bind{Source: step.Dir, Target: at, Write: true}), step.Layers
		for _, l := range step.Layers {
			for _, folder := range []string{"upper", "work"} {
				if err := os.MkdirAll(filepath.Join(l.Upper, folder), 0o700); err != nil {
					return order{}, err
				}
			}
		}
		home, temp = "/home/step", "/tmp"
	}
	o.Env = append([]string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8", "CI=true"}, step.Environment...)
	o.Env = append(o.Env, "HOME="+home, "TMPDIR="+temp, "PWD="+o.Dir)
	return o, nil
}

// running is an init at work.
type running struct {
	cmd     *exec.Cmd
	control *os.File // written by us; its end ends the init
	answer  *os.File
	output  *os.File
}

// start has an init run a step: one that waits, or, where there is none or it is dead, a new one.
func start(o order) (*running, error) {
	if waiting := ahead.take(o.kind()); waiting != nil {
		if err := waiting.tell(o); err == nil {
			return waiting, nil
		}
	}
	r, err := begin(o.kind())
	if err != nil {
		return nil, err
	}
	if err := r.tell(o); err != nil {
		return nil, fmt.Errorf("the sandbox ended at once: %w", err)
	}
	return r, nil
}

// begin starts an init, which waits for its order.
func begin(k kind) (*running, error) {
	var ends []*os.File
	var err error
	pipe := func() (read, write *os.File) {
		if err == nil {
			if read, write, err = os.Pipe(); err == nil {
				ends = append(ends, read, write)
			}
		}
		return read, write
	}
	controlRead, control := pipe()
	answer, answerWrite := pipe()
	output, outputWrite := pipe()
	if err != nil {
		closeAll(ends)
		return nil, err
	}
	widen(output)
	cmd := exec.Command("/proc/self/exe") //nolint:noctx // attend ends it with the context, in two stages
	cmd.Args = append([]string{initName}, k.words()...)
	cmd.Env = []string{"GOMAXPROCS=2", "GOTRACEBACK=none"}
	cmd.Stdout, cmd.Stderr = outputWrite, outputWrite
	cmd.ExtraFiles = []*os.File{controlRead, answerWrite}
	cmd.SysProcAttr = attributes(k)
	if err := cmd.Start(); err != nil {
		closeAll(ends)
		return nil, err
	}
	closeAll([]*os.File{controlRead, answerWrite, outputWrite})
	return &running{cmd: cmd, control: control, answer: answer, output: output}, nil
}

// tell gives an init its order; one that does not take it is dismissed.
func (r *running) tell(o order) error {
	err := json.NewEncoder(r.control).Encode(o)
	if err != nil {
		r.dismiss()
	}
	return err
}

// dismiss ends an init that was given nothing to do.
func (r *running) dismiss() {
	_ = r.cmd.Process.Kill()
	_ = r.cmd.Wait() // how it ended is of no interest
	closeAll([]*os.File{r.control, r.answer, r.output})
}

// attend follows a step to its end, whoever brings it about.
func (r *running) attend(ctx context.Context, limits Limits, out io.Writer) (Result, error) {
	limited, cancel := context.WithTimeout(ctx, limits.Time)
	defer cancel()
	counted := &meter{out: out, left: limits.Output, full: cancel}
	drained := make(chan error, 1)
	go func() {
		_, err := io.CopyBuffer(counted, struct{ io.Reader }{r.output}, make([]byte, 256<<10))
		drained <- err
	}()
	ended := make(chan verdict, 1)
	go func() {
		var v verdict
		if err := json.NewDecoder(io.LimitReader(r.answer, 1<<20)).Decode(&v); err != nil {
			v.Result = over(CauseKilled, "the step's processes were killed from outside")
		}
		ended <- v
	}()
	var v verdict
	var late bool
	select {
	case v = <-ended:
	case <-limited.Done():
		late = errors.Is(limited.Err(), context.DeadlineExceeded) // not what passes while the output is read to its end
		_, _ = r.control.WriteString("t")                         // SIGTERM to all; then SIGKILL
		select {
		case v = <-ended:
		case <-time.After(limits.Grace):
		}
	}
	_ = r.control.Close()
	err := r.end(drained)
	_ = r.answer.Close()
	switch {
	case ctx.Err() != nil:
		return Result{}, context.Cause(ctx)
	case counted.over():
		return over(CauseOutputLimit, "printed more than %d bytes", limits.Output), nil
	case late:
		return over(CauseTimeLimit, "not done after %s", limits.Time), nil
	case counted.failed != nil:
		return Result{}, fmt.Errorf("keep the output: %w", counted.failed)
	case v.Error != "":
		return Result{}, errors.New(v.Error)
	}
	return v.Result, err
}

// patience is how long an init without a pid namespace may take to end what it adopted.
const patience = 5 * time.Second

// end waits for the init, kills it when it does not end by itself, and reads what is left of the output.
func (r *running) end(drained <-chan error) error {
	kill := time.AfterFunc(patience, func() { _ = syscall.Kill(-r.cmd.Process.Pid, syscall.SIGKILL) })
	_ = r.cmd.Wait() // how it ended is in the verdict
	kill.Stop()
	_ = syscall.Kill(-r.cmd.Process.Pid, syscall.SIGKILL)
	select {
	case err := <-drained:
		_ = r.output.Close()
		return err
	case <-time.After(patience): // something without a pid namespace got away and holds on to the pipe
		_ = r.output.Close()
		<-drained //nolint:errcheck // what could not be read is lost with the pipe
		return nil
	}
}

// meter passes on what a step may print. It takes everything, so that the step is not stopped by a full pipe, and says once
// that it is too much.
type meter struct {
	mu     sync.Mutex
	out    io.Writer
	left   int64
	full   func()
	passed bool
	failed error
}

func (m *meter) Write(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := len(p)
	if int64(n) > m.left {
		p, m.passed = p[:max(m.left, 0)], true
	}
	m.left -= int64(len(p))
	if m.failed == nil && len(p) > 0 {
		_, m.failed = m.out.Write(p)
	}
	if m.passed || m.failed != nil {
		m.full()
	}
	return n, nil
}

func (m *meter) over() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.passed
}

func removeAll(dir string) { _ = RemoveAll(dir) }

// RemoveAll removes a folder of which a step may have taken our rights.
func RemoveAll(dir string) error {
	if os.RemoveAll(dir) == nil {
		return nil
	}
	_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, _ error) error {
		if d != nil && d.IsDir() {
			_ = os.Chmod(path, 0o700) //nolint:gosec // the folder is ours and about to go
		}
		return nil
	})
	return os.RemoveAll(dir)
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

// hiding finds every place at which a step would see what is hidden, under whatever name: links lead to it, or away from it.
func hiding(hidden []string, seen []bind) (over []bind) {
	var sources []bind // with their links resolved
	for _, b := range seen {
		if source, err := filepath.EvalSymlinks(b.Source); err == nil {
			sources = append(sources, bind{Source: source, Target: b.Target})
		}
	}
	for _, path := range hidden {
		resolved, err := filepath.EvalSymlinks(path)
		if err != nil {
			continue // what is not there needs no hiding
		}
		over = append(over, bind{Target: resolved})
		for _, b := range sources {
			if below, is := within(b.Source, resolved); is {
				over = append(over, bind{Target: filepath.Join(b.Target, below)})
			} else if _, is := within(resolved, b.Source); is {
				over = append(over, bind{Target: b.Target})
			}
		}
	}
	return over
}

// within says where below a folder a path lies, if it does.
func within(folder, path string) (below string, is bool) {
	below, err := filepath.Rel(folder, path)
	return below, err == nil && filepath.IsLocal(below)
}

// bind is a file or folder of the host that is put into the new root. One without a source hides what is there.
type bind struct {
	Source, Target string
	Write          bool
}

// system lists what of the machine a step needs: programs, libraries, and the few files that they read. No home, no /etc as a
// whole, no /var, no /run.
func system(more []string) []bind {
	binds := fixed()
	add := func(path string) {
		if slices.ContainsFunc(binds, func(b bind) bool { return b.Target == path || strings.HasPrefix(path, b.Target+"/") }) {
			return
		}
		if _, err := os.Stat(path); err == nil { //nolint:gosec // the host's own PATH
			binds = append(binds, bind{Source: path, Target: path})
		}
	}
	for _, path := range filepath.SplitList(os.Getenv("PATH")) {
		if filepath.IsAbs(path) {
			add(filepath.Clean(path))
		}
	}
	for _, path := range more {
		add(filepath.Clean(path))
	}
	return binds
}

// fixed is the part of it that has its place on every machine, away from where steps may write.
func fixed() (binds []bind) {
	paths := []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix"}
	for _, name := range []string{
		"alternatives", "ca-certificates", "hosts", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "mime.types",
		"nsswitch.conf", "os-release", "pki", "protocols", "resolv.conf", "services", "ssl",
	} {
		paths = append(paths, "/etc/"+name)
	}
	for _, path := range paths {
		if _, err := os.Stat(path); err == nil {
			binds = append(binds, bind{Source: path, Target: path})
		}
	}
	return binds
}
