package git

import (
	"bufio"
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
)

// objects is a git process that tells what objects hold, one after the other, for as long as it is asked. A process for each
// question would take most of the time between a push and its first step.
type objects struct {
	of        *Repository
	cmd       *exec.Cmd
	in        *bufio.Writer
	out       *bufio.Reader
	complaint *os.File // what it says of errors, until the pipe is full
	broken    bool     // it may be in the middle of an answer
	rest      *time.Timer
}

// Of those that nobody asks any more so many are kept for the next who does, in all repositories of this process, for so long.
const (
	keptIdle = 16
	idleFor  = 10 * time.Minute
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

// ask has a git process answer questions about objects. What is asked in one call is answered by one process.
func (r *Repository) ask(ctx context.Context, questions func(*objects) error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	o := idle.take(r)
	if o != nil && !o.alive() {
		_ = o.end()
		o = nil
	}
	if o == nil {
		var err error
		if o, err = r.objects(ctx); err != nil {
			return fmt.Errorf("git cat-file: %w", err)
		}
	}
	stop := context.AfterFunc(ctx, func() { _ = o.cmd.Process.Kill() })
	err := questions(o)
	switch {
	case !stop():
		_ = o.end()
		return ctx.Err()
	case o.broken:
		if said := o.end(); said != "" {
			err = fmt.Errorf("%w: %s", err, said)
		}
	case o.complained():
		_ = o.end() // it would be stopped by a pipe that nobody reads
	default:
		idle.give(o)
	}
	return err
}

func (r *Repository) objects(ctx context.Context) (o *objects, err error) {
	cmd := command(context.WithoutCancel(ctx), r.dir, "cat-file", "--batch-command")
	cmd.Env = append(cmd.Env, r.env()...)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	complaint, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = write
	err = cmd.Start()
	_ = write.Close()
	if err != nil {
		_ = complaint.Close()
		return nil, err
	}
	return &objects{of: r, cmd: cmd, in: bufio.NewWriter(in), out: bufio.NewReaderSize(out, 1<<16), complaint: complaint}, nil
}

// alive says whether it still answers.
func (o *objects) alive() bool {
	_, err := o.info("HEAD^{none}")
	return errors.Is(err, ErrNotFound)
}

func (o *objects) complained() bool {
	_ = o.complaint.SetReadDeadline(time.Now())
	n, _ := o.complaint.Read(make([]byte, 1))
	return n > 0
}

// end ends the process and returns what it complained of.
func (o *objects) end() string {
	_ = o.cmd.Process.Kill()
	_ = o.cmd.Wait() // by our doing
	_ = o.complaint.SetReadDeadline(time.Time{})
	said, _ := io.ReadAll(io.LimitReader(o.complaint, 2000))
	_ = o.complaint.Close()
	return strings.TrimSpace(string(said))
}

// object is what an answer begins with.
type object struct {
	id, kind string
	size     int64
}

// question is sent with the next one that is waited for, or when many are: no answer is read meanwhile.
func (o *objects) question(verb, name string) error {
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
	return head, text, o.endOfContent()
}

// endOfContent reads the line feed after a content.
func (o *objects) endOfContent() error {
	if _, err := o.out.Discard(1); err != nil {
		return o.fail(err)
	}
	return nil
}
