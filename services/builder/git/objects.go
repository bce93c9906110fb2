package git

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// objects is a git process that tells what objects hold, one after the other, for as long as it is asked. A process for each
// question would take most of the time between a push and its first step.
type objects struct {
	of        *Repository
	cmd       *exec.Cmd
	in        *bufio.Writer
	out       *bufio.Reader
	complaint complaint
	broken    bool // it may be in the middle of an answer
	rest      *time.Timer
	begun     time.Time
	asked     int
	told      int64 // bytes of contents
}

// complaint is the beginning of what a process says of errors. All of it is read as it comes, as one whose pipe is full would wait for ever;
// and what was said before an answer is known once that answer was read, as the pipe is then read by whoever wants to know.
type complaint struct {
	pipe *os.File
	fd   int // of pipe, which does not block
	mu   sync.Mutex
	text []byte
}

const mostComplaint = 2000

// listen reads what is written to the file it returns, until that is closed everywhere or close is called.
func (c *complaint) listen() (*os.File, error) {
	from, to, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	raw, err := from.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { c.fd = int(fd) })
	}
	if err != nil {
		return nil, errors.Join(err, from.Close(), to.Close())
	}
	c.pipe = from
	go func() { _ = raw.Read(func(uintptr) (ended bool) { return c.drain() }) }() // ends with the pipe
	return to, nil
}

// drain reads what is there, and says whether nothing more can come.
func (c *complaint) drain() (ended bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var part [512]byte
	for {
		switch n, err := unix.Read(c.fd, part[:]); {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			return false
		case err != nil || n == 0:
			return true
		default:
			c.text = append(c.text, part[:min(n, mostComplaint-len(c.text))]...)
		}
	}
}

// said is all that was complained of until now. Not after close.
func (c *complaint) said() string {
	c.drain()
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.TrimSpace(string(c.text))
}

func (c *complaint) close() { _ = c.pipe.Close() }

// Of those that nobody asks any more so many are kept for the next who does, in all repositories of this process, for so long.
const (
	keptIdle = 16
	idleFor  = 10 * time.Minute
)

// A process is asked so many questions, tells so many bytes and lives for so long, and is ended then: git keeps in memory what it looked into.
const (
	mostAsked = 1000
	mostTold  = 64 << 20
	mostAge   = 15 * time.Minute
)

var idle pool

// pool has the processes that nobody asks, the one that was asked last at the end.
type pool struct {
	mu  sync.Mutex
	all []*objects
}

func (p *pool) take(of *Repository) *objects {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, o := range slices.Backward(p.all) {
		if o.of == of {
			p.all = slices.Delete(p.all, i, i+1)
			o.rest.Stop()
			return o
		}
	}
	return nil
}

func (p *pool) give(o *objects) {
	p.mu.Lock()
	p.all = append(p.all, o)
	if o.rest == nil {
		o.rest = time.AfterFunc(idleFor, func() { p.retire(o) })
	} else {
		o.rest.Reset(idleFor)
	}
	var oldest *objects
	if len(p.all) > keptIdle {
		oldest = p.all[0]
	}
	p.mu.Unlock()
	if oldest != nil {
		p.retire(oldest)
	}
}

// retire ends a process that nobody asks.
func (p *pool) retire(o *objects) {
	p.mu.Lock()
	i := slices.Index(p.all, o)
	if i >= 0 {
		p.all = slices.Delete(p.all, i, i+1)
	}
	p.mu.Unlock()
	if i >= 0 { // else somebody asks it
		o.rest.Stop()
		_ = o.end()
	}
}

// answers are what is asked of a repository in one go: from files where objects have some, else from one git process, which is taken
// once it is needed.
type answers struct {
	of   *Repository
	ctx  context.Context //nolint:containedctx // of one call
	by   *objects        // nil: not needed yet
	stop func() bool     // ends the watch of ctx over it
}

// ask answers questions about objects. What is asked in one call is answered by one process at most.
func (r *Repository) ask(ctx context.Context, questions func(*answers) error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	a := &answers{of: r, ctx: ctx}
	err := questions(a)
	o := a.by
	switch {
	case o == nil:
		return cmp.Or(ctx.Err(), err)
	case !a.stop():
		_ = o.end()
		return ctx.Err()
	case o.broken:
		if said := o.end(); said != "" {
			err = fmt.Errorf("%w: %s", err, said)
		}
	case o.complained(), o.asked >= mostAsked, o.told >= mostTold, time.Since(o.begun) > mostAge:
		_ = o.end()
	default:
		idle.give(o)
	}
	return err
}

// git is the process that answers what files do not.
func (a *answers) git() (*objects, error) {
	if a.by != nil {
		return a.by, nil
	}
	o := idle.take(a.of)
	if o != nil && o.dead() {
		_ = o.end()
		o = nil
	}
	if o == nil {
		var err error
		if o, err = a.of.objects(a.ctx); err != nil {
			return nil, fmt.Errorf("git cat-file: %w", err)
		}
	}
	a.by, a.stop = o, context.AfterFunc(a.ctx, func() { _ = o.cmd.Process.Kill() })
	return o, nil
}

