package natsd

import (
	"fmt"
	"strings"
	"syscall"
	"time"
)

const (
	// lookForSpace is how often a disk that was full is looked at.
	lookForSpace = 500 * time.Millisecond
	// enoughSpace is what has to be free before the store is opened again: a
	// few of the largest events, and what the server writes beside.
	enoughSpace = 16 << 20
)

// watchSpace notes when the server says that its disk is full. It says so for
// each stream once, and keeps a stream that met a full disk closed to all that
// is written, however much room there is later.
func (s *Server) watchSpace(say func(string, ...any)) func(string, ...any) {
	return func(format string, args ...any) {
		if strings.Contains(format, "Plaintext passwords detected") {
			return // of the user local, who needs none
		}
		if strings.Contains(fmt.Sprintf(format, args...), "no space left") {
			s.outOfSpace.Store(true)
		}
		say(format, args...)
	}
}

// heal opens the store again when a disk that was full has room. Connections
// stay; readers that the server kept in memory are gone, as after a restart.
func (s *Server) heal() {
	tick := time.NewTicker(lookForSpace)
	defer tick.Stop()
	for {
		select {
		case <-s.stopped:
			return
		case <-tick.C:
		}
		if !s.outOfSpace.Load() {
			continue
		}
		var disk syscall.Statfs_t
		if err := syscall.Statfs(s.options.Dir, &disk); err != nil || disk.Bavail*uint64(disk.Bsize) < enoughSpace {
			continue
		}
		s.outOfSpace.Store(false) // what is met from here on counts again
		if err := s.reopen(); err != nil {
			s.outOfSpace.Store(true)
			s.say("the disk has room again, but the store can not be opened: %v", err)
			continue
		}
		s.say("the disk has room again; the store was opened anew")
	}
}

// reopen closes the store, and opens it from what is on the disk.
func (s *Server) reopen() error {
	if err := s.nats.ShutdownJetStream(); err != nil {
		return fmt.Errorf("close the store: %w", err)
	}
	again := *s.store // with the limits of the start: a disk that is fuller now has to do for what was promised then
	again.StoreDir = s.options.Dir
	if err := s.nats.EnableJetStream(&again); err != nil {
		return fmt.Errorf("open the store: %w", err)
	}
	return nil
}

func (s *Server) say(format string, args ...any) {
	if s.options.Logger != nil {
		s.options.Logger(format, args...)
	}
}
