package proxy

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"
)

// exchange is one request on its way; it is counted once, and its error at most once.
type exchange struct {
	target
	feature  int // its slot
	start    time.Time
	headed   time.Duration // when the head of the answer came, since the start; zero: now, when it is counted
	answered atomic.Bool
	erred    atomic.Bool
	injected atomic.Bool
	broken   atomic.Bool // the client's body broke off
	stalled  atomic.Bool // and because the client did not send it
}

func (f *Front) serve(w http.ResponseWriter, r *http.Request) {
	if h := handedOf(r); h != nil && r.ProtoMajor == 1 && h.twofold(r) {
		w.Header().Set("Connection", "close") // what comes behind it may be no request
	}
	b := begunBefore(r)
	if b == nil {
		if r.Method == http.MethodConnect {
			w.Header().Set("Connection", "close")
			http.Error(w, "no tunnels are opened here", http.StatusNotImplemented)
			return
		}
		user, cookie := identify(r)
		to, ok := f.enter(user)
		if !ok {
			http.Error(w, "no version of this service is deployed", http.StatusServiceUnavailable)
			return
		}
		b = &begun{x: &exchange{target: to, feature: featureOf(*f.features.Load(), r.URL.Path), start: time.Now()}, cookie: cookie}
	}
	x := b.x
	defer f.leave(x.version)
	if b.cookie != "" {
		w.Header().Set("Set-Cookie", b.cookie)
	}
	// Without it the server would swallow the rest of a request's body at the first byte of the answer.
	_ = http.NewResponseController(w).EnableFullDuplex()
	if r.ContentLength == 0 {
		r.Body = http.NoBody // HTTP/2 has a reader even so
	}
	if b.c == nil && b.err == nil && f.faults.hit(x.version.name) {
		x.injected.Store(true)
		x.count(true)
		w.Header().Set(FaultHeader, "injected")
		http.Error(w, "a fault was injected on purpose", http.StatusServiceUnavailable)
		return
	}
	err := f.forward(w, r, x, b)
	if err == nil {
		return
	}
	broken, is := errors.AsType[*brokenError](err)
	if !is {
		f.failed(w, r, x, err)
		return
	}
	if !errors.Is(broken, errClient) && r.Context().Err() == nil && !x.broken.Load() {
		x.fail()
	}
	panic(http.ErrAbortHandler) // or the client would take what it got for all
}

// failed answers for an upstream that could not.
func (f *Front) failed(w http.ResponseWriter, r *http.Request, x *exchange, err error) {
	left := errors.Is(r.Context().Err(), context.Canceled)
	left = left || x.broken.Load()
	stalled := x.stalled.Load()
	x.count(!left || time.Since(x.start) >= f.config.Patience && !stalled)
	if left && !stalled {
		panic(http.ErrAbortHandler) // nobody is there to answer; and who still is must not be told that all is well
	}
	status, text := http.StatusBadGateway, "the service did not answer"
	var timeout interface{ Timeout() bool }
	switch {
	case stalled:
		status, text = http.StatusRequestTimeout, "the rest of the request did not come"
	case errors.As(err, &timeout) && timeout.Timeout():
		status = http.StatusGatewayTimeout
	}
	if !stalled {
		f.logFailed(x, r.URL.Path, err)
	}
	if r.ProtoMajor == 1 && r.Body != http.NoBody {
		w.Header().Set("Connection", "close") // what is left of the body must not be taken for another request
	}
	http.Error(w, text, status)
}

func (f *Front) logFailed(x *exchange, path string, err error) {
	f.config.Log("request failed", "environment", f.config.Environment, "service", f.config.Service,
		"version", x.version.name, "path", path, "error", err.Error())
}

func (x *exchange) count(isError bool) {
	if x.answered.Swap(true) {
		if isError {
			x.fail() // a request that was counted when it was answered, and then broke
		}
		return
	}
	if isError {
		x.erred.Store(true)
	}
	if x.headed == 0 {
		x.headed = time.Since(x.start)
	}
	x.version.count(x.feature, isError, x.injected.Load(), x.headed)
}

// fail turns a request that was counted as good into an error.
func (x *exchange) fail() {
	if !x.erred.Swap(true) {
		x.version.fail(x.feature)
	}
}
