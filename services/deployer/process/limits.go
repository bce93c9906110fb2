//go:build linux

package process

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/lemnis/lemnis/internal/resident"
)

// Limits bound a process with its group and its descendants. Zero: no bound.
type Limits struct {
	Memory    int64 `json:"memory,omitempty"` // bytes that no file could give back
	Processes int   `json:"processes,omitempty"`
}

const (
	// watchEvery is how often is looked at what processes take: what grows faster than the machine has memory in this time is not
	// stopped by it.
	watchEvery = 100 * time.Millisecond
	logMost    = 10 << 20
)

// watch ends processes that take more than they may, and bounds logs. It looks at /proc once for all of them.
func (s *Supervisor) watch() {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-s.watched:
			return
		case <-tick.C:
		}
		limited := map[*Process]*running{}
		var all []*Process
		s.mu.Lock()
		for p := range s.processes {
			all = append(all, p)
		}
		s.mu.Unlock()
		for _, p := range all {
			p.mu.Lock()
			if p.current != nil && p.spec.Limits != (Limits{}) {
				limited[p] = p.current
			}
			p.mu.Unlock()
			if n%10 == 0 {
				p.spec.boundLog()
			}
		}
		if len(limited) == 0 {
			continue
		}
		tree := readTree()
		for p, r := range limited {
			if what := p.spec.Limits.exceeded(tree.of(r.pid, p.spec.Limits.Memory)); what != "" {
				r.exceed(what)
			}
		}
	}
}

// exceeded says what is too much; empty when nothing is.
func (l Limits) exceeded(memory int64, processes int) string {
	const mib = 1 << 20
	switch {
	case l.Memory > 0 && memory > l.Memory:
		return fmt.Sprintf("it took %.1f MiB of memory, of %.1f at most", float64(memory)/mib, float64(l.Memory)/mib)
	case l.Processes > 0 && processes > l.Processes:
		return fmt.Sprintf("it had %d processes, of %d at most", processes, l.Processes)
	}
	return ""
}

// tree is all processes of the machine by parent and by group.
type tree struct{ children, groups map[int][]int }

func readTree() tree {
	t := tree{map[int][]int{}, map[int][]int{}}
	alive(func(s stat) bool {
		t.children[s.parent] = append(t.children[s.parent], s.pid)
		t.groups[s.group] = append(t.groups[s.group], s.pid)
		return false
	})
	return t
}

// of is what a group takes with its descendants; what they share counts once where it is more than most.
func (t tree) of(group int, most int64) (memory int64, processes int) {
	seen := map[int]int64{}
	var add func(pids []int)
	add = func(pids []int) {
		for _, pid := range pids {
			if _, ok := seen[pid]; !ok {
				seen[pid] = resident.Of(pid)
				add(t.children[pid])
			}
		}
	}
	add(t.groups[group])
	return resident.Together(seen, most), len(seen)
}

// boundLog moves a log that is too long out of the way. The program goes on writing to the same file; what it writes
// between the copy and the cut is lost.
func (s Spec) boundLog() {
	most := s.LogMost
	if most <= 0 {
		most = logMost
	}
	if info, err := os.Stat(s.LogFile); s.LogFile == "" || err != nil || info.Size() <= most {
		return
	}
	from, err := os.Open(s.LogFile)
	if err != nil {
		return
	}
	defer func() { _ = from.Close() }()
	to, err := os.OpenFile(s.LogFile+".1", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = io.Copy(to, io.LimitReader(from, 2*most))
		if closed := to.Close(); err == nil {
			err = closed
		}
	}
	if err == nil {
		_ = os.Truncate(s.LogFile, 0) // tried again otherwise
	}
}
