package webhook

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/lemnis/lemnis/internal/proposal"
	"github.com/lemnis/lemnis/pkg/events"
)

// Sender is one kind of system that sends webhooks.
type Sender struct {
	Kind events.WebhookKind
	// MaxBytes of a body: what the sender's own limit is, where it has one.
	MaxBytes int64

	proof     proof
	event     []string // headers, any of which names the event; none: the body does
	translate func(d *delivery) error
}

// Lookup finds a sender by its name in the address.
func Lookup(kind string) (Sender, bool) {
	s, ok := senders[events.WebhookKind(kind)]
	return s, ok
}

// Errors of a body that a sender did sign. Each says more when it is printed.
var (
	// ErrMalformed is a body that is not what its sender documents.
	ErrMalformed = errors.New("the payload is malformed")
	// ErrMismatch is a body of another event than the header names: only the body is signed.
	ErrMismatch = errors.New("the header names another event than the body")
	// ErrForeign is a body of a repository that the project does not have.
	ErrForeign = errors.New("the repository is not one of the project's")
	// ErrUnsupported is a content type that no sender sends.
	ErrUnsupported = errors.New("the content type is not supported")
)

// UnknownError says that a sender's event is none that becomes a claim.
type UnknownError struct{ Event string }

// Error names the event.
func (e *UnknownError) Error() string { return fmt.Sprintf("the event %q is not known", e.Event) }

// Translate makes claims of a delivery whose sender is authenticated: in order, with ids that follow from the project and
// the body alone. No claims and no error: the event is known, and says nothing that concerns the lifecycle. The error is
// an [*UnknownError], or wraps one of the Err values. now stands in where the body has no time.
func (s Sender) Translate(h http.Header, body []byte, p events.Project, now time.Time) ([]events.Event, error) {
	text, err := payload(h, body)
	if err != nil {
		return nil, err
	}
	d := &delivery{project: p, now: now, event: s.Event(h)}
	if err := json.Unmarshal(text, &d.members); err != nil || d.members == nil {
		return nil, malformed("it is no JSON object")
	}
	d.body = text
	if d.event == "" && len(s.event) > 0 {
		return nil, malformed("the header %s, which names the event, is missing", s.event[0])
	}
	if err := s.translate(d); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(append([]byte(p.Name+"\x00"), body...))
	for i := range d.claims {
		d.claims[i].ID = fmt.Sprintf("%s-%d", hex.EncodeToString(sum[:]), i)
	}
	return d.claims, nil
}

// Event is what the headers say that the delivery is.
func (s Sender) Event(h http.Header) string {
	for _, name := range s.event {
		if v := h.Get(name); v != "" {
			return v
		}
	}
	return ""
}

// payload is the JSON of a body, which GitHub, Gitea and Forgejo can also send as a form.
func payload(h http.Header, body []byte) ([]byte, error) {
	media, _, unreadable := mime.ParseMediaType(h.Get("Content-Type"))
	switch {
	case unreadable != nil || media == "application/json" || strings.HasSuffix(media, "+json"):
		return body, nil //nolint:nilerr // what says nothing readable of itself is taken for JSON
	case media == "application/x-www-form-urlencoded":
		form, err := url.ParseQuery(string(body))
		if err != nil || !form.Has("payload") {
			return nil, malformed("the form has no field payload")
		}
		return []byte(form.Get("payload")), nil
	}
	return nil, fmt.Errorf("%w: it is %q; send application/json", ErrUnsupported, media)
}

// delivery is one body on its way to claims.
type delivery struct {
	project events.Project
	now     time.Time
	event   string
	body    []byte
	members map[string]json.RawMessage

	source string // of the claims: the repository's page, or the sender itself
	claims []events.Event
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// has reports whether the body has a member that is not null.
func (d *delivery) has(name string) bool {
	v, ok := d.members[name]
	return ok && string(v) != "null"
}

// decode reads the body into a sender's type. A member of another type than the sender documents is left out, as if it
// were not there: most members are of no concern here, and what is missing of the others is noticed.
func (d *delivery) decode(into any) error {
	var other *json.UnmarshalTypeError
	if err := json.Unmarshal(d.body, into); err != nil && !errors.As(err, &other) {
		return malformed("%v", err)
	}
	return nil
}

// shape is what tells the body of an event from those of others.
type shape struct{ has, lacks []string }

func (d *delivery) fits(s shape) bool {
	for _, name := range s.has {
		if !d.has(name) {
			return false
		}
	}
	for _, name := range s.lacks {
		if d.has(name) {
			return false
		}
	}
	return true
}

// check holds the body to the shape of the event that the header names.
func (d *delivery) check(shapes map[string]shape) error {
	if d.fits(shapes[d.event]) {
		return nil
	}
	return fmt.Errorf("%w: the header says %q, and the body is of none", ErrMismatch, d.event)
}

// claim says one thing. chain and cause are addresses at the sender: what the turn of the loop is named by, and what it
// follows from.
func (d *delivery) claim(said claim) {
	e := events.Event{
		Type: events.TypeOf(said.content), Source: d.source, Time: said.at, Project: d.project.Name, SubjectID: said.subject, SubjectSource: d.source,
		Content: said.content, Chain: d.chain(said.chain),
	}
	if e.Time.IsZero() || e.Time.UTC().Year() < 1 || e.Time.UTC().Year() > 9999 {
		e.Time = d.now
	}
	if said.cause != "" {
		e.Links = append(e.Links, events.Link{Type: events.Path, Context: said.cause})
	}
	for _, l := range said.concerns {
		if l.address != "" {
			e.Links = append(e.Links, events.Link{Type: events.Relation, Kind: l.kind, Context: l.address})
		}
	}
	if said.custom != nil {
		if raw, err := json.Marshal(said.custom); err == nil {
			e.Custom, e.CustomType = raw, "application/json"
		}
	}
	d.claims = append(d.claims, e)
}

// claim is one thing that a delivery says.
type claim struct {
	subject  string // subject.id, the key of what it is about
	content  any
	at       time.Time
	chain    string
	cause    string
	concerns []concern
	custom   map[string]any
}

// concern is something else that a claim is about.
type concern struct{ kind, address string }

// chain names a turn of the loop after an address at the sender.
func (d *delivery) chain(address string) string { return proposal.Chain(d.project.Name, address) }
