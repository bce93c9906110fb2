package natsd

import (
	"context"
	"errors"
	"time"
)

// errStandsStill says that a reader was not given what is there for it.
var errStandsStill = errors.New("its consumer hands out nothing, although there is something")

// Watch fails a reader that waits and is given nothing although something is there for it. In a cluster a consumer can stand on a server
// whose copy of the stream does not move: it says every now and then that it lives, so that the client is content, and hands out nothing,
// for ever. Where nothing came for so long, waits is asked whether something is there at or behind a sequence, and where none is below.
func (r *Reader) Watch(quiet time.Duration, waits func(ctx context.Context, from uint64) (last uint64, there bool, err error)) {
	r.watcher.Go(func() { r.watch(quiet, waits) })
}

func (r *Reader) watch(quiet time.Duration, waits func(ctx context.Context, from uint64) (last uint64, there bool, err error)) {
	var none uint64 // at or below it there is nothing for the reader
	for {
		seen := r.seen.Load()
		if !r.nothing(quiet, seen) {
			if r.reading.Err() != nil {
				return
			}
			continue
		}
		asking, cancel := context.WithTimeout(r.reading, leaderTimeout)
		last, there, err := waits(asking, max(r.from, seen+1, none+1))
		cancel()
		switch {
		case err != nil:
		case !there:
			none = last
		case r.nothing(quiet/4, seen): // what was on its way had a moment to come
			r.fail(errStandsStill)
			return
		}
	}
}

// nothing waits a while; true when the reader waits still for what is behind what it had seen.
func (r *Reader) nothing(d time.Duration, seen uint64) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-r.reading.Done():
		return false
	case <-timer.C:
		return r.waiting.Load() && r.seen.Load() == seen
	}
}
