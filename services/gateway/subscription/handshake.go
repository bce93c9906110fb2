package subscription

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// defaultRate is how many deliveries a minute are asked for.
const defaultRate = 6000

// grant is a sink's answer to the question whether it wants events.
type grant struct {
	ok     bool
	answer bool   // it did answer, and said no
	reason string // why not
	rate   int    // deliveries a minute that it allows; 0: as many as come
}

// ask is the validation of the CloudEvents HTTP webhook rules: an OPTIONS request that names who wants to send, and how
// much. Whoever did not agree gets no events, so that a subscription can not be aimed at somebody who knows nothing of it.
func ask(ctx context.Context, c *clients, timeout time.Duration, sink, origin string, rate int, headers map[string]string) grant {
	if rate == 0 {
		rate = defaultRate
	}
	h := http.Header{"User-Agent": {userAgent}}
	for name, value := range headers {
		h.Set(name, value)
	}
	h.Set("WebHook-Request-Origin", origin)
	h.Set("WebHook-Request-Rate", strconv.Itoa(rate))
	status, answer, err := c.do(ctx, timeout, http.MethodOptions, sink, h, nil)
	switch {
	case err != nil:
		return grant{reason: "the sink can not be asked: " + oneLine(err.Error())}
	case status >= 500 || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout:
		return grant{reason: fmt.Sprintf("the sink can not be asked: it answered %d %s", status, http.StatusText(status))}
	case status < 200 || status >= 300:
		return grant{answer: true, reason: fmt.Sprintf("the sink does not agree to events: it answered OPTIONS with %d %s", status, http.StatusText(status))}
	}
	switch by := answer.Get("WebHook-Allowed-Origin"); {
	case by == "":
		return grant{answer: true, reason: "the sink does not agree to events: its answer to OPTIONS has no WebHook-Allowed-Origin"}
	case by != "*" && !strings.EqualFold(by, origin):
		return grant{answer: true, reason: fmt.Sprintf("the sink agrees to events of %q only, not of %q", clip(by), origin)}
	}
	g := grant{ok: true}
	switch most := strings.TrimSpace(answer.Get("WebHook-Allowed-Rate")); most {
	case "*", "":
	default:
		if g.rate, err = strconv.Atoi(most); err != nil || g.rate < 1 {
			return grant{answer: true, reason: fmt.Sprintf("the sink's WebHook-Allowed-Rate %q is no number", clip(most))}
		}
	}
	return g
}
