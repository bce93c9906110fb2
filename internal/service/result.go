package service

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
)

// resulter puts results of one source (an effect, a timer, a duty) on the stream.
type resulter struct {
	host   Host
	phase  events.Phase
	source string
}

// outcome is a result with what ties it to the stream.
type outcome struct {
	Report
	project string
	id      string // stable: the same result again has the same id
	chain   string // begins with this result when empty
	cause   string
	attempt uint64
}

// publish returns the sequence at which the result stands.
func (r resulter) publish(ctx context.Context, o outcome) (uint64, error) {
	typ := events.TypeOf(o.Content)
	if typ == "" {
		return 0, events.Reject(fmt.Errorf("%T is no content type", o.Content))
	}
	e := events.Event{
		ID: o.id, Source: "/lemnis/" + string(r.phase) + "/" + r.source, Type: typ, Time: r.host.Clock.Now(),
		Project: o.project, Phase: cmp.Or(o.Phase, r.phase), Key: o.Key, Cause: o.cause, Chain: o.chain, Attempt: o.attempt,
		SubjectID: o.SubjectID, Content: o.Content,
	}
	if e.Chain == "" {
		e.Chain = o.id
	}
	e.TraceParent = events.TraceContext(e.Project, e.Chain, e.ID)
	if e.SubjectID == "" {
		e.SubjectID = o.Key
	}
	if o.cause != "" {
		e.Links = []events.Link{{Type: events.Path, Context: o.cause}}
	}
	msg, err := events.Encode(e)
	if err != nil {
		return 0, events.Reject(err)
	}
	msg.Subject = e.Subject(events.Result)
	msg.Header[headerMsgID] = []string{resultMsgID(e.ID)}
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	began := time.Now()
	ack, err := r.host.JS.PublishMsg(ctx, msg)
	if r.host.Noted(err) != nil {
		r.host.metrics.notPublished()
		err = fmt.Errorf("publish result %s: %w", typ.Short(), err)
		if tooLarge(err) { // at each attempt again
			err = events.Reject(err)
		}
		return 0, err
	}
	if !ack.Duplicate {
		r.host.Trace.Result(e, ack.Sequence, began)
	}
	return ack.Sequence, nil
}

func resultMsgID(id string) string { return "r/" + id }

func formatUint(n uint64) string { return strconv.FormatUint(n, 10) }
