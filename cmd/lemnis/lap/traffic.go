package lap

import (
	"context"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// traffic is what the users of the service do: a steady number of requests a second, whatever becomes of them.
type traffic struct {
	visit     func(ctx context.Context, n uint64, base string) (*http.Request, error)
	perSecond int
	client    *http.Client

	requests, failed atomic.Int64
	stop             context.CancelFunc
	done             sync.WaitGroup
}

// visitors is how many users ask at once; a slow service gets fewer requests, not a crowd.
const visitors = 32

func newTraffic(s Subject, perSecond int) *traffic {
	return &traffic{visit: s.Visit, perSecond: perSecond, client: &http.Client{
		Timeout:       10 * time.Second,
		Transport:     &http.Transport{MaxIdleConnsPerHost: visitors},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// begin sends requests to base until end.
func (t *traffic) begin(ctx context.Context, base string) {
	ctx, t.stop = context.WithCancel(ctx)
	next := make(chan uint64)
	t.done.Go(func() {
		defer close(next)
		tick := time.NewTicker(time.Second / time.Duration(t.perSecond))
		defer tick.Stop()
		for n := uint64(0); ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			select {
			case <-ctx.Done():
				return
			case next <- n:
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
