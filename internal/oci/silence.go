package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// ErrSilent says that the registry took the question and then said nothing for too long.
var ErrSilent = errors.New("the registry says nothing")

// defaultSilence is far longer than a registry takes that is well.
const defaultSilence = 15 * time.Second

// impatient is a transport that gives up where nothing comes: no head of the answer, or no more of its body, for as long as
// silence lasts. How long all of it may take is up to the caller's context.
type impatient struct {
	base    http.RoundTripper
	silence time.Duration
}

func (t impatient) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(r.Context())
	w := &watched{ctx: ctx, cancel: cancel, silence: t.silence, silent: fmt.Errorf("%w: nothing from %s for %s", ErrSilent, r.URL.Host, t.silence)}
	w.timer = time.AfterFunc(t.silence, func() { cancel(w.silent) })
	response, err := t.base.RoundTrip(r.WithContext(ctx))
	w.timer.Stop()
	if err != nil {
		err = w.why(err)
		cancel(nil)
		return nil, err
	}
	w.body, response.Body = response.Body, w
	return response, nil
}

// watched is the body of an answer. Its timer runs while it is read: who reads may take their time in between.
type watched struct {
	body    io.ReadCloser
	ctx     context.Context
	cancel  context.CancelCauseFunc
	timer   *time.Timer
	silence time.Duration
	silent  error
}

func (w *watched) Read(p []byte) (int, error) {
	w.timer.Reset(w.silence)
	n, err := w.body.Read(p)
	w.timer.Stop()
	return n, w.why(err)
}

func (w *watched) Close() error {
	w.cancel(nil)
	return w.body.Close()
}

// why tells silence from what the transport makes of it: a context that was cancelled.
func (w *watched) why(err error) error {
	if err != nil && !errors.Is(err, io.EOF) && errors.Is(context.Cause(w.ctx), ErrSilent) {
		return w.silent
	}
	return err
}
