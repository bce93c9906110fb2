package events

import (
	"errors"
	"time"
)

// A handler's error is its verdict: nil means done; a plain error is tried again later, with
// backoff; the errors of Retry and Reject say when, or never.

type retryError struct {
	after time.Duration
	err   error
}

func (e *retryError) Error() string { return e.err.Error() }
func (e *retryError) Unwrap() error { return e.err }

type rejectError struct{ err error }

func (e *rejectError) Error() string { return e.err.Error() }
func (e *rejectError) Unwrap() error { return e.err }

// Retry is the verdict "try again after this time".
func Retry(after time.Duration, err error) error { return &retryError{after, err} }

// Reject is the verdict "never": the event goes to the dead letter with the reason.
func Reject(err error) error { return &rejectError{err} }

// RetryAfter tells the time that [Retry] asked for.
func RetryAfter(err error) (time.Duration, bool) {
	var r *retryError
	if errors.As(err, &r) {
		return r.after, true
	}
	return 0, false
}

// Rejected reports whether [Reject] was the verdict.
func Rejected(err error) bool {
	var r *rejectError
	return errors.As(err, &r)
}
