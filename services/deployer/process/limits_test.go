//go:build linux

package process

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

func TestExceeded(t *testing.T) {
	for _, test := range []struct {
		limits    Limits
		memory    int64
		processes int
		want      string
	}{
		{Limits{}, 1 << 40, 1e6, ""},
		{Limits{Memory: 64 << 20, Processes: 3}, 64 << 20, 3, ""},
		{Limits{Memory: 64 << 20}, 65 << 20, 9, "it took 65.0 MiB of memory, of 64.0 at most"},
		{Limits{Processes: 3}, 65 << 20, 4, "it had 4 processes, of 3 at most"},
	} {
		if got := test.limits.exceeded(test.memory, test.processes); got != test.want {
			t.Errorf("%+v with %d, %d: %q", test.limits, test.memory, test.processes, got)
		}
	}
}

// What takes more than it may is ended with all that it started, says so, and is started again.
func TestAProcessThatTakesTooMuch(t *testing.T) {
	for name, test := range map[string]struct {
		path, says string
		limits     Limits
	}{
		"memory":    {"/eat", `of memory, of 100\.0 at most, and was ended \(signal: killed\)`, Limits{Memory: 100 << 20}},
		"shared":    {"/share", `of memory, of 100\.0 at most, and was ended \(signal: killed\)`, Limits{Memory: 100 << 20}},
		"processes": {"/fork", "it had [5-9] processes, of 4 at most, and was ended", Limits{Processes: 4}},
	} {
		t.Run(name, func(t *testing.T) {
			s, notices := supervisor(t)
			s.config.MaxPause = time.Hour // it is said until it has run for so long
			p, err := s.Start(context.Background(), Spec{Name: "app", Executable: app, HealthPath: "/health", Limits: test.limits})
			if err != nil {
				t.Fatal(err)
			}
			group := expect(t, notices, Started).PID
			go func() {
				if response, err := http.Get(p.URL() + test.path); err == nil {
					_ = response.Body.Close()
				}
			}()
			says := regexp.MustCompile(test.says) // it may be looked at before it has all its children
			if n := expect(t, notices, Exited); !says.MatchString(n.Reason) {
				t.Error(n.Reason)
			}
			expect(t, notices, Restarted)
			if !says.MatchString(p.Over()) {
				t.Errorf("over: %q", p.Over())
			}
			if left := inGroup(group); len(left) > 0 {
				t.Errorf("left running: %v", left)
			}
		})
	}
}

// A log that grows for ever takes twice its bound at most.
func TestALogIsBounded(t *testing.T) {
	s, _ := supervisor(t)
	file := filepath.Join(t.TempDir(), "app.log")
	p, err := s.Start(context.Background(), Spec{Name: "app", Executable: app, HealthPath: "/health", LogFile: file, LogMost: 20_000})
	if err != nil {
		t.Fatal(err)
	}
	size := func(name string) int64 {
		info, err := os.Stat(name)
		if err != nil {
			return 0
		}
		return info.Size()
	}
	talk := func() {
		response, err := http.Get(p.URL() + "/talk")
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
	}
	for range 25 {
		talk()
	}
	eventually(t, "a bounded log", func() bool { return size(file) < 20_000 && size(file+".1") > 20_000 })
	talk() // goes on where it was cut
	if n := size(file); n == 0 || n > 20_000 {
		t.Errorf("%d bytes", n)
	}
}
