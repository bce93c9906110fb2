package executor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/go-units"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/client"
)

// Docker runs steps in containers, by the API of a container engine on this machine: that of DOCKER_HOST, else of Docker's own
// socket.
type Docker struct {
	folder string
	socket string // of the engine that there is when nobody names one

	busy   chan struct{}  // holds one while somebody looks for the engine; whoever waits looks at a context too
	api    *client.Client // nil: no engine has answered yet
	engine string         // which engine that is, whatever it is reached by
	data   string         // where the engine keeps what containers write
	root   bool           // users of containers are not those of the machine: its root is the engine's own user
	mine   *os.File       // locked as long as this process lives
	id     string         // what its containers are labelled with
	left   error          // why containers of a process that was killed are still there; nil once told
}

var _ Executor = (*Docker)(nil)

// NewDocker makes the executor of containers. The folder is where processes note that they live, so that another finds what
// one that was killed has left running; processes may share it.
func NewDocker(folder string) *Docker {
	return &Docker{folder: folder, socket: strings.TrimPrefix(client.DefaultDockerHost, "unix://"), busy: make(chan struct{}, 1)}
}

// answers is how long an engine may take to say that it is there.
const answers = 10 * time.Second

// working is how long an engine may take to make, start, end or remove a container.
const working = time.Minute

// ask has an engine do something that may take so long at most: one that does not answer is not waited for.
func ask[T any](ctx context.Context, most time.Duration, call func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	return call(ctx)
}

// inspect tells how a container is.
func (p *pod) inspect(ctx context.Context, id string) (client.ContainerInspectResult, error) {
	return ask(ctx, answers, func(ctx context.Context) (client.ContainerInspectResult, error) {
		return p.api.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	})
}

// start starts a container.
func (p *pod) start(ctx context.Context, id string) error {
	_, err := ask(ctx, working, func(ctx context.Context) (client.ContainerStartResult, error) {
		return p.api.ContainerStart(ctx, id, client.ContainerStartOptions{})
	})
	return err
}

// errNone says that this machine was given no engine. One that was and does not answer is another error: it may yet.
var errNone = errors.New("DOCKER_HOST names none, and Docker's own is not installed")

// open finds the engine, the first time.
func (d *Docker) open(ctx context.Context) (*client.Client, error) {
	select {
	case d.busy <- struct{}{}:
		defer func() { <-d.busy }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if d.api != nil {
		return d.api, nil
	}
	if _, err := os.Stat(d.socket); os.Getenv(client.EnvOverrideHost) == "" && errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: there is no %s", errNone, d.socket)
	}
	api, err := client.New(client.FromEnv)
	if err != nil {
		return nil, err
	}
	about, err := ask(ctx, answers, func(ctx context.Context) (client.SystemInfoResult, error) { return api.Info(ctx, client.InfoOptions{}) })
	if err == nil && about.Info.OSType != "linux" {
		err = fmt.Errorf("it runs containers of %s only", about.Info.OSType)
	}
	if err == nil {
		d.engine, err = identity(ctx, api, about.Info.Name+" "+about.Info.DockerRootDir)
	}
	if err == nil {
		err = d.sign(ctx, api)
	}
	if err != nil {
		_ = api.Close()
		return nil, err
	}
	d.api, d.data = api, about.Info.DockerRootDir
	for _, option := range about.Info.SecurityOptions {
		d.root = d.root || strings.Contains(option, "name=rootless")
	}
	return api, nil
}

// told is why containers of a process that was killed are still there, for the first who asks.
func (d *Docker) told() (left error) {
	d.busy <- struct{}{}
	defer func() { <-d.busy }()
	left, d.left = d.left, nil
	return left
}

// reach finds the engine for what is wanted of it. That there is none is a result; that one does not answer is an error.
func (d *Docker) reach(ctx context.Context, wanted string, out io.Writer) (*client.Client, Result, error) {
	api, err := d.open(ctx)
	switch {
	case ctx.Err() != nil:
		return nil, Result{}, context.Cause(ctx)
	case errors.Is(err, errNone):
		return nil, unable(CauseEngine, "it asks for %s, and there is no container engine here: %v", wanted, err), nil
	case err != nil:
		return nil, Result{}, fmt.Errorf("it asks for %s, and the container engine does not answer as it has to: %w", wanted, err)
	}
	if left := d.told(); left != nil {
		_, _ = fmt.Fprintf(out, "= what a killed process has left on the engine is not removed: %v\n", left)
	}
	return api, Result{}, nil
}

