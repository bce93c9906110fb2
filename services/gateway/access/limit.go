package access

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// Limits bound how much a token, and all tokens of a project together, may do. A zero field takes the default, a
// negative one is no limit.
type Limits struct {
	Requests int // of a token in each ten seconds; default 20,000
	Events   int // of a project in a day, from midnight UTC; default 10,000,000
}

const (
	requestWindow = 10 * time.Second
	eventWindow   = 24 * time.Hour
	limitTimeout  = time.Second

	defaultRequests = 20_000
	defaultEvents   = 10_000_000
)

// LimitError says that a limit is reached, and when its next window begins.
type LimitError struct {
	What  string // "the token jenkins", "the project shop"
	Limit int
	Of    string // requests in ten seconds, events in a day
	After time.Duration
}

// Error says what is limited.
func (e *LimitError) Error() string {
	return fmt.Sprintf("%s is limited to %d %s", e.What, e.Limit, e.Of)
}

// Limiter counts in fixed windows, in a Redis that all gateways share.
type Limiter struct {
	redis  redis.Cmdable
	limits Limits
	now    func() time.Time
}

// NewLimiter counts in a Redis under keys that begin with "limit:".
func NewLimiter(r redis.Cmdable, l Limits) *Limiter {
	if l.Requests == 0 {
		l.Requests = defaultRequests
	}
	if l.Events == 0 {
		l.Events = defaultEvents
	}
	return &Limiter{redis: r, limits: l, now: time.Now}
}

// Request counts a request of a principal. The error is a [*LimitError], or says that the store does not answer.
func (l *Limiter) Request(ctx context.Context, principal string) error {
	return l.count(ctx, "token", principal, "requests in ten seconds", l.limits.Requests, requestWindow)
}

// Event counts an event of a project.
func (l *Limiter) Event(ctx context.Context, project string) error {
	return l.count(ctx, "project", project, "events in a day", l.limits.Events, eventWindow)
}

func (l *Limiter) count(ctx context.Context, kind, name, of string, limit int, window time.Duration) error {
	if limit < 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, limitTimeout)
	defer cancel()
	now := l.now()
	n := now.UnixNano() / int64(window)
	key := "limit:" + kind + ":" + name + ":" + strconv.FormatInt(n, 10)
	var count *redis.IntCmd
	_, err := l.redis.Pipelined(ctx, func(p redis.Pipeliner) error {
		count = p.Incr(ctx, key)
		p.Expire(ctx, key, 2*window)
		return nil
	})
	if err != nil {
		return fmt.Errorf("count the %s: %w", kind, err)
	}
	if count.Val() <= int64(limit) {
		return nil
	}
	end := time.Unix(0, (n+1)*int64(window))
	return &LimitError{What: "the " + kind + " " + name, Limit: limit, Of: of, After: end.Sub(now)}
}
