package executor

import (
	"context"
	"fmt"
	"io"
	"time"
)

// Executor runs steps. Implementations are safe for concurrent use.
type Executor interface {
	// Run runs one step to its end; out gets what it prints, both streams in one, from one goroutine.
	Run(ctx context.Context, step Step, out io.Writer) (Result, error)
}

// Step is one script to be run.
type Step struct {
	Name        string   // of the step, for messages and what is named after it
	Script      string   // for sh -e
	Image       string   // empty: on the host
	Dir         string   // folder of the host that it works in and may change
	At          string   // where it sees Dir; empty: under its own name
	Scratch     string   // folder of the host in which its home and temp are made and removed; empty: the host's own
	Environment []string // NAME=value; PATH, HOME and TMPDIR are there already
	Shared      []string // further folders of the host that it may change, under their own names
	Layers      []Layer  // further folders that it may change as it sees them, when it is isolated; with services, only those without Lower
	ReadOnly    []string // further files and folders of the host that it may read
	Hidden      []string // files and folders of the host that it may not see the content of, where they lie in what it sees else
	Shown       []string // files and folders of the host that it may read though they lie in what is hidden
	Network     bool     // off: it reaches nobody but itself
	Limits      Limits
	Beside      []Service // run beside it
}

// Layer is a folder that a step changes without changing what it is made of.
type Layer struct {
	Target string   // where the step sees it
	Lower  []string // folders of the host that are read only; of a file that several have, the first one's counts; none: it changes Upper itself
	Upper  string   // folder of the host that gets what the step writes, under "upper", which may be there: changed files whole, a character device 0/0 for what is removed
}

// Service is a container beside a step.
type Service struct {
	Name        string // its host name
	Image       string
	Environment []string // NAME=value
	Port        int      // that has to be listened to before the step begins; 0: as the image says
}

// Limits bound what a step takes. Zero is the default.
type Limits struct {
	CPU       float64       // cores; all of them
	Memory    int64         // bytes of all its processes; three quarters of the machine's
	Processes int           // at once; DefaultProcesses
	Output    int64         // bytes that it prints; DefaultOutput
	File      int64         // bytes of one file that it writes; DefaultFile
	Time      time.Duration // DefaultTime
	Grace     time.Duration // between SIGTERM and SIGKILL; DefaultGrace
}

// Defaults of limits.
const (
	DefaultProcesses = 1000
	DefaultOutput    = 64 << 20
	DefaultFile      = 8 << 30
	DefaultTime      = 15 * time.Minute
	DefaultGrace     = 2 * time.Second
)

func (l Limits) filled() Limits {
	if l.Memory <= 0 {
		l.Memory = machineMemory() / 4 * 3
	}
	if l.Processes <= 0 {
		l.Processes = DefaultProcesses
	}
	if l.Output <= 0 {
		l.Output = DefaultOutput
	}
	if l.File <= 0 {
		l.File = DefaultFile
	}
	if l.Time <= 0 {
		l.Time = DefaultTime
	}
	if l.Grace <= 0 {
		l.Grace = DefaultGrace
	}
	return l
}

// Cause says, for programs, why a step did not succeed.
type Cause string

// The causes; on success there is none.
const (
	CauseExit         Cause = "exit"          // the script's own status
	CauseTimeLimit    Cause = "time-limit"    // Limits.Time passed
	CauseOutputLimit  Cause = "output-limit"  // Limits.Output passed
	CauseMemoryLimit  Cause = "memory-limit"  // Limits.Memory passed
	CauseProcessLimit Cause = "process-limit" // Limits.Processes passed
	CauseDiskFull     Cause = "disk-full"     // hardly any room was left where it writes
	CauseUnwatched    Cause = "unwatched"     // it kept its init from looking after its limits
	CauseKilled       Cause = "killed"        // something else ended it
	CauseEngine       Cause = "engine"        // it needs a container engine, and there is none that could run it
	CauseImage        Cause = "image"         // an image is not to be had, or can not run a script
	CauseService      Cause = "service"       // what is to run beside it does not come up
)

// Result is how a step ended.
type Result struct {
	Exit   int    // the script's status, 128 and the signal's number when one ended it
	Cause  Cause  // empty on success
	Reason string // for people, one line; empty on success

	Images map[string]string // digests of the images that it and its services ran in, by name
	Began  time.Time         // of an image that was built, by the engine's clock

	Unisolated string // why the script had the rights and view of the machine that its program has; empty: it had not
}

// Succeeded says whether the script exited with 0.
func (r Result) Succeeded() bool { return r.Cause == "" }

func over(cause Cause, format string, args ...any) Result {
	return Result{Exit: 137, Cause: cause, Reason: fmt.Sprintf(format, args...)}
}

func exited(status int) Result {
	if status == 0 {
		return Result{}
	}
	return Result{Exit: status, Cause: CauseExit, Reason: fmt.Sprintf("exit status %d", status)}
}