// Run runs the step. That there is no engine, or no such image, is a result; that an engine does not answer is an error.
func (d *Docker) Run(ctx context.Context, step Step, out io.Writer) (Result, error) {
	api, none, err := d.reach(ctx, wanted(step), out)
	if err != nil || !none.Succeeded() {
		return none, err
	}
	if step.Dir, err = filepath.Abs(step.Dir); err != nil {
		return Result{}, err
	}
	step.Limits = step.Limits.filled()
	scratch, err := os.MkdirTemp(step.Scratch, "lemnis-step-")
	if err != nil {
		return Result{}, err
	}
	defer func() { removeAll(scratch) }()
	p := &pod{engine: d, api: api, step: step, out: &meter{out: out, left: step.Limits.Output, full: func() {}}, images: map[string]string{}}
	result, err := p.run(ctx, scratch)
	if left := p.end(context.WithoutCancel(ctx)); err == nil {
		err = left
	}
	if result.Images = p.images; ctx.Err() != nil {
		return Result{}, context.Cause(ctx)
	}
	return result, err
}

// wanted says what of a step needs an engine.
func wanted(step Step) string {
	if step.Image != "" {
		return "image " + step.Image
	}
	return fmt.Sprintf("service %s (image %s)", step.Beside[0].Name, step.Beside[0].Image)
}

// unable is the result of a step whose script was not begun.
func unable(cause Cause, format string, args ...any) Result {
	return Result{Exit: 125, Cause: cause, Reason: strings.Join(strings.Fields(fmt.Sprintf(format, args...)), " ")}
}

// failed is a result on the way of an error.
type failed struct{ result Result }

func (f failed) Error() string { return f.result.Reason }

// pod is the containers of one step: its services, which share one network with it, and the script's.
type pod struct {
	engine *Docker
	api    *client.Client
	step   Step
	out    *meter
	images map[string]string // name to digest

	services []service
	made     []string // ids of all that was made
}

func (p *pod) run(ctx context.Context, scratch string) (Result, error) {
	var f failed
	id, err := p.prepare(ctx, scratch)
	switch {
	case errors.As(err, &f):
		return f.result, nil
	case err != nil:
		return Result{}, err
	}
	result, err := p.attend(ctx, id)
	if errors.As(err, &f) {
		return f.result, nil
	}
	if err == nil && !result.Succeeded() {
		p.quote(ctx)
	}
	return result, err
}

// prepare brings services up and makes the container of the script.
func (p *pod) prepare(ctx context.Context, scratch string) (id string, err error) {
	if err := p.serve(ctx); err != nil {
		return "", err
	}
	o, err := prepare(p.step, scratch, true)
	if err != nil {
		return "", err
	}
	var image string
	if p.step.Image != "" {
		found, err := p.find(ctx, p.step.Image)
		if err != nil {
			return "", err
		}
		image, o.Env = found.ID, o.Env[1:] // it has a PATH of its own
	} else if image, err = p.machine(ctx); err != nil {
		return "", err
	}
	mounts, err := p.mounts(o, scratch)
	if err != nil {
		return "", err
	}
	user := fmt.Sprintf("%d:%d", os.Geteuid(), os.Getegid())
	if p.engine.root {
		user = "0:0"
	}
	host := p.bounded()
	host.Mounts, host.ReadonlyRootfs, host.LogConfig = mounts, true, container.LogConfig{Type: "none"}
	config := &container.Config{ // both streams in one, so that what was printed first comes first
		Image: image, Entrypoint: []string{"/bin/sh", "-c", `exec /bin/sh -e -c "$0" 2>&1`, p.step.Script}, User: user, WorkingDir: o.Dir, Env: o.Env,
		AttachStdout: true, AttachStderr: true, Healthcheck: &container.HealthConfig{Test: []string{"NONE"}},
	}
	if id, err = p.make(ctx, p.step.Image, config, host); err != nil || p.step.Image == "" {
		return id, err
	}
	if _, err := ask(ctx, answers, func(ctx context.Context) (client.ContainerStatPathResult, error) {
		return p.api.ContainerStatPath(ctx, id, client.ContainerStatPathOptions{Path: "/bin/sh"})
	}); errdefs.IsNotFound(err) {
		return "", failed{unable(CauseImage, "image %s has no /bin/sh, which the script is for", p.step.Image)}
	} else if err != nil {
		return "", fmt.Errorf("look into the container: %w", err)
	}
	return id, nil
}

