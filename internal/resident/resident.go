// Package resident says how much memory processes have that no file could give back, as Linux counts it under /proc.
package resident

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
)

// Of is what a process has in bytes, with all that it shares with others; 0 when it has ended.
func Of(pid int) int64 {
	total, _ := sum(fmt.Sprintf("/proc/%d/status", pid), "RssAnon", "RssShmem")
	return total
}

// Together is what processes take together, in bytes, given what [Of] says of each by its id. What several of them share
// counts once, which costs a look at all of their pages: only where it decides, above most. Of those that end meanwhile the largest
// counts as it was seen: what they shared nobody knows any more.
func Together(of map[int]int64, most int64) (total int64) {
	for _, memory := range of {
		total += memory
	}
	if total <= most || len(of) < 2 {
		return total
	}
	total = 0
	gone := int64(0)
	for pid, seen := range of {
		share, ok := sum(fmt.Sprintf("/proc/%d/smaps_rollup", pid), "Pss_Anon", "Pss_Shmem")
		if !ok {
			if share = Of(pid); share == 0 { // or else an older kernel
				gone = max(gone, seen)
			}
		}
		total += share
	}
	return max(total, gone)
}

// sum adds lines of "name: 12 kB", in bytes; false when there is none but of zero: an older kernel, or the process is gone.
func sum(file string, names ...string) (total int64, ok bool) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, false
	}
	for line := range bytes.Lines(text) { // a name's own line ends are escaped there
		name, value, _ := bytes.Cut(bytes.TrimSpace(line), []byte(":"))
		for _, wanted := range names {
			if string(name) == wanted {
				n, _ := strconv.ParseInt(string(bytes.TrimSpace(bytes.TrimSuffix(value, []byte("kB")))), 10, 64)
				total += n << 10
			}
		}
	}
	return total, total > 0
}
