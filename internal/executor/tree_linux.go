package executor

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lemnis/lemnis/internal/resident"
)

// process is one of those that descend from the init.
type process struct {
	pid, parent int
	dead        bool
}

// tree lists all that descend from this process. Orphans do too: it adopts them.
func tree() ([]process, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer func() { _ = dir.Close() }()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	children := map[int][]process{}
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		switch p, err := look(pid); {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ESRCH), errors.Is(err, fs.ErrPermission):
			// gone meanwhile, or not ours
		case err != nil:
			return nil, err
		default:
			children[p.parent] = append(children[p.parent], p)
		}
	}
	var all []process
	var visit func(pid int)
	visit = func(pid int) {
		for _, p := range children[pid] {
			if !p.dead {
				all = append(all, p)
			}
			visit(p.pid)
		}
	}
	visit(os.Getpid())
	return all, nil
}

func look(pid int) (process, error) {
	p := process{pid: pid}
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return p, err
	}
	for line := range bytes.Lines(text) { // a name's own line ends are escaped there
		name, value, _ := bytes.Cut(bytes.TrimSpace(line), []byte(":"))
		switch value = bytes.TrimSpace(value); string(name) {
		case "State":
			p.dead = bytes.HasPrefix(value, []byte("Z")) || bytes.HasPrefix(value, []byte("X"))
		case "PPid":
			if p.parent, err = strconv.Atoi(string(value)); err != nil {
				return p, fmt.Errorf("the parent of process %d: %w", pid, err)
			}
		}
	}
	return p, nil
}

// memory is what processes take together.
func memory(all []process, most int64) int64 {
	of := make(map[int]int64, len(all))
	for _, p := range all {
		of[p.pid] = resident.Of(p.pid)
	}
	return resident.Together(of, most)
}

// signal sends a signal to all that descends from this process. As the init of a pid namespace it need not know them.
func signal(s syscall.Signal) {
	if os.Getpid() == 1 {
		_ = syscall.Kill(-1, s)
		return
	}
	all, _ := tree()
	for _, p := range all {
		_ = syscall.Kill(p.pid, s)
	}
}

// endTree kills all that descends from this process, until nothing does. In a pid namespace the kernel does the same when
// its init exits.
func endTree() {
	if os.Getpid() == 1 {
		return
	}
	for end := time.Now().Add(patience / 2); time.Now().Before(end); time.Sleep(time.Millisecond) {
		all, err := tree()
		if err != nil || len(all) == 0 {
			return
		}
		for _, p := range all {
			_ = syscall.Kill(p.pid, syscall.SIGKILL)
		}
	}
}

// machineMemory is the memory of the machine, in bytes.
func machineMemory() int64 {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 1 << 30
	}
	return int64(info.Totalram) * int64(info.Unit)
}

// widen makes a pipe hold more, so that a step that prints much changes to us and back less often.
func widen(pipe *os.File) {
	raw, err := pipe.SyscallConn() // Fd would make it blocking: closing it would not wake its reader
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { _, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, 1<<20) })
}
