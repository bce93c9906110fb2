package access

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lemnis/lemnis/internal/quota"
)

// Limits bound how much a token, and all tokens of a project together, may do. A zero field takes the default, a
// negative one is no limit.
type Limits struct {
	Requests int // of a token in each ten seconds; default 20,000
	Events   int // of a project in a day, from midnight UTC, where its quota does not say; default 10,000,000
}

const (
	requestWindow = 10 * time.Second
	minuteWindow  = time.Minute
	dayWindow     = 24 * time.Hour
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
	quota  func(project string) quota.Quota
	now    func() time.Time
}

// NewLimiter counts in a Redis under keys that begin with "limit:". The quotas of projects are asked for again and again.
func NewLimiter(r redis.Cmdable, l Limits, of func(project string) quota.Quota) *Limiter {
	if l.Requests == 0 {
		l.Requests = defaultRequests
	}
	if l.Events == 0 {
		l.Events = defaultEvents
	}
	return &Limiter{redis: r, limits: l, quota: of, now: time.Now}
}

// Request counts a request of a principal. The error is a [*LimitError], or says that the store does not answer.
func (l *Limiter) Request(ctx context.Context, principal string) error {
	return l.count(ctx, "token", principal, "requests in ten seconds", l.limits.Requests, requestWindow)
}

// Event counts an event of a project, also one that is refused.
func (l *Limiter) Event(ctx context.Context, project string) error {
	for _, b := range l.bounds(project) {
		if err := l.count(ctx, "project", project, b.of, b.limit, b.window); err != nil {
			return err
		}
	}
	return nil
}

// bound is a number of events in a window.
type bound struct {
	of     string
	limit  int
	window time.Duration
}

func (l *Limiter) bounds(project string) []bound {
	q := l.quota(project)
	minute, day := -1, l.limits.Events
	if q.EventsPerMinute > 0 {
		minute = q.EventsPerMinute
	}
	if q.EventsPerDay > 0 {
		day = q.EventsPerDay
	}
	return []bound{{"events in a minute", minute, minuteWindow}, {"events in a day", day, dayWindow}}
}

// Usage is how much of a bound is used in its window now.
type Usage struct {
	Of    string        `json:"of"`
	Used  int64         `json:"used"`
	Limit int64         `json:"limit"`
	Again time.Duration `json:"-"` // until the window ends
}

// Events are the bounds of a project, and what is used of them.
func (l *Limiter) Events(ctx context.Context, project string) ([]Usage, error) {
	var all []Usage
	for _, b := range l.bounds(project) {
		if b.limit < 0 {
			continue
		}
		key, left := l.key("project", project, b.window)
		n, err := l.redis.Get(ctx, key).Int64()
		if err != nil && !errors.Is(err, redis.Nil) {
			return nil, fmt.Errorf("read what %s uses: %w", project, err)
		}
		all = append(all, Usage{Of: b.of, Used: n, Limit: int64(b.limit), Again: left})
	}
	return all, nil
}

// key is where a window's events are counted, and how long the window lasts.
func (l *Limiter) key(kind, name string, window time.Duration) (key string, left time.Duration) {
	now := l.now()
	n := now.UnixNano() / int64(window)
	return "limit:" + kind + ":" + name + ":" + strconv.FormatInt(n, 10), time.Unix(0, (n+1)*int64(window)).Sub(now)
}

func (l *Limiter) count(ctx context.Context, kind, name, of string, limit int, window time.Duration) error {
	if limit < 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, limitTimeout)
	defer cancel()
	key, left := l.key(kind, name, window)
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
	return &LimitError{What: "the " + kind + " " + name, Limit: limit, Of: of, After: left}
}
