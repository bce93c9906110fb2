package lap

import (
	"context"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// traffic is what the users of the service do: a number of requests a second, whatever becomes of them.
type traffic struct {
	visit     func(ctx context.Context, n uint64, base string) (*http.Request, error)
	perSecond atomic.Int64
	client    *http.Client

	requests, failed atomic.Int64
	stop             context.CancelFunc
	done             sync.WaitGroup
}

const (
	// visitors is how many users ask at once; a slow service gets fewer requests, not a crowd.
	visitors = 32
	// pulse is how often it is looked what is due.
	pulse = 5 * time.Millisecond
)

func newTraffic(s Subject) *traffic {
	return &traffic{visit: s.Visit, client: &http.Client{
		Timeout:       10 * time.Second,
		Transport:     &http.Transport{MaxIdleConnsPerHost: visitors},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// rate sets how many requests a second are sent.
func (t *traffic) rate(perSecond int) { t.perSecond.Store(int64(perSecond)) }

// begin sends requests to base until end.
func (t *traffic) begin(ctx context.Context, base string) {
	ctx, t.stop = context.WithCancel(ctx)
	next := make(chan uint64)
	t.done.Go(func() {
		defer close(next)
		tick := time.NewTicker(pulse)
		defer tick.Stop()
		last, due, n := time.Now(), 0.0, uint64(0)
		for {
			select {
			case <-ctx.Done():
				return
			case now := <-tick.C:
				due = min(due+now.Sub(last).Seconds()*float64(t.perSecond.Load()), visitors)
				last = now
			}
			for ; due >= 1; due-- {
				select {
				case <-ctx.Done():
					return
				case next <- n:
					n++
				}
			}
		}
	})
	for range visitors {
		t.done.Go(func() {
			for n := range next {
				t.one(ctx, n, base)
			}
		})
	}
}

func (t *traffic) one(ctx context.Context, n uint64, base string) {
	request, err := t.visit(ctx, n, base)
	if err != nil {
		return
	}
	response, err := t.client.Do(request)
	if ctx.Err() != nil {
		return
	}
	t.requests.Add(1)
	if err != nil {
		t.failed.Add(1)
		return
	}
	_, _ = io.Copy(io.Discard, response.Body) // so that the connection is used again
	_ = response.Body.Close()
	if response.StatusCode >= 500 {
		t.failed.Add(1)
	}
}

// end stops, and waits for what is under way. It may be called when nothing has begun.
func (t *traffic) end() {
	if t.stop != nil {
		t.stop()
	}
	t.done.Wait()
	t.client.CloseIdleConnections()
}
