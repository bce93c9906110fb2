package gateway

import (
	"net/http"
	"strings"

	"go.uber.org/zap"

	"github.com/lemnis/lemnis/internal/service"
)

func (g *Gateway) logRequest(r *http.Request, err error) {
	if r.Context().Err() == nil { // else the client went away
		g.log.Error("request failed", zap.String("method", r.Method), zap.String("path", r.URL.Path), zap.Error(err))
	}
}

// healthz answers that the process lives.
func (g *Gateway) healthz(w http.ResponseWriter, _ *http.Request) {
	service.SayVersion(w)
	_, _ = w.Write([]byte("ok\n"))
}

// Ready reports what is still missing before everything that was on the stream at the start can be asked for; empty
// when nothing is.
func (g *Gateway) Ready() string {
	for _, part := range []struct {
		name string
		done <-chan struct{}
	}{{"live events", g.live.begun}, {"overview", g.overview.ready}, {"index", g.index.ready}} {
		select {
		case <-part.done:
		default:
			return part.name
		}
	}
	if g.index.lag.tooFar() {
		return "index, which is too far behind the stream to take claims"
	}
	return ""
}

// readyz answers whether the read models have reached the end that the stream had at the start, and whether the
// bus, the store and room on the stream are there now.
func (g *Gateway) readyz(w http.ResponseWriter, r *http.Request) {
	if missing := g.host.Missing(r.Context()); len(missing) > 0 {
		g.fail(w, r, refuse(http.StatusServiceUnavailable, "not ready: %s", strings.Join(missing, "; ")))
		return
	}
	if missing := g.Ready(); missing != "" {
		g.fail(w, r, refuse(http.StatusServiceUnavailable, "not ready: %s", missing))
		return
	}
	_, _ = w.Write([]byte("ready\n"))
}
