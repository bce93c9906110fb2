package executor

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/lemnis/lemnis/internal/image"
)

// Build is an image to be built by a Dockerfile.
type Build struct {
	Name       string            // for messages, and what is named after it
	Context    io.Reader         // tar archive of what the Dockerfile is of and its COPY sees
	Dockerfile string            // its name in the archive
	Target     string            // stage; empty: the last
	Args       map[string]string // of its ARG
	Bases      []string          // images that it is made of: they are brought here as those of steps
	Network    bool              // off: its RUN reaches nobody
	Limits     Limits            // of each RUN; output of the whole build, time of all from its bases until it is saved
	Image      int64             // bytes that the image may have, uncompressed
	Saved      string            // file that gets the image, as the engine saves it; made on success
}

// CauseBuild says that an image can not be built as its Dockerfile says.
const CauseBuild Cause = "build"

// Build builds an image without the engine's cache, saves it, and removes from the engine all that it made for it. The result is as
// of a step's script: what is wrong with the Dockerfile, that there is no engine or no base image are results, and that an engine
// does not answer is an error. Images of the result are the bases.
//
// It is the engine's classic builder, since what another keeps is not to be seen, bounded or removed one by one. Its containers run as
// root with the engine's usual capabilities, which it lets nobody drop.
func (d *Docker) Build(ctx context.Context, b Build, out io.Writer) (result Result, err error) {
	api, result, err := d.reach(ctx, "an image built by "+b.Dockerfile, out)
	if err != nil || !result.Succeeded() {
		return result, err
	}
	b.Limits = b.Limits.filled()
	p := &pod{engine: d, api: api, images: map[string]string{}, out: &meter{out: out, left: b.Limits.Output, full: func() {}},
		step: Step{Name: b.Name, Dir: filepath.Dir(b.Saved), Network: b.Network, Limits: b.Limits}}
	s, err := p.site()
	if err != nil {
		return Result{}, err
	}
	limited, cancel := context.WithTimeoutCause(ctx, b.Limits.Time, errTook)
	defer cancel()
	result, err = s.build(limited, b)
	if err != nil && errors.Is(context.Cause(limited), errTook) { // whatever it was about
		result, err = over(CauseTimeLimit, "not done after %s", b.Limits.Time), nil
	}
	if left := s.clear(context.WithoutCancel(ctx)); err == nil {
		err = left
	}
	if result.Images = p.images; ctx.Err() != nil {
		return Result{}, context.Cause(ctx)
	}
	var f failed
	if errors.As(err, &f) {
		f.result.Images = p.images
		return f.result, nil
	}
	return result, err
}

// errTook ends a build that has taken its time.
var errTook = errors.New("it has taken its time")

// site is where an image is built: what the engine makes meanwhile is told from what others have there.
type site struct {
	*pod
	mark   int64           // bound on file sizes that only this build's containers have: the engine gives them no label
	before map[string]bool // ids of images that were there
	began  time.Time       // when the engine was asked to build, by its clock
	note   *os.File        // what has been made, for who comes after a process that was killed
	seen   []string        // short ids of images that the engine says it has made, oldest first
	known  map[string]bool // those, and what is no image of this build
	bases  map[string]bool // short ids of what it is made of
	others map[string]bool // ids of containers that are not this build's
}

// mostSteps is how many images one build may leave in between. Nobody writes so many instructions: beyond it, a script prints what
// only engines say.
const mostSteps = 2000

func (p *pod) site() (*site, error) {
	some, err := rand.Int(rand.Reader, big.NewInt(1<<24))
	if err != nil {
		return nil, err
	}
	s := &site{pod: p, mark: p.step.Limits.File + some.Int64(), before: map[string]bool{}, known: map[string]bool{}, bases: map[string]bool{}, others: map[string]bool{}}
	if err := os.MkdirAll(p.engine.folder+"-built", 0o700); err != nil {
		return nil, err
	}
	if s.note, err = os.CreateTemp(p.engine.folder+"-built", p.engine.id+"-"); err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintln(s.note, noteMark, s.mark); err != nil {
		return nil, errors.Join(err, s.note.Close(), os.Remove(s.note.Name()))
	}
	return s, nil
}

