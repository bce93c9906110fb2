package forge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/lemnis/lemnis/internal/outward"
	"github.com/lemnis/lemnis/pkg/events"
)

const (
	patience = 10 * time.Second // of one request
	hops     = 3                // redirects within a host
	longest  = time.Hour        // that a forge may ask to be left alone
	heard    = 16 << 10         // bytes of an answer that are read
)

// Refusal is a forge's no, or what makes it useless to ask: the same request again would not help.
type Refusal struct {
	Reason string
	Token  bool // it is the token's fault: with another one the same request may be taken
	Status int  // of the answer; 0: it was not asked
}

func (r *Refusal) Error() string { return r.Reason }

// Busy is a forge that wants to be left alone for a time.
type Busy struct {
	After  time.Duration
	Reason string
}

func (b *Busy) Error() string { return b.Reason }

// Unreadable is an answer that is not what the forge documents, or breaks off: it is there, and to leave it alone would not help.
type Unreadable struct{ Reason string }

func (u *Unreadable) Error() string { return u.Reason }

// Client speaks to forges.
type Client struct{ http *http.Client }

// NewClient is one for the addresses that are open.
func NewClient(open outward.Allowed) *Client {
	return &Client{http: &http.Client{
		Timeout:   patience,
		Transport: outward.Transport(open),
		// A repository that was renamed is elsewhere on its host. A token is told to no other, and what is told is not made a question.
		CheckRedirect: func(to *http.Request, via []*http.Request) error {
			from := via[0].URL
			if to.Method != via[0].Method || to.URL.Scheme != from.Scheme || to.URL.Host != from.Host || len(via) > hops {
				return http.ErrUseLastResponse
			}
			return nil
		},
	}}
}

// Tell sets the status of a commit. The error is a [Refusal] where it is of no use to try again, a [Busy] where the forge says when to, and
// another where it may help at any time. None of them holds the token.
func (c *Client) Tell(ctx context.Context, p Place, token string, s Status) error {
	r, err := p.request(token, s)
	if err != nil {
		return refusal(err)
	}
	response, err := c.do(ctx, p, r)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	return p.judge(response, token, telling)
}

// do sends a request. Its error is no answer.
func (c *Client) do(ctx context.Context, p Place, r *http.Request) (*http.Response, error) {
	response, err := c.http.Do(r.WithContext(ctx))
	if err == nil {
		return response, nil
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	if errors.Is(err, outward.ErrClosed) {
		return nil, &Refusal{Reason: fmt.Sprintf("%s: %v", p.Host(), err)}
	}
	return nil, fmt.Errorf("%s can not be reached: %w", p.Host(), err)
}

// refusal is an error of a request that can not be made.
func refusal(err error) error {
	var no *Refusal
	if errors.As(err, &no) {
		return no
	}
	return &Refusal{Reason: err.Error()}
}

// asked is what a forge was asked for, and what a no to it may mean.
type asked struct{ what, forbidden, missing string }

var telling = asked{"the status of a commit", "the token may not set the status of commits there", "the token does not see the repository, or there is no such commit"}

// judge says what an answer means.
func (p Place) judge(response *http.Response, token string, a asked) error {
	status := response.StatusCode
	if status < 300 {
		return nil
	}
	body, _ := io.ReadAll(io.LimitReader(response.Body, heard)) // of one that breaks off the status counts
	words := said(body, token)
	reason := fmt.Sprintf("%s answers %d to %s of %s", p.Host(), status, a.what, p.path)
	if words != "" {
		reason += ": " + words
	}
	after, limited := pause(response.Header, time.Now())
	switch {
	case status < 400:
		to := "nowhere"
		if u, err := response.Location(); err == nil {
			to = u.Host
		}
		return &Refusal{Reason: fmt.Sprintf("%s sends %s of %s on to %s (%d), which is not followed; mend the address", p.Host(), a.what, p.path, to, status), Status: status}
	case status == http.StatusTooManyRequests, status == http.StatusForbidden && (limited || scolds(words)):
		if after == 0 && p.kind == events.ForgeGitHub {
			after = scolded
		}
		return &Busy{After: max(after, time.Second), Reason: reason}
	case status >= 500 || status == http.StatusRequestTimeout:
		if after > 0 {
			return &Busy{After: after, Reason: reason}
		}
		return errors.New(reason)
	case p.kind == events.ForgeGitLab && status == http.StatusBadRequest && strings.Contains(words, "Cannot transition status"):
		return nil // it is so already
	case status == http.StatusUnauthorized:
		return &Refusal{Reason: reason + "; the token is none, or is no more", Token: true, Status: status}
	case status == http.StatusForbidden:
		return &Refusal{Reason: reason + "; " + a.forbidden, Status: status}
	case status == http.StatusNotFound:
		return &Refusal{Reason: reason + "; " + a.missing, Status: status}
	}
	return &Refusal{Reason: reason, Status: status}
}

// scolded is how long GitHub wants to be left alone, at least, where it does not say.
const scolded = time.Minute

// scolds says that a 403 is no matter of rights: GitHub's secondary rate limits may come without a header that says so.
func scolds(words string) bool {
	return strings.Contains(words, "secondary rate limit") || strings.Contains(words, "abuse detection")
}

// pause is how long a forge wants to be left alone, by its headers, and whether it is for having been asked too often.
func pause(h http.Header, now time.Time) (after time.Duration, limited bool) {
	if text := h.Get("Retry-After"); text != "" {
		if n, err := strconv.Atoi(text); err == nil {
			after, limited = time.Duration(min(max(n, 0), int(longest/time.Second)))*time.Second, true
		} else if at, err := http.ParseTime(text); err == nil {
			after, limited = at.Sub(now), true
		}
	}
	for _, who := range []string{"X-Ratelimit-", "Ratelimit-"} {
		if h.Get(who+"Remaining") != "0" {
			continue
		}
		limited = true
		if at, err := strconv.ParseInt(h.Get(who+"Reset"), 10, 64); err == nil && after <= 0 {
			after = time.Unix(at, 0).Sub(now)
		}
	}
	return min(max(after, 0), longest), limited
}

// said is what a forge says is wrong: its message, or nothing.
func said(body []byte, token string) string {
	var answer struct {
		Message json.RawMessage `json:"message"` // GitLab's may be an object
		Error   string          `json:"error"`
	}
	if json.Unmarshal(body, &answer) != nil {
		return ""
	}
	text := answer.Error
	if len(answer.Message) > 0 {
		var message string
		if json.Unmarshal(answer.Message, &message) != nil {
			message = string(answer.Message)
		}
		text = message
	}
	return bounded(strings.ReplaceAll(text, token, "***"), 300)
}
