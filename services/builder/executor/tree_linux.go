package executor

import (
	"bytes"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is one of those that descend from the init.
type process struct {
	pid, parent int
	memory      int64 // bytes that it shares with nobody's files
	dead        bool
}

// tree lists all that descend from this process. Orphans do too: it adopts them.
func tree() []process {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer func() { _ = dir.Close() }()
	names, _ := dir.Readdirnames(-1)
	children := map[int][]process{}
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if p, ok := look(pid); ok {
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
	return all
}

func look(pid int) (process, bool) {
	folder := "/proc/" + strconv.Itoa(pid)
	text, err := os.ReadFile(folder + "/stat")
	if err != nil {
		return process{}, false
	}
	field := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:]) // a name may hold anything
	if len(field) < 2 {
		return process{}, false
	}
	p := process{pid: pid, dead: field[0][0] == 'Z' || field[0][0] == 'X'}
	p.parent, err = strconv.Atoi(string(field[1]))
	if err != nil {
		return process{}, false
	}
	if text, err = os.ReadFile(folder + "/statm"); err == nil {
		if field = bytes.Fields(text); len(field) > 2 {
			resident, _ := strconv.ParseInt(string(field[1]), 10, 64)
			shared, _ := strconv.ParseInt(string(field[2]), 10, 64)
			p.memory = max(resident-shared, 0) * int64(os.Getpagesize())
		}
	}
	return p, true
}

// endTree kills all that descends from this process, until nothing does. In a pid namespace the kernel does the same when
// its init exits.
func endTree() {
	if os.Getpid() == 1 {
		return
	}
	for end := time.Now().Add(patience / 2); time.Now().Before(end); time.Sleep(time.Millisecond) {
		all := tree()
		if len(all) == 0 {
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
	_, _ = unix.FcntlInt(pipe.Fd(), unix.F_SETPIPE_SZ, 1<<20)
}
