package executor

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var all = []Isolation{Required, None}

// kinds runs a test for kinds of init, as far as this machine can have them; not beside others, which take what waits.
func kinds(t *testing.T, of []Isolation, test func(t *testing.T, p *Process, k kind)) {
	t.Helper()
	for _, isolation := range of {
		t.Run(string(isolation), func(t *testing.T) {
			p := NewProcess(isolation)
			isolated, why, err := p.Isolated(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if !isolated && isolation == Required {
				t.Skipf("SKIPPED: inits that are begun ahead were NOT tried with namespaces: %s", why)
			}
			test(t, p, kind{isolated: isolated})
		})
	}
}

// known has inits take these for the machine's mounts.
func known(mounts func() (fingerprint, error)) {
	ahead.mu.Lock()
	defer ahead.mu.Unlock()
	ahead.mounts = mounts
}

func waiting(t *testing.T, k kind) *spare {
	t.Helper()
	ahead.provide(k)
	ahead.mu.Lock()
	defer ahead.mu.Unlock()
	s := ahead.idle[k]
	if s == nil {
		t.Fatal("no init waits")
	}
	return s
}

func TestAStepTakesTheInitThatWaits(t *testing.T) {
	kinds(t, all, func(t *testing.T, p *Process, k kind) {
		s := waiting(t, k)
		for _, want := range []string{"one\n", "two\n"} { // the second one has another
			var out bytes.Buffer
			if r, err := p.Run(t.Context(), Step{Dir: t.TempDir(), Script: "echo " + want}, &out); err != nil || !r.Succeeded() || out.String() != want {
				t.Errorf("%+v %v: %s", r, err, out.String())
			}
		}
		if s.init.cmd.ProcessState == nil {
			t.Error("the init that waited was not taken")
		}
		if waiting(t, k) == s {
			t.Error("it is taken twice")
		}
	})
}

// What every step sees is in its root before there is a step, and what the machine mounts later does not come in. Only isolated ones
// have a root of their own.
func TestTheInitThatWaitsHasARoot(t *testing.T) {
	kinds(t, []Isolation{Required}, func(t *testing.T, _ *Process, k kind) {
		mounts := fmt.Sprintf("/proc/%d/mountinfo", waiting(t, k).init.cmd.Process.Pid)
		for end := time.Now().Add(time.Minute); ; runtime.Gosched() {
			text, err := os.ReadFile(mounts)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(text), " "+newRoot+"/proc ") {
				for line := range strings.Lines(string(text)) {
					if strings.Contains(line, " "+newRoot+"/usr ") && !strings.Contains(line, "master:") && strings.Contains(line, " ro,") {
						return
					}
				}
				t.Fatalf("programs are not there read only and private:\n%s", text)
			}
			if time.Now().After(end) {
				t.Fatalf("no root:\n%s", text)
			}
		}
	})
}

func TestAnInitThatDiedWaitingIsReplaced(t *testing.T) {
	kinds(t, all, func(t *testing.T, p *Process, k kind) {
		pid := waiting(t, k).init.cmd.Process.Pid
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if r, err := p.Run(t.Context(), Step{Dir: t.TempDir(), Script: "echo ran"}, &out); err != nil || !r.Succeeded() || out.String() != "ran\n" {
			t.Errorf("%+v %v: %s", r, err, out.String())
		}
	})
}

func TestAnInitDoesNotWaitForEver(t *testing.T) {
	known(func() (fingerprint, error) { return fingerprint{}, nil }) // whatever others mount meanwhile
	t.Cleanup(func() { known(mounts) })
	kinds(t, all, func(t *testing.T, _ *Process, k kind) {
		if old := ahead.take(k); old != nil {
			old.dismiss() // of the mounts that were known before
		}
		s := waiting(t, k)
		ahead.retire(k, s)
		if s.init.cmd.ProcessState == nil {
			t.Error("it still waits")
		}
		next := waiting(t, k)
		ahead.retire(k, s) // its time passes after another took its place
		if waiting(t, k) != next {
			t.Error("the next one was ended for it")
		}
		left := ahead.take(k)
		if next.end.Stop() {
			t.Error("its time runs on after it was taken")
		}
		_ = left.control.Close() // as when its program dies
		if err := left.cmd.Wait(); err != nil {
			t.Errorf("it ended by %v", err)
		}
		closeAll([]*os.File{left.answer, left.output})
	})
}

// A step sees the machine's mounts as they are when it begins, and not as they were when an init was begun for it.
func TestAnInitWithFormerMountsIsReplaced(t *testing.T) {
	t.Cleanup(func() { known(mounts) })
	kinds(t, all, func(t *testing.T, p *Process, k kind) {
		for name, now := range map[string]func() (fingerprint, error){
			"other mounts":   func() (fingerprint, error) { return fingerprint{2}, nil },
			"unknown mounts": func() (fingerprint, error) { return fingerprint{1}, os.ErrPermission },
		} {
			if old := ahead.take(k); old != nil {
				old.dismiss()
			}
			known(func() (fingerprint, error) { return fingerprint{1}, nil })
			s := waiting(t, k)
			known(now)
			taken := ahead.take(k)
			if (taken == nil) != k.isolated {
				t.Errorf("%s: taken is %v", name, taken)
			}
			if taken != nil {
				taken.dismiss()
			} else if s.init.cmd.ProcessState == nil {
				t.Errorf("%s: it still waits", name)
			}
			known(mounts)
			var out bytes.Buffer
			if r, err := p.Run(t.Context(), Step{Dir: t.TempDir(), Script: "echo ran"}, &out); err != nil || !r.Succeeded() || out.String() != "ran\n" {
				t.Errorf("%s: %+v %v: %s", name, r, err, out.String())
			}
		}
	})
}