// images lists all that the engine has, also what has no name.
func images(ctx context.Context, api *client.Client) (client.ImageListResult, error) {
	all, err := ask(ctx, working, func(ctx context.Context) (client.ImageListResult, error) {
		return api.ImageList(ctx, client.ImageListOptions{All: true})
	})
	if err != nil {
		return all, fmt.Errorf("list the images: %w", err)
	}
	return all, nil
}

func (s *site) build(ctx context.Context, b Build) (Result, error) {
	for _, base := range b.Bases {
		found, err := s.find(ctx, base)
		if err != nil {
			return Result{}, err
		}
		if s.bases[short(found.ID)] = true; found.Config == nil {
			continue
		}
		if refused := image.Triggers(found.Config.OnBuild); refused != nil {
			return unable(CauseBuild, "image %s: %v", base, refused), nil
		}
	}
	about, err := ask(ctx, answers, func(ctx context.Context) (client.SystemInfoResult, error) {
		return s.api.Info(ctx, client.InfoOptions{})
	})
	if err != nil {
		return Result{}, fmt.Errorf("ask the engine for its time: %w", err)
	}
	s.began, err = time.Parse(time.RFC3339Nano, about.Info.SystemTime)
	if err != nil {
		return Result{}, fmt.Errorf("ask the engine for its time: %w", err)
	}
	there, err := images(ctx, s.api) // after the bases have come
	if err != nil {
		return Result{}, err
	}
	for _, image := range there.Items {
		s.before[short(image.ID)] = true
	}
	if _, err := fmt.Fprintln(s.note, noteBefore, strings.Join(slices.Sorted(maps.Keys(s.before)), " ")); err != nil {
		return Result{}, err
	}
	result, id, err := s.attend(ctx, b)
	if err != nil || !result.Succeeded() {
		return result, err
	}
	for _, base := range b.Bases {
		now, err := imageOf(ctx, s.api, base)
		if err != nil && !errdefs.IsNotFound(err) {
			return Result{}, fmt.Errorf("image %s: %w", base, err)
		}
		if !s.bases[short(now.ID)] {
			return unable(CauseBuild, "while it was built, image %s became another", base), nil
		}
	}
	return s.save(ctx, b, id)
}

// options are what the engine is asked for.
func (s *site) options(b Build) client.ImageBuildOptions {
	l, args := b.Limits, map[string]*string{}
	for name, value := range b.Args {
		args[name] = &value
	}
	o := client.ImageBuildOptions{
		Version: build.BuilderV1, Dockerfile: b.Dockerfile, Target: b.Target, BuildArgs: args,
		NoCache: true, Remove: true, ForceRemove: true, NetworkMode: "none",
		Memory: max(l.Memory, leastMemory), MemorySwap: max(l.Memory, leastMemory),
		Ulimits: []*container.Ulimit{{Name: "core"}, {Name: "fsize", Soft: s.mark, Hard: s.mark}},
	}
	if b.Network {
		o.NetworkMode = "bridge"
	}
	if l.CPU > 0 {
		o.CPUPeriod, o.CPUQuota = 100_000, int64(min(l.CPU, float64(runtime.NumCPU()))*100_000)
	}
	return o
}

// built is how a build ended.
type built struct {
	id  string // of the image
	err error
}

// attend follows the build to its end, whoever brings it about.
func (s *site) attend(ctx context.Context, b Build) (Result, string, error) {
	asking, leave := context.WithCancel(context.WithoutCancel(ctx)) // what it runs is ended first, so that the engine tidies up
	defer leave()
	limited, cancel := context.WithCancel(ctx)
	defer cancel()
	s.out.full = cancel
	ended := make(chan built, 1)
	go func() {
		id, err := s.follow(asking, b)
		ended <- built{id, err}
	}()
	broken := make(chan Result, 1)
	watching, look := context.WithCancel(limited)
	var watch sync.WaitGroup
	watch.Go(func() { s.watch(watching, broken) })
	var e built
	var passed Result
	quiet := func() { look(); watch.Wait() } // both keep in mind whose containers there are
	select {
	case e = <-ended:
	case passed = <-broken:
		quiet()
		e = s.stop(asking, leave, ended)
	case <-limited.Done():
		quiet()
		e = s.stop(asking, leave, ended)
	}
	quiet()
	switch {
	case ctx.Err() != nil:
		return Result{}, "", context.Cause(ctx)
	case s.out.over():
		return over(CauseOutputLimit, "printed more than %d bytes", b.Limits.Output), "", nil
	case s.out.failed != nil:
		return Result{}, "", fmt.Errorf("keep the output: %w", s.out.failed)
	case !passed.Succeeded():
		return passed, "", nil
	}
	return Result{}, e.id, e.err
}

