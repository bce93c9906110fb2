package deployer

import (
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/lemnis/lemnis/services/deployer/keeper"
)

const (
	tidyEvery = time.Hour
	// What nothing needs is kept for so long: who looks for the reason of a failure finds its log, and an artifact that comes again is not
	// pulled again.
	keepLogs        = 7 * 24 * time.Hour
	keepExecutables = 24 * time.Hour
)

// tidy removes executables that no place serves, or may go back to, and logs of processes that ended.
func (s *site) tidy(front keeper.State, now time.Time) {
	executables, logs := s.wanted.artifacts(), map[string]bool{}
	for _, p := range front.Processes {
		executables[p.Digest] = true
		project, _, _ := strings.Cut(p.Door, "/")
		logs[s.logFile(project, p.Version)] = true
	}
	s.clear("executables", now.Add(-keepExecutables), func(path string) bool { return executables["sha256:"+filepath.Base(path)] })
	s.clear("logs", now.Add(-keepLogs), func(path string) bool { return logs[strings.TrimSuffix(path, ".1")] })
}

// clear removes what is older and not needed.
func (s *site) clear(folder string, before time.Time, needed func(path string) bool) {
	entries, err := os.ReadDir(filepath.Join(s.options.Data, folder))
	if err != nil {
		return
	}
	for _, e := range entries {
		path := filepath.Join(s.options.Data, folder, e.Name())
		if needed(path) {
			continue
		}
		if err := s.remove(path, before); err != nil {
			s.options.Log("could not be removed", "file", path, "error", err.Error())
		}
	}
}

// remove removes what is older, unless somebody touched it meanwhile.
func (s *site) remove(path string, before time.Time) error {
	s.tidying.Lock()
	defer s.tidying.Unlock()
	info, err := os.Lstat(path)
	if err != nil || info.ModTime().After(before) {
		return nil // it is gone
	}
	return os.RemoveAll(path)
}

// touch keeps a file or folder, where it is there, from being removed as one that nothing needed for long.
func (s *site) touch(path string) {
	s.tidying.Lock()
	defer s.tidying.Unlock()
	now := time.Now()
	_ = os.Chtimes(path, now, now)
}
