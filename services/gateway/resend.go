package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/gateway/access"
	"github.com/lemnis/lemnis/services/gateway/subscription"
)

// headerLetter of a claim is the dead letter that it was before, by its sequence.
const headerLetter = "Lemnis-Letter"

const inboxOf = "inbox-" // stands before a principal in where its dead letters are from

// resendAnswer says what became of a dead letter that was to be sent again.
type resendAnswer struct {
	Letter   uint64 `json:"letter"`
	ID       string `json:"id"`                // of the claim that sends it again
	Sequence uint64 `json:"sequence"`          // of that claim
	Already  bool   `json:"already,omitempty"` // it was sent again before
}

// resend answers POST /api/v1/deadletters/{sequence}/resend. Each dead letter is sent again once, whoever asks, however
// often; ?again=NAME sends it another time, once for each name.
func (g *Gateway) resend(w http.ResponseWriter, r *http.Request) {
	m, err := g.letter(r.Context(), r.PathValue("sequence"))
	var answer resendAnswer
	if err == nil {
		ctx, cancel := context.WithTimeout(r.Context(), 3*publishTimeout)
		defer cancel()
		answer, err = g.resendLetter(ctx, m, r.URL.Query().Get("again"))
	}
	if err != nil {
		g.fail(w, r, err)
		return
	}
	g.write(w, http.StatusOK, "application/json", answer)
}

// resendLetter sends a dead letter again on the way that it came: what a phase gave up, to the phase's owner; what an inbox
// did not take, through the same checks, with the rights that its principal has now; what a subscription did not deliver,
// to that subscription. Who asked for it is on the stream before.
func (g *Gateway) resendLetter(ctx context.Context, m *jetstream.RawStreamMsg, again string) (resendAnswer, error) {
	a := letterOf(m.Sequence, m.Time, m.Subject, m.Header)
	by := access.From(ctx).Principal
	content := events.DeadLetterResent{
		Letter: a.Sequence, Where: a.Where, Origin: a.Origin, Event: a.ID, EventType: events.Type(a.Type), Principal: a.Principal,
		Aggregate: a.Aggregate, Tries: a.Tries, By: by,
	}
	e := events.New(noProject, strconv.FormatUint(a.Sequence, 10), content)
	e.ID = fmt.Sprintf("deadletter/%d/%d", a.Sequence, m.Time.UnixNano())
	if again != "" {
		if len(again) > longestID/2 {
			return resendAnswer{}, refuse(http.StatusBadRequest, "again has %d bytes; %d at most", len(again), longestID/2)
		}
		e.ID += "/" + again
	}
	e.Phase = events.Plan
	follow := func(context.Context, receipt) error { return nil }
	var err error
	switch principal, submitted := strings.CutPrefix(a.Where, inboxOf); {
	case submitted:
		follow, err = g.submitAgain(ctx, principal, m)
	case a.Where == subscription.DeadLetters:
		follow = func(ctx context.Context, done receipt) error {
			id := strings.TrimPrefix(a.Aggregate, subscription.LetterPrefix)
			err := g.subscriptions.Resend(ctx, id, done.Sequence, a.Origin)
			if errors.Is(err, subscription.ErrNotFound) {
				return refuse(http.StatusConflict, "there is no subscription %s any more", quote(id))
			}
			return err
		}
	default:
		e.Project, e.Phase = a.Project, events.Phase(a.Where)
		err = resendable(a, m)
	}
	if err != nil {
		return resendAnswer{}, err
	}
	done, err := g.say(ctx, by, e)
	if err != nil {
		return resendAnswer{}, err
	}
	// Also when it was said before: whoever said it may not have come further. What follows is done once by itself.
	if err := follow(ctx, done); err != nil {
		return resendAnswer{}, err
	}
	return resendAnswer{Letter: a.Sequence, ID: e.ID, Sequence: done.Sequence, Already: done.Duplicate}, nil
}

// resendable says why a phase could do nothing else with its dead letter than before.
func resendable(a deadLetterAnswer, m *jetstream.RawStreamMsg) error {
	if !events.Phase(a.Where).Valid() || a.Project == "" || a.Origin == 0 {
		return refuse(http.StatusConflict, "dead letter %d of %s can not be sent again: it is of no phase and project", a.Sequence, quote(a.Where))
	}
	if _, err := events.Decode(m.Header, m.Data); err != nil {
		return refuse(http.StatusConflict, "dead letter %d can not be sent again: it can not be read: %v", a.Sequence, err)
	}
	return nil
}

// submitAgain admits what an inbox has refused, as if its principal submitted it now. Nothing is published before the
// returned function is called.
func (g *Gateway) submitAgain(ctx context.Context, principal string, m *jetstream.RawStreamMsg) (func(context.Context, receipt) error, error) {
	who, err := g.principal(principal)
	if err != nil {
		return nil, err
	}
	if len(m.Data) == 0 && len(m.Header[service.HeaderReason]) > 0 {
		return nil, refuse(http.StatusConflict, "dead letter %d can not be sent again: its body was not kept", m.Sequence)
	}
	header := map[string][]string{}
	for name, values := range m.Header {
		if !strings.HasPrefix(strings.ToLower(name), "lemnis-") {
			header[name] = values
		}
	}
	ctx = access.With(ctx, who)
	e, body, err := g.readSubmitted(ctx, header, m.Data)
	if err != nil {
		return nil, err
	}
	c, err := g.door.admit(ctx, principal, e, body)
	if err != nil {
		return nil, err
	}
	c.message.Header[headerLetter] = []string{strconv.FormatUint(m.Sequence, 10)}
	return func(ctx context.Context, _ receipt) error {
		_, err := g.put(ctx, c)
		return err
	}, nil
}

// principal is somebody who submits over NATS, with the rights of now.
func (g *Gateway) principal(name string) (access.Identity, error) {
	if !g.authenticated {
		if everybody := access.Everybody(); everybody.Principal == name {
			return everybody, nil
		}
	} else if g.principals != nil {
		all, err := g.principals()
		if err != nil {
			return access.Identity{}, fmt.Errorf("%w: %w", errAway, err)
		}
		for _, who := range all {
			if who.Principal == name {
				return who, nil
			}
		}
	}
	return access.Identity{}, refuse(http.StatusConflict, "the principal %s is not known any more", quote(name))
}