// message is what an engine says of a build, one at a time. Only stream is what scripts print too.
type message struct {
	Stream string `json:"stream"`
	Status string `json:"status"`
	ID     string `json:"id"`
	Error  string `json:"error"`
	Detail struct {
		Code int `json:"code"`
	} `json:"errorDetail"`
	Aux struct {
		ID string `json:"ID"`
	} `json:"aux"`
	Progress json.RawMessage `json:"progressDetail"`
}

var (
	imageForm = regexp.MustCompile(`^ ---> ([0-9a-f]{12})\n$`)
	stepForm  = regexp.MustCompile(`^Step \d+/\d+ : (\S+)`)
)

// follow has the engine build, and reads what it says to the end. What the Dockerfile is to blame for is of type failed.
func (s *site) follow(ctx context.Context, b Build) (id string, err error) {
	answer, err := s.api.ImageBuild(ctx, b.Context, s.options(b))
	switch {
	case silent(err):
		return "", fmt.Errorf("build the image: %w", err)
	case err != nil: // it does not begin with such a Dockerfile
		return "", failed{unable(CauseBuild, "%s", said(err))}
	}
	defer func() { _ = answer.Body.Close() }()
	var refused error
	refuse := func(why error) { // the engine is heard to its end all the same: else it goes on, with what nobody knows of
		refused = cmp.Or(refused, why)
		s.out.full()
	}
	defer func() {
		if refused != nil {
			id, err = "", refused
		}
	}()
	from := false // the next image is what a stage is made of
	for lines := json.NewDecoder(answer.Body); ; {
		var m message
		switch err := lines.Decode(&m); {
		case errors.Is(err, io.EOF) && id == "":
			return "", errors.New("build the image: the engine does not say which it is")
		case errors.Is(err, io.EOF):
			return id, nil
		case err != nil:
			return "", fmt.Errorf("build the image: %w", err)
		}
		switch {
		case m.Error != "" && m.Detail.Code > 0 && m.Detail.Code < 256:
			return "", failed{Result{Exit: m.Detail.Code, Cause: CauseExit, Reason: oneLine(m.Error)}}
		case m.Error != "":
			return "", failed{unable(CauseBuild, "%s", m.Error)}
		case m.Aux.ID != "":
			id = m.Aux.ID
		case m.Stream != "":
			_, _ = io.WriteString(s.out, m.Stream)
			if step := stepForm.FindStringSubmatch(m.Stream); step != nil {
				from = strings.EqualFold(step[1], "FROM")
			} else if strings.HasPrefix(m.Stream, "# Executing ") { // what comes next is what the triggers make
				from = false
			}
			made := imageForm.FindStringSubmatch(m.Stream)
			if made == nil {
				continue
			}
			if from && !s.bases[made[1]] && !s.known[made[1]] {
				refuse(failed{unable(CauseBuild, "it is made of image %s, which is none that its Dockerfile names, or is not what was found by that name", made[1])})
			} else if err := s.made(made[1]); err != nil {
				refuse(err)
			}
			from = false
		case m.Status != "" && len(m.Progress) <= len("{}"):
			_, _ = fmt.Fprintf(s.out, "= %s %s\n", m.Status, m.ID)
		}
	}
}

// told is what the engine has to say, without how it was asked.
func said(err error) string { return strings.TrimPrefix(err.Error(), "Error response from daemon: ") }

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

func short(id string) string {
	id = strings.TrimPrefix(id, "sha256:")
	return id[:min(len(id), 12)]
}

