package subscription

import (
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Patience bounds how deliveries are tried; zero fields take the default.
type Patience struct {
	Timeout   time.Duration // 15 s: of one request
	Least     time.Duration // 500 ms: the widest first wait
	Most      time.Duration // 10 min: the widest wait
	Tries     int           // 40
	Age       time.Duration // 24 h, from the first try
	Handshake time.Duration // 5 s: the first wait between handshakes, up to Most
	Parallel  int           // 4: requests of one subscription at a time
}

func (p Patience) withDefaults() Patience {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&p.Timeout, 15*time.Second)
	def(&p.Least, 500*time.Millisecond)
	def(&p.Most, 10*time.Minute)
	def(&p.Age, 24*time.Hour)
	def(&p.Handshake, 5*time.Second)
	if p.Tries <= 0 {
		p.Tries = 40
	}
	if p.Parallel <= 0 {
		p.Parallel = 4
	}
	return p
}

// widest is the bound of the wait after a number of tries, from 1: it doubles.
func widest(least, most time.Duration, tries int) time.Duration {
	d := least
	for i := 1; i < tries && d < most; i++ {
		d *= 2
	}
	return min(d, most)
}

// backoff is the wait after a number of failed tries: anything up to the bound (full jitter), so that receivers that
// failed together are not asked together again.
func backoff(least, most time.Duration, tries int) time.Duration {
	return rand.N(widest(least, most, tries) + 1) //nolint:gosec // jitter is no secret
}

// longestRetryAfter is as far as a receiver may put a delivery off.
const longestRetryAfter = time.Hour

// retryAfter reads how long a receiver wants to be left alone; 0 when it does not say.
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := strings.TrimSpace(h.Get("Retry-After"))
	if text == "" {
		return 0
	}
	if seconds, err := strconv.ParseUint(text, 10, 32); err == nil {
		return min(time.Duration(seconds)*time.Second, longestRetryAfter)
	}
	if at, err := http.ParseTime(text); err == nil && at.After(now) {
		return min(at.Sub(now), longestRetryAfter)
	}
	return 0
}
