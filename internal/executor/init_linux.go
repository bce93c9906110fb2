package executor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	signals "os/signal"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// initName is the name under which this program is executed once more as the init of a sandbox.
const initName = "lemnis-step-init"

// The init begins here, before the program's own main: every program that has an executor, tests too, can be one.
func init() {
	if len(os.Args) == 0 || os.Args[0] != initName {
		return
	}
	runtime.LockOSThread() // what is set for a thread goes to the script, which this one starts
	syscall.CloseOnExec(3)
	syscall.CloseOnExec(4)
	signals.Notify(make(chan os.Signal, 1)) // none of them ends the init
	control := os.NewFile(3, "control")
	var v verdict
	var o order
	orders := json.NewDecoder(control)
	put, err := begun(kindOf(os.Args[1:]))
	if gone := orders.Decode(&o); err == nil { // what went wrong is told when somebody asks
		err = gone
	}
	if err == nil {
		v.Result, err = oversee(o, put, io.MultiReader(orders.Buffered(), control))
	}
	if err != nil {
		v.Error = err.Error()
	}
	endTree()
	_ = json.NewEncoder(os.NewFile(4, "answer")).Encode(v)
	os.Exit(0)
}

// begun does what is the same for every step of a kind, ahead of the order; put is what the new root has of the machine then.
func begun(k kind) (put []bind, err error) {
	if k.isolated {
		put, err = furnish(k)
	}
	// The first order of a process would wait for what reading it takes the first time.
	_ = json.Unmarshal([]byte(`{"Binds":[{}],"Layers":[{"Lower":[""]}],"Env":[""],"Limits":{}}`), &order{})
	return put, err
}

func attributes(k kind) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setpgid: true}
	if !k.isolated {
		return a
	}
	a.Cloneflags = syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS
	if !k.network {
		a.Cloneflags |= syscall.CLONE_NEWNET
	}
	a.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
	a.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	return a
}

// oversee is the init's life: the room, the script, its orphans, its limits.
func oversee(o order, put []bind, control io.Reader) (Result, error) {
	if o.Isolated {
		if err := enter(o, put); err != nil {
			return Result{}, err
		}
	} else if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return Result{}, fmt.Errorf("adopt orphans: %w", err)
	}
	time.Sleep(time.Nanosecond) // the runtime opens what its timers need while the script can not keep it from that yet
	pid, err := launch(o)
	if err != nil {
		return Result{}, err
	}
	go obey(control)
	broken := make(chan breach, 1)
	go watch(o, pid, broken)
	for {
		var status syscall.WaitStatus
		got, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case err != nil:
			return Result{}, fmt.Errorf("wait for the script: %w", err)
		case got != pid:
			continue // an orphan
		}
		select {
		case b := <-broken:
			return b.result, b.fault
		default:
		}
		if status.Signaled() {
			r := exited(128 + int(status.Signal()))
			r.Reason = fmt.Sprintf("ended by signal %d (%s)", int(status.Signal()), status.Signal())
			return r, nil
		}
		return exited(status.ExitStatus()), nil
	}
}

