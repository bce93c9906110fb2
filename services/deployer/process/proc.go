//go:build linux

package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// stat is the part of /proc/<pid>/stat that identifies a process.
type stat struct {
	pid, parent, group int
	state              byte
	started            uint64 // clock ticks since boot
}

func readStat(pid int) (stat, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, err
	}
	// The name in parentheses may hold spaces and parentheses: count from the last one.
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	if len(fields) < 20 {
		return stat{}, errors.New("short stat")
	}
	parent, err1 := strconv.Atoi(fields[1])
	group, err2 := strconv.Atoi(fields[2])
	started, err3 := strconv.ParseUint(fields[19], 10, 64)
	return stat{pid, parent, group, fields[0][0], started}, errors.Join(err1, err2, err3)
}

// alive lists the processes that are no zombies and for which the test holds.
func alive(test func(stat) bool) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			if s, err := readStat(pid); err == nil && s.state != 'Z' && s.state != 'X' && test(s) {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

func inGroup(group int) []int { return alive(func(s stat) bool { return s.group == group }) }

// carrying lists the processes with the token in their environment.
func carrying(token string) []int {
	mark := []byte(tokenName + "=" + token)
	return alive(func(s stat) bool {
		environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", s.pid))
		return err == nil && slices.ContainsFunc(bytes.Split(environ, []byte{0}), func(e []byte) bool { return bytes.Equal(e, mark) })
	})
}

func bootID() string {
	id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id))
}

// Socket is a TCP socket that listens.
type Socket struct {
	PID      int
	Address  string // as the kernel writes it, in hexadecimal
	Port     int
	Loopback bool // reachable from this machine only
}

// Listening lists the listening TCP sockets, IPv4 and IPv6, of the process group, sorted by port.
func Listening(group int) ([]Socket, error) {
	pids := inGroup(group)
	if len(pids) == 0 {
		return nil, fmt.Errorf("no process in group %d", group)
	}
	return sockets(pids)
}

func sockets(pids []int) ([]Socket, error) {
	var all []Socket
	for _, pid := range pids {
		inodes, err := socketInodes(pid)
		if errors.Is(err, os.ErrNotExist) {
			continue // it has ended meanwhile
		} else if err != nil {
			return nil, fmt.Errorf("sockets of process %d: %w", pid, err)
		}
		for _, table := range []string{"tcp", "tcp6"} {
			raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, table)) // of its own network namespace
			if err != nil {
				continue // no IPv6
			}
			for line := range strings.Lines(string(raw)) {
				f := strings.Fields(line)
				if len(f) < 10 || f[3] != "0A" || !inodes[f[9]] {
					continue
				}
				address, port, _ := strings.Cut(f[1], ":")
				number, err := strconv.ParseUint(port, 16, 16)
				if err != nil {
					return nil, fmt.Errorf("port %q: %w", port, err)
				}
				all = append(all, Socket{pid, address, int(number), isLoopback(address)})
			}
		}
	}
	slices.SortFunc(all, func(a, b Socket) int { return a.Port - b.Port })
	return all, nil
}

// isLoopback reads the kernel's form: words of 32 bits, each in the machine's byte order (little-endian).
func isLoopback(address string) bool {
	const v6, mapped = "00000000000000000000000001000000", "0000000000000000FFFF0000"
	if address == v6 {
		return true
	}
	if rest, ok := strings.CutPrefix(address, mapped); ok {
		address = rest
	}
	return len(address) == 8 && strings.HasSuffix(address, "7F")
}

func socketInodes(pid int) (map[string]bool, error) {
	folder := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	inodes := map[string]bool{}
	for _, e := range entries {
		link, err := os.Readlink(filepath.Join(folder, e.Name()))
		if err != nil {
			continue // closed meanwhile
		}
		if inode, ok := strings.CutPrefix(link, "socket:["); ok {
			inodes[strings.TrimSuffix(inode, "]")] = true
		}
	}
	return inodes, nil
}

// Runs reports whether a process is one of the supervisor's, or was started by one.
func (s *Supervisor) Runs(pid int) bool {
	s.mu.Lock()
	tokens := map[string]bool{}
	for p := range s.processes {
		tokens[tokenName+"="+p.token] = true
	}
	s.mu.Unlock()
	for pid > 1 {
		environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if err != nil {
			return false
		}
		if slices.ContainsFunc(bytes.Split(environ, []byte{0}), func(e []byte) bool { return tokens[string(e)] }) {
			return true
		}
		now, err := readStat(pid)
		if err != nil {
			return false
		}
		pid = now.parent
	}
	return false
}
