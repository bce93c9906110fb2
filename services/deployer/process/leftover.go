//go:build linux

package process

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// tokenName is the environment variable that marks a supervised process and what it starts.
const tokenName = "LEMNIS_PROCESS" //nolint:gosec // a variable's name; the token is a mark, no secret

// record is what the state folder knows of a start. PID is 0 while the start is under way.
type record struct {
	Token      string `json:"token"`
	Name       string `json:"name"`
	Executable string `json:"executable"`
	Boot       string `json:"boot"`
	PID        int    `json:"pid"`
	Started    uint64 `json:"started"` // clock ticks since boot
	Port       int    `json:"port"`
}

func (s *Supervisor) recordPath(token string) string {
	return filepath.Join(s.config.StateDir, token+".json")
}
func (s *Supervisor) homePath(token string) string { return filepath.Join(s.config.StateDir, token) }

func (s *Supervisor) save(r record) error {
	body, err := json.Marshal(r)
	if err != nil {
		return err
	}
	temporary := s.recordPath(r.Token) + ".new"
	if err := os.WriteFile(temporary, body, 0o600); err != nil {
		return fmt.Errorf("record a start: %w", err)
	}
	return os.Rename(temporary, s.recordPath(r.Token))
}

// forget removes the record and the private folder of a process that has ended.
func (s *Supervisor) forget(token string) {
	_ = os.RemoveAll(s.homePath(token))
	_ = os.Remove(s.recordPath(token))
}

// Leftover is a process of an earlier supervisor that New ended.
type Leftover struct {
	Name string
	PIDs []int
}

// endLeftovers ends what the state folder says was running.
func (s *Supervisor) endLeftovers() ([]Leftover, error) {
	files, err := filepath.Glob(filepath.Join(s.config.StateDir, "*.json"))
	if err != nil {
		return nil, err
	}
	var all []Leftover
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			return all, fmt.Errorf("leftovers: %w", err)
		}
		var r record
		if json.Unmarshal(body, &r) != nil || r.Token == "" || r.Token+".json" != filepath.Base(file) {
			continue // not a record of ours
		}
		left := Leftover{Name: r.Name}
		if r.isRunning() {
			left.PIDs = inGroup(r.PID)
			_ = syscall.Kill(-r.PID, syscall.SIGKILL)
		}
		for _, pid := range endCarriers(r.Token) {
			if !slices.Contains(left.PIDs, pid) {
				left.PIDs = append(left.PIDs, pid)
			}
		}
		s.forget(r.Token)
		if len(left.PIDs) > 0 {
			all = append(all, left)
		}
	}
	return all, nil
}

// isRunning says whether the recorded process is the one that has its pid now.
func (r record) isRunning() bool {
	if r.PID <= 1 || r.Boot != bootID() {
		return false
	}
	now, err := readStat(r.PID)
	if err != nil || now.started != r.Started || now.group != r.PID {
		return false
	}
	executable, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", r.PID))
	return err == nil && strings.TrimSuffix(executable, " (deleted)") == r.Executable
}

// endCarriers kills every process that carries the token, again until none is left, since one may start another
// meanwhile, and returns them.
func endCarriers(token string) []int {
	var ended []int
	for range 50 {
		pids := carrying(token)
		if len(pids) == 0 {
			return ended
		}
		for _, pid := range pids {
			// FindProcess holds a pidfd: when the pid still carries the token after that, the signal can hit no other.
			p, err := os.FindProcess(pid)
			if err != nil {
				continue
			}
			if slices.Contains(carrying(token), pid) && p.Signal(syscall.SIGKILL) == nil && !slices.Contains(ended, pid) {
				ended = append(ended, pid)
			}
			_ = p.Release()
		}
		time.Sleep(5 * time.Millisecond) // until the kernel has ended them
	}
	return ended
}
