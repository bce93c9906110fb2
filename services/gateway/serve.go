package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"go.uber.org/zap"
)

const drainTimeout = 5 * time.Second

// Serve answers requests from the listener until ctx ends, then lets those under way finish. It refuses an address that
// other machines can reach where nobody is authenticated.
func (g *Gateway) Serve(ctx context.Context, listener net.Listener) error {
	if !g.authenticated {
		if err := CheckAddress(listener.Addr().String()); err != nil {
			return err
		}
	}
	defer context.AfterFunc(ctx, g.live.close)() // or the listeners would be waited for
	return Serve(ctx, listener, g.Handler(), g.log)
}

// Serve answers requests with a handler, from the listener, until ctx ends, then lets those under way finish. A client that
// does not send, or does not read, what it is waited for holds nothing for long.
func Serve(ctx context.Context, listener net.Listener, handler http.Handler, log *zap.Logger) error {
	server := &http.Server{
		Handler: patient(handler), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: zap.NewStdLog(log),
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
		defer cancel()
		if server.Shutdown(drain) != nil {
			_ = server.Close()
		}
	})
	err := server.Serve(listener)
	if !stop() {
		<-stopped
	}
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}
