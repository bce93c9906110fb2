package chaos

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// Process is a program of the stack. It can be killed and started again, under the same name, with the same folders.
type Process struct {
	Name string

	command []string
	log     string

	mu     sync.Mutex
	env    []string
	cmd    *exec.Cmd
	done   chan struct{} // closed when the running one has ended
	starts int
	paused bool
}

func newProcess(dir, name string, env []string, command ...string) *Process {
	return &Process{Name: name, command: command, env: env, log: filepath.Join(dir, name+".log")}
}

// Start runs it. What it says is appended to its log.
func (p *Process) Start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the process has its own
	cmd := exec.Command(p.command[0], p.command[1:]...)
	cmd.Env = append(os.Environ(), p.env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // nothing outlives the proof
	started := make(chan error, 1)
	done := make(chan struct{})
	go func() { // the parent is a thread: it has to live as long as the child
		lockThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
		close(done)
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	p.cmd, p.done, p.paused = cmd, done, false
	p.starts++
	return nil
}

// Kill is kill -9.
func (p *Process) Kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// Restart is kill -9 and a new start.
func (p *Process) Restart() error {
	p.Kill()
	return p.Start()
}

// Stop asks it to end, as an operator does. The error says that it did not, or not in order.
func (p *Process) Stop(patience time.Duration) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil || p.ended() {
		return nil
	}
	if p.paused {
		_ = p.cmd.Process.Signal(syscall.SIGCONT)
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		if code := p.cmd.ProcessState.ExitCode(); code != 0 {
			return fmt.Errorf("%s ended with %d: %s", p.Name, code, p.tail(600))
		}
		return nil
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		<-p.done
		return fmt.Errorf("%s did not end within %s", p.Name, patience)
	}
}

// Pause stops it where it is, as a long pause of its machine does; Resume lets it go on.
func (p *Process) Pause() { p.signal(syscall.SIGSTOP, true) }

// Resume lets a paused process go on.
func (p *Process) Resume() { p.signal(syscall.SIGCONT, false) }

func (p *Process) signal(s syscall.Signal, paused bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil && !p.ended() {
		_ = p.cmd.Process.Signal(s)
		p.paused = paused
	}
}

// ended needs the lock.
func (p *Process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Alive reports whether it runs.
func (p *Process) Alive() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd != nil && !p.ended()
}

// PID of the running process; 0 when none runs.
func (p *Process) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil || p.ended() {
		return 0
	}
	return p.cmd.Process.Pid
}

// setEnv is for the next start.
func (p *Process) setEnv(env []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.env = env
}

// tail is the end of what it said.
func (p *Process) tail(most int) string {
	text, err := os.ReadFile(p.log)
	if errors.Is(err, os.ErrNotExist) {
		return ""
	}
	text = bytes.TrimSpace(text)
	return string(text[max(0, len(text)-most):])
}