// places are mounts, one at each place: engines refuse a second, where on the host the later lies over the earlier.
type places []mount.Mount

func (p *places) put(m mount.Mount) {
	m.Target = filepath.Clean(m.Target)
	*p = append(slices.DeleteFunc(*p, func(other mount.Mount) bool { return other.Target == m.Target }), m)
}

func (p *places) bind(source, target string, write bool) error {
	source, err := filepath.EvalSymlinks(source)
	if err == nil {
		p.put(mount.Mount{Type: mount.TypeBind, Source: source, Target: target, ReadOnly: !write})
	}
	return err
}

// mounts are the folders of the machine that the script sees.
func (p *pod) mounts(o order, scratch string) ([]mount.Mount, error) {
	var all places
	for _, b := range o.Binds {
		own := b.Write && (b.Target == "/home/step" || b.Target == "/tmp" || b.Target == o.Dir)
		switch {
		case p.step.Image != "" && !own:
			continue // it brings its own system
		case b.Target == "/etc/hosts", b.Target == "/etc/resolv.conf", b.Target == "/sbin":
			continue // the engine's: its init lies in /sbin
		case b.Source != "":
			if err := all.bind(b.Source, b.Target, b.Write); err != nil {
				return nil, err
			}
			continue
		}
		switch info, err := os.Stat(b.Target); {
		case err == nil && info.IsDir():
			all.put(mount.Mount{Type: mount.TypeTmpfs, Target: b.Target, TmpfsOptions: &mount.TmpfsOptions{SizeBytes: 1 << 20}})
		case err == nil:
			all.put(mount.Mount{Type: mount.TypeBind, Source: os.DevNull, Target: b.Target, ReadOnly: true})
		}
	}
	if p.step.Image != "" {
		return all, nil
	}
	for _, l := range o.Layers {
		if len(l.Lower) > 0 {
			continue // an engine lays no folders over one another: whoever has it run brings copies
		}
		if err := all.bind(filepath.Join(l.Upper, "upper"), l.Target, true); err != nil {
			return nil, err
		}
	}
	for name, text := range users(os.Geteuid(), os.Getegid()) {
		at := filepath.Join(scratch, name)
		if err := os.WriteFile(at, []byte(text), 0o644); err != nil { //nolint:gosec // everybody reads it, as in any system
			return nil, err
		}
		if err := all.bind(at, "/etc/"+name, false); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// bounded is what no container of a step may leave.
func (p *pod) bounded() *container.HostConfig {
	l, init, most := p.step.Limits, true, int64(tasks(p.step.Limits))
	host := &container.HostConfig{
		NetworkMode: "none", IpcMode: container.IPCModePrivate, Init: &init,
		CapDrop: []string{"ALL"}, SecurityOpt: []string{"no-new-privileges:true"},
		Resources: container.Resources{
			Memory: max(l.Memory, leastMemory), MemorySwap: max(l.Memory, leastMemory), PidsLimit: &most,
			Ulimits: []*units.Ulimit{{Name: "core"}, {Name: "fsize", Soft: l.File, Hard: l.File}},
		},
	}
	if p.step.Network {
		host.NetworkMode = "bridge"
	}
	if l.CPU > 0 {
		host.NanoCPUs = int64(min(l.CPU, float64(runtime.NumCPU())) * 1e9)
	}
	if len(p.services) > 0 {
		host.NetworkMode = container.NetworkMode("container:" + p.services[0].id)
	}
	return host
}

// leastMemory is what engines grant at least.
const leastMemory = 6 << 20

// label is on all that is made for a step, with the id of the process that made it.
const label = "dev.lemnis.step"

// make makes a container, and keeps in mind that it has to go.
func (p *pod) make(ctx context.Context, image string, config *container.Config, host *container.HostConfig) (id string, err error) {
	config.Labels = map[string]string{label: p.engine.id, label + ".name": p.step.Name}
	made, err := ask(ctx, working, func(ctx context.Context) (client.ContainerCreateResult, error) {
		return p.api.ContainerCreate(ctx, client.ContainerCreateOptions{Config: config, HostConfig: host})
	})
	if err != nil {
		return "", p.wrong("make a container", image, err)
	}
	p.made = append(p.made, made.ID)
	return made.ID, nil
}

// wrong says whether it is the engine that is wrong, or what it was asked for.
func (p *pod) wrong(doing, image string, err error) error {
	if errdefs.IsInvalidArgument(err) && strings.Contains(err.Error(), "bind source path does not exist") {
		return failed{unable(CauseEngine, "the container engine does not see this machine's folders, as one has to that runs steps: %v", err)}
	}
	if errdefs.IsInvalidArgument(err) {
		return failed{unable(CauseImage, "the container engine can not %s of image %s: %v", doing, image, err)}
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// attend follows the script to its end, whoever brings it about.
func (p *pod) attend(ctx context.Context, id string) (Result, error) {
	limits := p.step.Limits
	asking, leave := context.WithCancel(context.WithoutCancel(ctx)) // the engine is spoken to after the step has been cancelled too
	defer leave()
	limited, cancel := context.WithTimeout(ctx, limits.Time)
	defer cancel()
	p.out.full = cancel
	attached, err := ask(ctx, answers, func(ctx context.Context) (client.ContainerAttachResult, error) { // the connection outlives this context
		return p.api.ContainerAttach(ctx, id, client.ContainerAttachOptions{Stream: true, Stdout: true, Stderr: true})
	})
	if err != nil {
		return Result{}, fmt.Errorf("listen to the container: %w", err)
	}
	defer attached.Close()
	drained := make(chan error, 1)
	go func() {
		_, err := stdcopy.StdCopy(p.out, p.out, attached.Reader)
		drained <- err
	}()
	ended := p.wait(ctx, asking, leave, id)
	if err := p.start(ctx, id); err != nil {
		return Result{}, p.unstarted(ctx, err)
	}
	broken := make(chan Result, 1)
	watching, look := context.WithCancel(limited)
	var watch sync.WaitGroup
	watch.Go(func() { p.watch(watching, id, broken) })
	var e end
	var late bool
	select {
	case e = <-ended:
	case e.result = <-broken:
		err = p.kill(asking, id, ended)
	case <-limited.Done():
		late = errors.Is(limited.Err(), context.DeadlineExceeded) // not what passes while the output is read to its end
		p.terminate(asking, id)
		select {
		case e = <-ended:
		case <-time.After(limits.Grace):
			err = p.kill(asking, id, ended)
		}
	}
	look()
	watch.Wait()
	select {
	case read := <-drained:
		e.err = errors.Join(e.err, read)
	case <-time.After(patience):
		attached.Close()
		<-drained //nolint:errcheck // what could not be read is lost with the connection
	}
	switch {
	case ctx.Err() != nil:
		return Result{}, context.Cause(ctx)
	case p.out.over():
		return over(CauseOutputLimit, "printed more than %d bytes", limits.Output), nil
	case late:
		return over(CauseTimeLimit, "not done after %s", limits.Time), nil
	case p.out.failed != nil:
		return Result{}, fmt.Errorf("keep the output: %w", p.out.failed)
	}
	return e.result, errors.Join(err, e.err)
}

// unstarted is why a script could not be started: perhaps the service whose network it shares has just ended.
func (p *pod) unstarted(ctx context.Context, err error) error {
	for _, s := range p.services {
		about, unknown := p.inspect(ctx, s.id)
		if unknown == nil && !about.Container.State.Running {
			return p.down(ctx, s, "has ended, with status %d", about.Container.State.ExitCode)
		}
	}
	return fmt.Errorf("start the container: %w", err)
}

// end is how a container ended.
type end struct {
	result Result
	err    error
}

// wait tells once how a container that is about to be started ended. That the engine waits has to be said at once, and as long as
// the step's context lasts; from then on the context counts that leave ends.
func (p *pod) wait(step, ctx context.Context, leave func(), id string) <-chan end {
	told := make(chan end, 1)
	late, stop := time.AfterFunc(answers, leave), context.AfterFunc(step, leave)
	waiting := p.api.ContainerWait(ctx, id, client.ContainerWaitOptions{Condition: container.WaitConditionNextExit})
	late.Stop()
	stop()
	go func() {
		select {
		case err := <-waiting.Error:
			told <- end{err: fmt.Errorf("wait for the container: %w", err)}
		case exit := <-waiting.Result:
			e := end{result: exited(int(exit.StatusCode))}
			about, err := p.inspect(ctx, id)
			switch {
			case exit.Error != nil:
				e.err = errors.New(exit.Error.Message)
			case err != nil:
				e.err = fmt.Errorf("ask how the container ended: %w", err)
			case about.Container.State.OOMKilled && !e.result.Succeeded():
				e.result = over(CauseMemoryLimit, "took more than %d bytes of memory", max(p.step.Limits.Memory, leastMemory))
			}
			told <- e
		}
	}()
	return told
}

// terminate asks all processes of a script to end.
func (p *pod) terminate(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(ctx, answers)
	defer cancel()
	asked, err := p.api.ExecCreate(ctx, id, client.ExecCreateOptions{Cmd: []string{"/bin/sh", "-c", "kill -TERM -1"}})
	if err == nil {
		_, _ = p.api.ExecStart(ctx, asked.ID, client.ExecStartOptions{Detach: true})
	}
}

// kill ends a container, with all that runs in it.
func (p *pod) kill(ctx context.Context, id string, ended <-chan end) error {
	ctx, cancel := context.WithTimeout(ctx, working)
	defer cancel()
	_, err := p.api.ContainerKill(ctx, id, client.ContainerKillOptions{Signal: "SIGKILL"})
	if err != nil && !errdefs.IsConflict(err) && !errdefs.IsNotFound(err) { // conflict: it has ended
		return fmt.Errorf("end the container: %w", err)
	}
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return errors.New("the container does not end")
	}
}

// glance is how often limits are looked at that the kernel does not keep, or does not tell of.
const glance = 500 * time.Millisecond

// watch says when a limit is passed, and which.
func (p *pod) watch(ctx context.Context, id string, broken chan<- Result) {
	ticks := time.NewTicker(glance)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
		}
		switch {
		case p.tasks(ctx, id)-1 > int64(p.step.Limits.Processes): // without its init
			broken <- over(CauseProcessLimit, "ran more than %d processes and threads at once", p.step.Limits.Processes)
		case full(p.step.Dir), full(p.engine.data): // the engine's may not be seen from here
			broken <- over(CauseDiskFull, "left less than %d bytes free on the disk", int64(leastFree))
		default:
			continue
		}
		return
	}
}

// tasks counts the processes and threads of a container, its init too; 0 when it can not be told.
func (p *pod) tasks(ctx context.Context, id string) int64 {
	ctx, cancel := context.WithTimeout(ctx, answers)
	defer cancel()
	got, err := p.api.ContainerStats(ctx, id, client.ContainerStatsOptions{})
	if err != nil {
		return 0
	}
	defer func() { _ = got.Body.Close() }()
	var now container.StatsResponse
	if err := json.NewDecoder(got.Body).Decode(&now); err != nil {
		return 0
	}
	return int64(now.PidsStats.Current)
}

func full(dir string) bool {
	var disk syscall.Statfs_t
	return dir != "" && syscall.Statfs(dir, &disk) == nil && int64(disk.Bavail)*disk.Bsize < leastFree
}

// end removes all containers of the step.
func (p *pod) end(ctx context.Context) (left error) {
	for _, id := range p.made {
		left = errors.Join(left, remove(ctx, p.api, id))
	}
	return left
}

func remove(ctx context.Context, api *client.Client, id string) error {
	ctx, cancel := context.WithTimeout(ctx, working)
	defer cancel()
	_, err := api.ContainerRemove(ctx, id, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	if err != nil && !errdefs.IsNotFound(err) && !errdefs.IsConflict(err) { // conflict: it is being removed
		return fmt.Errorf("remove a container: %w", err)
	}
	return nil
}