// made notes an image that was not there before. A script may print the same: what it names is looked at before it is removed.
func (s *site) made(id string) error {
	if s.before[id] || s.known[id] {
		return nil
	}
	if len(s.seen) == mostSteps {
		return failed{unable(CauseBuild, "it made, or its scripts say so, more than %d images", mostSteps)}
	}
	s.known[id], s.seen = true, append(s.seen, id)
	_, err := fmt.Fprintln(s.note, id)
	return err
}

// stop ends what the build runs, so that the engine comes to its end by itself; it is not spoken to any more when it does not.
func (s *site) stop(ctx context.Context, leave func(), ended <-chan built) built {
	late := time.NewTimer(answers)
	defer late.Stop()
	again := time.NewTicker(glance)
	defer again.Stop()
	for {
		running, _ := s.containers(ctx, false)
		for _, id := range running {
			_, _ = ask(ctx, answers, func(ctx context.Context) (client.ContainerKillResult, error) {
				return s.api.ContainerKill(ctx, id, client.ContainerKillOptions{Signal: "SIGKILL"})
			})
		}
		select {
		case e := <-ended:
			return e
		case <-late.C:
			leave()
			return <-ended
		case <-again.C:
		}
	}
}

// watch says when a limit is passed that the kernel does not keep.
func (s *site) watch(ctx context.Context, broken chan<- Result) {
	ticks := time.NewTicker(glance)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
		}
		if full(s.step.Dir) || full(s.engine.data) {
			broken <- over(CauseDiskFull, "left less than %d bytes free on the disk", int64(leastFree))
			return
		}
		running, _ := s.containers(ctx, false)
		for _, id := range running {
			if s.tasks(ctx, id) > int64(s.step.Limits.Processes) {
				broken <- over(CauseProcessLimit, "ran more than %d processes and threads at once", s.step.Limits.Processes)
				return
			}
		}
	}
}

// containers are those of the build; all: also those that do not run.
func (s *site) containers(ctx context.Context, all bool) (ids []string, err error) {
	return marked(ctx, s.api, s.mark, all, s.others)
}

// marked are the containers with such a bound on file sizes; others are those that are known to have another. With an error there may be more.
func marked(ctx context.Context, api *client.Client, mark int64, all bool, others map[string]bool) (ids []string, err error) {
	found, err := ask(ctx, answers, func(ctx context.Context) (client.ContainerListResult, error) {
		return api.ContainerList(ctx, client.ContainerListOptions{All: all})
	})
	if err != nil {
		return nil, fmt.Errorf("list the containers: %w", err)
	}
	for _, c := range found.Items {
		if others[c.ID] {
			continue
		}
		about, unseen := ask(ctx, answers, func(ctx context.Context) (client.ContainerInspectResult, error) {
			return api.ContainerInspect(ctx, c.ID, client.ContainerInspectOptions{})
		})
		switch {
		case errdefs.IsNotFound(unseen):
		case unseen != nil:
			err = errors.Join(err, fmt.Errorf("inspect a container: %w", unseen))
		case about.Container.HostConfig != nil && slices.ContainsFunc(about.Container.HostConfig.Ulimits, func(u *units.Ulimit) bool { return u.Name == "fsize" && u.Hard == mark }):
			ids = append(ids, c.ID)
		default:
			others[c.ID] = true
		}
	}
	return ids, err
}

// save takes the image out of the engine.
func (s *site) save(ctx context.Context, b Build, id string) (Result, error) {
	saved, err := s.api.ImageSave(ctx, []string{id})
	if err != nil {
		return Result{}, fmt.Errorf("save the image: %w", err)
	}
	defer func() { _ = saved.Close() }()
	file, err := os.OpenFile(b.Saved, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return Result{}, err
	}
	size, err := io.Copy(image.Sparing(s.step.Dir, file), io.LimitReader(saved, b.Image+1))
	err = errors.Join(err, file.Close())
	if errors.Is(err, image.ErrDiskFull) {
		return over(CauseDiskFull, "%v", err), nil
	}
	if err != nil {
		return Result{}, fmt.Errorf("save the image: %w", err)
	}
	if size > b.Image {
		return unable(CauseBuild, "the image has more than %d bytes", b.Image), nil
	}
	return Result{Began: s.began}, nil
}