// commit is the commit that a name means.
func (a *answers) commit(rev string) (id string, err error) {
	if kind, _, is := a.of.loose(rev); is && kind == "commit" {
		return rev, nil
	}
	return a.named(rev + "^{commit}")
}

// tree is the tree of a commit.
func (a *answers) tree(commit string) (id string, err error) {
	if kind, text, is := a.of.loose(commit); is && kind == "commit" {
		line, _, _ := strings.Cut(string(text), "\n")
		if id, is := strings.CutPrefix(line, "tree "); is && isID(id) {
			return id, nil
		}
	}
	return a.named(commit + "^{tree}")
}

func (a *answers) named(rev string) (id string, err error) {
	o, err := a.git()
	if err != nil {
		return "", err
	}
	found, err := o.info(rev)
	return found.id, err
}

// content is what a commit or tree holds, which may be so much at most.
func (a *answers) content(id, kind string, most int64) ([]byte, error) {
	if is, text, there := a.of.loose(id); there && is == kind && int64(len(text)) <= most {
		return text, nil
	}
	o, err := a.git()
	if err != nil {
		return nil, err
	}
	_, text, err := o.content(id, kind, most)
	return text, err
}

func (r *Repository) objects(ctx context.Context) (o *objects, err error) {
	// Deltas are not kept at git's own measure, 96 MiB in each of those that wait.
	cmd := command(context.WithoutCancel(ctx), r.dir, "-c", "core.deltaBaseCacheLimit=8m", "cat-file", "--batch-command")
	cmd.Env = append(cmd.Env, r.env()...)
	made := &objects{of: r, cmd: cmd, begun: time.Now()}
	complaints, err := made.complaint.listen()
	if err != nil {
		return nil, err
	}
	defer func() {
		_ = complaints.Close()
		if err != nil {
			made.complaint.close()
		}
	}()
	cmd.Stderr = complaints
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	made.in, made.out = bufio.NewWriter(in), bufio.NewReaderSize(out, 1<<16)
	err = cmd.Start()
	if err != nil {
		return nil, err
	}
	return made, nil
}

// dead says whether the process has ended, by whatever doing.
func (o *objects) dead() bool {
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PID, o.cmd.Process.Pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	return err != nil || info.Signo != 0
}

func (o *objects) complained() bool { return o.complaint.said() != "" }

// end ends the process and returns what it complained of.
func (o *objects) end() string {
	_ = o.cmd.Process.Kill()
	_ = o.cmd.Wait() // by our doing
	defer o.complaint.close()
	return o.complaint.said()
}

// object is what an answer begins with.
type object struct {
	id, kind string
	size     int64
}

// question is sent with the next one that is waited for, or when many are: no answer is read meanwhile.
func (o *objects) question(verb, name string) error {
	o.asked++
	if _, err := o.in.WriteString(verb + " " + name + "\n"); err != nil {
		return o.fail(err)
	}
	return nil
}

// head reads how an answer begins.
func (o *objects) head(name string) (object, error) {
	if err := o.in.Flush(); err != nil {
		return object{}, o.fail(err)
	}
	line, err := o.out.ReadString('\n')
	if err != nil {
		return object{}, o.fail(err)
	}
	line = strings.TrimSuffix(line, "\n")
	if line == name+" missing" || line == name+" ambiguous" {
		return object{}, fmt.Errorf("%w: %s", ErrNotFound, strings.TrimSuffix(name, "^{commit}"))
	}
	field := strings.Fields(line)
	if len(field) == 3 && isID(field[0]) {
		if size, err := strconv.ParseInt(field[2], 10, 64); err == nil {
			return object{id: field[0], kind: field[1], size: size}, nil
		}
	}
	return object{}, o.fail(fmt.Errorf("it printed %q", clip(line)))
}

func (o *objects) fail(err error) error {
	o.broken = true
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("git cat-file: %w", err)
}

// info tells which object a name means.
func (o *objects) info(name string) (object, error) {
	if err := o.question("info", name); err != nil {
		return object{}, err
	}
	return o.head(name)
}

// content is what an object holds, which may be so much at most.
func (o *objects) content(name, kind string, most int64) (object, []byte, error) {
	if err := o.question("contents", name); err != nil {
		return object{}, nil, err
	}
	head, err := o.head(name)
	if err != nil {
		return object{}, nil, err
	}
	if head.kind != kind || head.size > most {
		o.broken = true // the content is not read
		if head.kind != kind {
			return object{}, nil, fmt.Errorf("%s is a %s, not a %s", name, head.kind, kind)
		}
		return object{}, nil, fmt.Errorf("%w: %s %s has %d bytes", ErrTooLarge, kind, head.id, head.size)
	}
	text := make([]byte, head.size)
	if _, err := io.ReadFull(o.out, text); err != nil {
		return object{}, nil, o.fail(err)
	}
	return head, text, o.endOfContent(head.size)
}

// endOfContent reads the line feed after a content of so many bytes.
func (o *objects) endOfContent(size int64) error {
	o.told += size
	if _, err := o.out.Discard(1); err != nil {
		return o.fail(err)
	}
	return nil
}
