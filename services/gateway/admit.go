package gateway

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/nats-io/nats.go"

	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/pkg/events/schema"
)

// Most bytes of what identifies an event. A key becomes part of a subject, which the bus reads as one line of 4 KiB.
const (
	longestID     = 256
	longestSource = 1024
	longestKey    = 512
	longestToken  = 1024 // the key as a subject's token
	longestChain  = 256
)

// door is what admitting an event needs to know beside the event.
type door struct {
	project func(ctx context.Context, name string) (events.Project, error)
	// seal hides who gives feedback and what they say: the pseudonym, and the text under a key of the user's.
	seal func(ctx context.Context, project, user string, text []byte) (pseudonym, keyID string, ciphertext []byte, err error)
	// inDeploy reports whether a test case run was claimed in the deploy phase.
	inDeploy func(ctx context.Context, project, testCaseRun string) (bool, error)
	// may judges a claim by whoever the context says makes it.
	may func(ctx context.Context, e events.Event) error
}

// claim is an event that may go on the stream.
type claim struct {
	event   events.Event
	message *nats.Msg
	id      string // the message id, by which the stream knows it again
	outside string // the traceparent with which it came
	derived bool   // source and id are the gateway's making, of what came: the same is the same, whatever is made of it today
}

// admit checks an event from outside, takes from it what an outsider may not say, and gives it what a claim has. The
// error is a *refusal, or says that something is away.
func (d door) admit(ctx context.Context, principal string, e events.Event, body []byte) (claim, error) {
	entry, err := judge(e, body)
	if err != nil {
		return claim{}, err
	}
	if err := checkProject(e.Project); err != nil {
		return claim{}, err
	}
	said := e.Phase
	e.Kind, e.Sequence, e.Aggregate, e.Cause = "", 0, "", ""
	e.CauseSequence, e.ConfigRevision, e.Attempt = 0, 0, 0
	e.Deadline = time.Time{}
	e.Principal, e.Key, e.Phase = principal, e.SubjectID, entry.Phase
	if e.Phase, err = d.phase(ctx, e, said); err != nil {
		return claim{}, err
	}
	if e.Chain, err = events.StatedChain(body); err != nil { // the envelope's word on the chain does not count
		return claim{}, badEvent(err)
	}
	if e.Chain == "" {
		e.Chain = e.ID
	}
	if err := checkNames(e); err != nil {
		return claim{}, err
	}
	outside := e.TraceParent
	e.TraceParent = events.TraceContext(e.Project, e.Chain, e.ID)
	if err := d.may(ctx, e); err != nil {
		return claim{}, err
	}
	if c, ok := e.Content.(events.FeedbackReceived); ok {
		if e, body, err = d.sealed(ctx, e, c); err != nil {
			return claim{}, err
		}
	}
	m := events.EncodeWith(e, body)
	m.Subject = e.Subject(events.Claim)
	id := events.ClaimMessageID(principal, e.Source, e.ID)
	m.Header[nats.MsgIdHdr] = []string{id}
	if m.Size() > natsd.MaxEvent {
		return claim{}, tooLarge()
	}
	return claim{event: e, message: m, id: id, outside: outside}, nil
}

func tooLarge() error {
	return refuse(http.StatusRequestEntityTooLarge, "the event is larger than 1 MiB; put large things elsewhere, and their digest and address into the event")
}

// judge says whether an event is one that may be claimed.
func judge(e events.Event, body []byte) (events.Entry, error) {
	entry, ok := events.Lookup(e.Type)
	if !ok {
		return entry, refuse(http.StatusBadRequest, "%v %q", events.ErrUnknownType, e.Type)
	}
	if !entry.Claimable {
		return entry, refuse(http.StatusForbidden, "%s can not be claimed: only a service may say it", e.Type.Short())
	}
	if schema.Certain(e.Type, body) {
		return entry, nil
	}
	// Nearly always there is something wrong: what, is found out one by one.
	if !utf8.Valid(body) {
		return entry, refuse(http.StatusBadRequest, "%v: it is no UTF-8", events.ErrNotCDEvent)
	}
	if name, err := repeatedMember(body, nil); err != nil || name != "" {
		if err != nil {
			return entry, refuse(http.StatusBadRequest, "%v: %v", events.ErrNotCDEvent, err)
		}
		return entry, refuse(http.StatusBadRequest, "%v: the member %s is there twice, which readers understand differently", events.ErrNotCDEvent, quote(name))
	}
	if err := schema.Validate(body); err != nil {
		return entry, refuse(http.StatusBadRequest, "%v", err)
	}
	return entry, nil
}

