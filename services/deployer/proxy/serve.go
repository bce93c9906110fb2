package proxy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httputil"
	"sync/atomic"
	"time"
)

// exchange is one request on its way; it is counted once, and its error at most once.
type exchange struct {
	target
	feature  int
	start    time.Time
	answered atomic.Bool
	erred    atomic.Bool
	injected atomic.Bool
	broken   atomic.Bool // the client's body broke off
}

type exchangeKey struct{}

func exchangeOf(ctx context.Context) *exchange {
	return ctx.Value(exchangeKey{}).(*exchange)
}

func (f *Front) serve(w http.ResponseWriter, r *http.Request) {
	user, cookie := identify(r)
	to, ok := f.enter(user)
	if !ok {
		http.Error(w, "no version of this service is deployed", http.StatusServiceUnavailable)
		return
	}
	defer f.leave(to.version) // also when ReverseProxy aborts by a panic
	if cookie != nil {
		http.SetCookie(w, cookie)
	}
	// Without it the server would swallow the rest of a request's body at the first byte of the answer.
	_ = http.NewResponseController(w).EnableFullDuplex()
	x := &exchange{target: to, feature: featureOf(f.features, r.URL.Path), start: time.Now()}
	r = r.WithContext(context.WithValue(r.Context(), exchangeKey{}, x))
	if r.Body != http.NoBody {
		r.Body = &upload{r.Body, x}
	}
	f.proxy.ServeHTTP(w, r)
}

func (f *Front) rewrite(p *httputil.ProxyRequest) {
	p.SetURL(exchangeOf(p.In.Context()).url)
	p.Out.Host = p.In.Host // SetURL would put the upstream's
	p.SetXForwarded()
}

// answered counts a response when its headers have arrived.
func answered(response *http.Response) error {
	x := exchangeOf(response.Request.Context())
	x.count(response.StatusCode >= 500)
	if response.StatusCode != http.StatusSwitchingProtocols { // an upgraded connection's body must stay a writer
		response.Body = &watched{response.Body, response.Request.Context(), x}
	}
	return nil
}

// failed answers for an upstream that could not.
func (f *Front) failed(w http.ResponseWriter, r *http.Request, err error) {
	x := exchangeOf(r.Context())
	left := errors.Is(r.Context().Err(), context.Canceled)
	left = left || x.broken.Load()
	x.count(!left || time.Since(x.start) >= f.config.Patience)
	if left {
		return // nobody is there to answer
	}
	f.config.Log("request failed", "environment", f.config.Environment, "service", f.config.Service,
		"version", x.version.name, "path", r.URL.Path, "error", err.Error())
	status := http.StatusBadGateway
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && timeout.Timeout() {
		status = http.StatusGatewayTimeout
	}
	http.Error(w, "the service did not answer", status)
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
	x.version.count(x.feature, isError, x.injected.Load(), time.Since(x.start))
}

// fail turns a request that was counted as good into an error.
func (x *exchange) fail() {
	if !x.erred.Swap(true) {
		x.version.fail(x.feature)
	}
}

// upload sees a request's body that breaks off: the client's fault, which must not be able to roll a version back.
type upload struct {
	io.ReadCloser
	x *exchange
}

func (b *upload) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF && !errors.Is(err, http.ErrBodyReadAfterClose) {
		b.x.broken.Store(true)
	}
	return n, err
}

// watched sees a body that breaks off.
type watched struct {
	io.ReadCloser
	ctx context.Context
	x   *exchange
}

func (b *watched) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF && b.ctx.Err() == nil && !b.x.broken.Load() {
		b.x.fail()
	}
	return n, err
}
