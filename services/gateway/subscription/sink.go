package subscription

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/lemnis/lemnis/internal/excerpt"
)

// verdict is what became of one try.
type verdict int

const (
	delivered verdict = iota
	again             // it may succeed later
	refused           // this event never will
	gone              // the receiver wants no more events
)

// outcome is a verdict and what is to be known of it.
type outcome struct {
	verdict verdict
	reason  string
	after   time.Duration // at the earliest
	whole   bool          // the receiver wants to be left alone altogether, not only with this event
}

// judge reads the answer to a delivery.
func judge(h heard, now time.Time) outcome {
	status, err := h.status, h.err
	if err != nil {
		return outcome{verdict: again, reason: oneLine(err.Error())}
	}
	o := outcome{reason: fmt.Sprintf("the sink answered %d %s", status, http.StatusText(status))}
	switch {
	case status >= 200 && status < 300:
		return outcome{verdict: delivered}
	case status == http.StatusGone:
		o.verdict = gone
	case status >= 300 && status < 400:
		o.verdict, o.reason = again, fmt.Sprintf("the sink answered %d: redirects are not followed; change the sink to where it is now", status)
	case status == http.StatusBadRequest, status == http.StatusRequestEntityTooLarge, status == http.StatusUnsupportedMediaType,
		status == http.StatusUnprocessableEntity:
		o.verdict = refused
	default:
		o.verdict, o.after = again, retryAfter(h.header, now)
		o.whole = o.after > 0 || status == http.StatusTooManyRequests
	}
	return o
}

func oneLine(s string) string {
	return excerpt.Of(strings.Join(strings.Fields(s), " "), 300)
}