// badEvent makes an answer of what reading an event failed for.
func badEvent(err error) error {
	if _, known := problemOf(err); known {
		return err
	}
	return refuse(http.StatusBadRequest, "%v", err)
}

func checkProject(name string) error {
	if name == "" {
		return refuse(http.StatusBadRequest, "the extension project is missing: it names the project that the event belongs to")
	}
	if err := events.ValidProject(name); err != nil {
		return refuse(http.StatusForbidden, "%v", err)
	}
	return nil
}

// checkNames bounds what identifies an event, so that it fits into subjects, headers and keys of a store.
func checkNames(e events.Event) error {
	for _, n := range []struct {
		name, value string
		most        int
	}{
		{"id", e.ID, longestID}, {"source", e.Source, longestSource}, {"subject.id", e.SubjectID, longestKey}, {"context.chainId", e.Chain, longestChain},
	} {
		if len(n.value) > n.most {
			return refuse(http.StatusBadRequest, "%s has %d bytes; %d at most", n.name, len(n.value), n.most)
		}
		if strings.ContainsFunc(n.value, unicode.IsControl) || !utf8.ValidString(n.value) {
			return refuse(http.StatusBadRequest, "%s holds control characters or is no UTF-8", n.name)
		}
	}
	if token := events.EscapeKey(e.Key); len(token) > longestToken {
		return refuse(http.StatusBadRequest, "subject.id has %d bytes when it is escaped for a subject; %d at most", len(token), longestToken)
	}
	return nil
}

// phase is a function of the type but for tests, which belong to the environment that they ran in.
func (d door) phase(ctx context.Context, e events.Event, said events.Phase) (events.Phase, error) {
	of := e.Phase
	environment, isTest := "", true
	switch c := e.Content.(type) {
	case events.TestSuiteRunQueued:
		environment = c.Environment.ID
	case events.TestSuiteRunStarted:
		environment = c.Environment.ID
	case events.TestSuiteRunFinished:
		environment = c.Environment.ID
	case events.TestCaseRunQueued:
		environment = c.Environment.ID
	case events.TestCaseRunStarted:
		environment = c.Environment.ID
	case events.TestCaseRunFinished:
		environment = c.Environment.ID
	case events.TestCaseRunSkipped:
		environment = c.Environment.ID
	case events.TestOutputPublished:
		if said != events.Deploy && c.TestCaseRun != nil && c.TestCaseRun.ID != "" {
			there, err := d.inDeploy(ctx, e.Project, c.TestCaseRun.ID)
			if err != nil {
				return "", err
			}
			if there {
				return events.Deploy, nil
			}
		}
	default:
		isTest = false
	}
	if isTest && said == events.Deploy {
		return events.Deploy, nil
	}
	if said != "" && said != of {
		return "", refuse(http.StatusBadRequest, "%s belongs to the phase %s, not to %s", e.Type.Short(), of, said)
	}
	if environment != "" {
		p, err := d.project(ctx, e.Project)
		if err != nil {
			return "", err
		}
		if _, place := p.Environment(environment); place >= 0 {
			return events.Deploy, nil
		}
	}
	return of, nil
}

// sealed hides user and words of feedback. Nothing of the body as it came is kept: words may be anywhere in it.
func (d door) sealed(ctx context.Context, e events.Event, c events.FeedbackReceived) (events.Event, []byte, error) {
	if c.Key != "" {
		return e, nil, refuse(http.StatusBadRequest, "subject.content.key is the gateway's to set: send the text as it is (base64), the gateway encrypts it")
	}
	if c.User == "" {
		return e, nil, refuse(http.StatusBadRequest, "subject.content.user is missing: say whose feedback it is")
	}
	if !utf8.Valid(c.Text) {
		return e, nil, refuse(http.StatusBadRequest, "subject.content.text is no UTF-8 when it is decoded from base64")
	}
	var err error
	if c.User, c.Key, c.Text, err = d.seal(ctx, e.Project, c.User, c.Text); err != nil {
		return e, nil, fmt.Errorf("%w: seal feedback: %w", errAway, err)
	}
	e.Content, e.Custom, e.CustomType, e.SchemaURI, e.SubjectSource = c, nil, "", "", ""
	for i := range e.Links {
		e.Links[i].Tags = nil
	}
	body, err := e.AppendBody(nil)
	return e, body, err
}
