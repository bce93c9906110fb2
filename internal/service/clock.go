package service

import (
	"sync"
	"time"
)

// Clock is the one clock of a process. Decisions never see it: they go by the time at which the
// stream stored their cause.
type Clock interface {
	Now() time.Time
}

// WallClock is the machine's clock.
type WallClock struct{}

// Now is the machine's time.
func (WallClock) Now() time.Time { return time.Now() }

// ManualClock is a clock that tests set.
type ManualClock struct {
	mu  sync.Mutex
	now time.Time
}

// NewManualClock starts at t.
func NewManualClock(t time.Time) *ManualClock { return &ManualClock{now: t} }

// Now is the time that was last set.
func (c *ManualClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance moves the clock, backwards when d is negative.
func (c *ManualClock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}