// launch starts the script as a user without capabilities.
func launch(o order) (int, error) {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return 0, fmt.Errorf("forgo new privileges: %w", err)
	}
	if o.Limits.CPU > 0 {
		if err := pin(o.First, int(math.Ceil(o.Limits.CPU))); err != nil {
			return 0, err
		}
	}
	for resource, most := range map[int]uint64{unix.RLIMIT_CORE: 0, unix.RLIMIT_FSIZE: uint64(o.Limits.File)} {
		if err := unix.Setrlimit(resource, &unix.Rlimit{Cur: most, Max: most}); err != nil {
			return 0, fmt.Errorf("limit resource %d: %w", resource, err)
		}
	}
	a := &syscall.ProcAttr{Dir: o.Dir, Env: o.Env, Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{}}
	if o.Isolated {
		// A user namespace of its own: the script owns none of what the init made, and may undo none of it.
		a.Sys.Cloneflags = syscall.CLONE_NEWUSER
		a.Sys.UidMappings = []syscall.SysProcIDMap{{ContainerID: stepUser, HostID: 0, Size: 1}}
		a.Sys.GidMappings = []syscall.SysProcIDMap{{ContainerID: stepUser, HostID: 0, Size: 1}}
	}
	// The kernel counts threads; the exact limit is watched. The script begins with it, the init keeps its own.
	var own unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NPROC, &own); err != nil {
		return 0, err
	}
	most := min(tasks(o.Limits), own.Max)
	if o.Isolated { // without a user namespace it would count all that our user runs
		if err := unix.Setrlimit(unix.RLIMIT_NPROC, &unix.Rlimit{Cur: most, Max: own.Max}); err != nil {
			return 0, fmt.Errorf("limit processes: %w", err)
		}
	}
	pid, err := syscall.ForkExec("/bin/sh", []string{"sh", "-e", "-c", o.Script}, a)
	if err != nil {
		return 0, fmt.Errorf("start sh in %s: %w", o.Dir, err)
	}
	if o.Isolated {
		_ = unix.Setrlimit(unix.RLIMIT_NPROC, &own)
		_ = unix.Prlimit(pid, unix.RLIMIT_NPROC, &unix.Rlimit{Cur: most, Max: most}, nil) // gone already: nothing to limit
	}
	return pid, nil
}

// stepUser is the user and group that a script sees itself as.
const stepUser = 1000

// tasks is the kernel's bound on processes and threads together.
func tasks(l Limits) uint64 { return uint64(8*l.Processes) + 64 }

// pin keeps to so many of the processors that we may use, from the first on, around.
func pin(first, cores int) error {
	var all, few unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return fmt.Errorf("limit processors: %w", err)
	}
	var usable []int
	for i := 0; len(usable) < all.Count(); i++ {
		if all.IsSet(i) {
			usable = append(usable, i)
		}
	}
	for i := range min(cores, len(usable)) {
		few.Set(usable[(first+i)%len(usable)])
	}
	if err := unix.SchedSetaffinity(0, &few); err != nil {
		return fmt.Errorf("limit processors: %w", err)
	}
	return nil
}

// obey does as whoever began it says: a byte is SIGTERM to everything, the pipe's end is the end.
func obey(control io.Reader) {
	one := make([]byte, 1)
	for {
		if n, err := control.Read(one); err != nil {
			endTree()
			os.Exit(1)
		} else if n == 1 && one[0] == 't' {
			signal(syscall.SIGTERM)
		}
	}
}

// often is how often limits are looked at.
const often = 100 * time.Millisecond

// leastFree is the room that a step may not take from the disk.
const leastFree = 128 << 20

// breach is why a step is ended: what it did, or what of the machine failed.
type breach struct {
	result Result
	fault  error
}

// watch ends everything when a limit is passed, and says which.
func watch(o order, script int, broken chan<- breach) {
	for range time.Tick(often) {
		var b breach
		var disk syscall.Statfs_t
		all, err := tree()
		switch {
		case errors.Is(err, syscall.EMFILE): // the script has our user: it may take the init's limits down
			b.result = over(CauseUnwatched, "kept its limits from being watched: %v", err)
		case err != nil:
			b.fault = fmt.Errorf("watch the step's limits: %w", err)
		case len(all) > o.Limits.Processes:
			b.result = over(CauseProcessLimit, "ran more than %d processes at once", o.Limits.Processes)
		case memory(all, o.Limits.Memory) > o.Limits.Memory:
			b.result = over(CauseMemoryLimit, "took more than %d bytes of memory", o.Limits.Memory)
		case syscall.Statfs(o.Watched, &disk) == nil && int64(disk.Bavail)*disk.Bsize < leastFree:
			b.result = over(CauseDiskFull, "left less than %d bytes free on the disk", int64(leastFree))
		default:
			continue
		}
		broken <- b
		if err != nil { // who else is there can not be found out; who began it ends the process group
			_ = syscall.Kill(script, syscall.SIGKILL)
		}
		for { // until the script has been waited for
			signal(syscall.SIGKILL)
			time.Sleep(time.Millisecond)
		}
	}
}
