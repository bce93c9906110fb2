package service

import (
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// Front answers HTTP for a process from its start on. Until Open gives it the handler of what has started, /healthz says that
// the process lives, and all else is answered with 503 and what is missing, a line each.
type Front struct {
	open atomic.Pointer[http.Handler]

	mu      sync.Mutex
	missing func() []string
}

// startsIn is how soon somebody who found a process starting may come again, in seconds.
const startsIn = 1

// Waits says what the process waits for; missing is asked whenever somebody asks.
func (f *Front) Waits(missing func() []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.missing = missing
}

// Open hands all requests to h from now on.
func (f *Front) Open(h http.Handler) { f.open.Store(&h) }

// ServeHTTP implements http.Handler.
func (f *Front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h := f.open.Load(); h != nil {
		(*h).ServeHTTP(w, r)
		return
	}
	SayVersion(w)
	if r.URL.Path == "/healthz" {
		_, _ = w.Write([]byte("ok\n"))
		return
	}
	f.mu.Lock()
	missing := f.missing
	f.mu.Unlock()
	lines := []string{"it is starting"}
	if missing != nil {
		if now := missing(); len(now) > 0 {
			lines = now
		}
	}
	w.Header().Set("Retry-After", strconv.Itoa(startsIn))
	http.Error(w, strings.Join(lines, "\n"), http.StatusServiceUnavailable)
}
