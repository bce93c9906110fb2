//go:build linux

package process

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

const errRefused = syscall.ECONNREFUSED

// running is one run of the program.
type running struct {
	pid    int
	cmd    *exec.Cmd
	gone   chan struct{} // the leader has ended; not yet reaped, so that its group's id is still its own
	exited chan struct{} // reaped, and its group ended
	reason string        // how the leader ended; set before exited closes
	over   string        // what it took beyond its limits; read it when exited is closed

	mu     sync.Mutex
	reaped bool
	grace  time.Time // until when the rest of the group may live on after the leader
}

// fork starts the program, recorded before and after, so that no moment leaves it unknown.
func (p *Process) fork() (*running, error) {
	s, home := p.supervisor, p.supervisor.homePath(p.token)
	if err := os.MkdirAll(filepath.Join(home, "tmp"), 0o700); err != nil {
		return nil, fmt.Errorf("private folder: %w", err)
	}
	path := os.Getenv("PATH")
	if path == "" {
		path = "/usr/local/bin:/usr/bin:/bin"
	}
	cmd := exec.Command(p.spec.Executable, p.spec.Args...)
	cmd.Dir = p.spec.Dir
	if cmd.Dir == "" {
		cmd.Dir = home
	}
	cmd.Env = append([]string{"PATH=" + path, "HOME=" + home, "TMPDIR=" + filepath.Join(home, "tmp")}, p.spec.Env...)
	cmd.Env = append(cmd.Env, fmt.Sprintf("PORT=%d", p.port), tokenName+"="+p.token) // the last one of a name holds
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: s.deathSignal}
	if p.spec.LogFile != "" {
		log, err := os.OpenFile(p.spec.LogFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, fmt.Errorf("log file: %w", err)
		}
		defer func() { _ = log.Close() }() // the program has its own descriptor
		cmd.Stdout, cmd.Stderr = log, log
	}
	r := record{Token: p.token, Name: p.spec.Name, Executable: p.spec.Executable, Boot: bootID(), Port: p.port}
	if err := s.save(r); err != nil {
		return nil, err
	}
	started := make(chan error)
	s.starts <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		return nil, err
	}
	run := &running{pid: cmd.Process.Pid, cmd: cmd, gone: make(chan struct{}), exited: make(chan struct{})}
	// cmd.Start returns after the exec, so this is the program's own (for a script: its interpreter).
	if executable, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", run.pid)); err == nil {
		r.Executable = executable
	}
	if now, err := readStat(run.pid); err == nil {
		r.PID, r.Started = run.pid, now.started
	}
	go run.wait()
	if err := s.save(r); err != nil {
		run.end(0, nil)
		return nil, err
	}
	return run, nil
}

// wait sees the leader end, ends its group, and only then reaps it.
func (r *running) wait() {
	var info [128]byte // siginfo_t
	const pPID = 1
	for {
		_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, pPID, uintptr(r.pid),
			uintptr(unsafe.Pointer(&info[0])), //nolint:gosec // package syscall has no waitid; info is as large as what the kernel writes
			syscall.WEXITED|syscall.WNOWAIT, 0, 0)
		if errno != syscall.EINTR {
			break
		}
	}
	close(r.gone)
	r.mu.Lock()
	grace := r.grace
	r.mu.Unlock()
	for len(inGroup(r.pid)) > 0 && time.Now().Before(grace) {
		time.Sleep(5 * time.Millisecond)
		r.mu.Lock()
		grace = r.grace
		r.mu.Unlock()
	}
	r.mu.Lock()
	_ = syscall.Kill(-r.pid, syscall.SIGKILL)
	_ = r.cmd.Wait() // the outcome is in ProcessState
	r.reaped = true
	r.reason = r.cmd.ProcessState.String()
	if r.over != "" {
		r.reason = fmt.Sprintf("%s, and was ended (%s)", r.over, r.reason)
	}
	r.mu.Unlock()
	close(r.exited)
}

// exceed ends what has gone beyond its limits, at once.
func (r *running) exceed(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.reaped && r.over == "" {
		r.over = what
		_ = syscall.Kill(-r.pid, syscall.SIGKILL)
	}
}

func (r *running) signal(signal syscall.Signal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.reaped { // afterwards the id may be a stranger's
		_ = syscall.Kill(-r.pid, signal)
	}
}

// end asks the group to end, forces it after the grace or when hurry closes, and returns when it has ended.
func (r *running) end(grace time.Duration, hurry <-chan struct{}) {
	r.mu.Lock()
	r.grace = time.Now().Add(grace)
	r.mu.Unlock()
	r.signal(syscall.SIGTERM)
	select {
	case <-r.exited:
		return
	case <-time.After(grace):
	case <-hurry:
	}
	r.mu.Lock()
	r.grace = time.Time{}
	r.mu.Unlock()
	r.signal(syscall.SIGKILL)
	<-r.exited
}
