package subscription

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lemnis/lemnis/internal/excerpt"
	"github.com/lemnis/lemnis/internal/outward"
	"github.com/lemnis/lemnis/pkg/events"
)

// The two protocols.
const (
	HTTP = "HTTP" // facts are pushed to the sink
	NATS = "NATS" // facts wait in a durable consumer for a client of the bus
)

// Content modes of the CloudEvents HTTP binding.
const (
	binary     = "binary"
	structured = "structured"
)

// hidden stands for a header's value wherever a subscription is shown; put back, it means "as it was".
const hidden = "***"

// Bounds of what one subscription may ask for.
const (
	mostFilters   = 64 // of all nesting levels together
	mostTypes     = 64
	mostHeaders   = 16
	longestHeader = 4 << 10
	longestSink   = 2 << 10
	mostTries     = 1000
	longestAge    = 7 * 24 * time.Hour
	mostRate      = 1_000_000 // a minute
	longestSource = 1024
)

// Subscription is what a subscriber asks for, in the shape of the CloudEvents Subscriptions API 1.0-wip.
type Subscription struct {
	ID       string            `json:"id,omitempty"` // the gateway's to give
	Source   string            `json:"source,omitempty"`
	Types    []string          `json:"types,omitempty"` // full or short names; shown in full
	Config   Config            `json:"config"`
	Filters  []json.RawMessage `json:"filters,omitempty"` // all have to match
	Sink     string            `json:"sink,omitempty"`    // URL; HTTP only
	Protocol string            `json:"protocol"`
	Settings Settings          `json:"protocolsettings,omitzero"`
}

// Config says which events a subscription is about and how patient it is.
type Config struct {
	Project string `json:"project"`
	// Start is "new" (the default), "all", or the sequence to begin at. It counts once, at creation.
	Start Start `json:"start,omitempty"`
	// Secret is "secret:<name>" for a signing secret that the operator keeps; empty: one is generated and shown once.
	Secret string `json:"secret,omitempty"`
	// Rate is how many deliveries a minute are asked for in the handshake; 0: 6000. The sink's word counts.
	Rate int `json:"rate,omitempty"`
	// Tries and Age (a duration like "12h") bound how often and how long one event is tried; 0: the gateway's defaults.
	Tries int    `json:"tries,omitempty"`
	Age   string `json:"age,omitempty"`
}

// Start is "new", "all" or a sequence, which may come as a number.
type Start string

// UnmarshalJSON reads "new", "7" and 7.
func (s *Start) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, (*string)(s))
	}
	if _, err := strconv.ParseUint(string(b), 10, 63); err != nil {
		return fail("config.start", "%s is neither new, all nor a sequence", b)
	}
	*s = Start(b)
	return nil
}

// Settings of the protocol.
type Settings struct {
	Method      string            `json:"method,omitempty"`      // POST
	Headers     map[string]string `json:"headers,omitempty"`     // sent along; their values are not shown again
	ContentMode string            `json:"contentmode,omitempty"` // "binary" (the default) or "structured"
	Consumer    string            `json:"consumer,omitempty"`    // NATS only: the consumer's name without the principal
}

// FieldError says which field of a subscription is wrong, and how.
type FieldError struct {
	Field  string // as a path: "filters[0].exact.type"
	Reason string
}

// Error is "field: reason".
func (e *FieldError) Error() string { return e.Field + ": " + e.Reason }

func fail(field, format string, args ...any) error {
	return &FieldError{Field: field, Reason: fmt.Sprintf(format, args...)}
}

// Parse reads a subscription that came from outside. It checks the shape only; [Manager.Create] checks the content.
func Parse(body []byte) (Subscription, error) {
	var s Subscription
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return s, readable(err)
	}
	if d.More() {
		return s, fail("subscription", "something follows the JSON object")
	}
	return s, nil
}

// check judges what was asked for, and fills in defaults.
func (s *Subscription) check(allow outward.Allowed) error {
	if s.ID != "" {
		return fail("id", "the gateway gives it; leave it out")
	}
	if s.Config.Project == "" {
		return fail("config.project", "is missing: it names the project whose facts are wanted")
	}
	if err := events.ValidProject(s.Config.Project); err != nil {
		return fail("config.project", "%v", err)
	}
	if err := s.checkSelection(); err != nil {
		return err
	}
	var err error
	switch s.Protocol {
	case HTTP:
		err = s.checkHTTP(allow)
	case NATS:
		err = s.checkNATS()
	case "":
		err = fail("protocol", "is missing: HTTP or NATS")
	default:
		err = fail("protocol", "%q is not supported; HTTP and NATS are", clip(s.Protocol))
	}
	if err != nil {
		return err
	}
	_, err = compileAll(s.Filters)
	return err
}

func (s *Subscription) checkSelection() error {
	if len(s.Source) > longestSource {
		return fail("source", "has more than %d bytes", longestSource)
	}
	if _, err := url.Parse(s.Source); err != nil {
		return fail("source", "%q is no URI reference", clip(s.Source))
	}
	if len(s.Types) > mostTypes {
		return fail("types", "has %d names; %d at most", len(s.Types), mostTypes)
	}
	for i, name := range s.Types {
		t, err := events.ParseType(name)
		if err != nil {
			return fail(fmt.Sprintf("types[%d]", i), "%v", err)
		}
		s.Types[i] = string(t)
	}
	switch s.Config.Start {
	case "":
		s.Config.Start = "new"
	case "new", "all":
	default:
		if n, err := strconv.ParseUint(string(s.Config.Start), 10, 63); err != nil || n == 0 {
			return fail("config.start", "%q is neither new, all nor a sequence", clip(string(s.Config.Start)))
		}
	}
	return nil
}

var secretName = regexp.MustCompile(`^secret:[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

func (s *Subscription) checkHTTP(allow outward.Allowed) error {
	if err := checkSink(s.Sink, allow); err != nil {
		return err
	}
	c := &s.Config
	if c.Secret != "" && !secretName.MatchString(c.Secret) {
		return fail("config.secret", "is no secret:<name>; the secret itself does not belong here")
	}
	if c.Rate < 0 || c.Rate > mostRate {
		return fail("config.rate", "%d is not 1 to %d deliveries a minute", c.Rate, mostRate)
	}
	if c.Tries < 0 || c.Tries > mostTries {
		return fail("config.tries", "%d is not 1 to %d", c.Tries, mostTries)
	}
	if c.Age != "" {
		if d, err := time.ParseDuration(c.Age); err != nil || d <= 0 || d > longestAge {
			return fail("config.age", "%q is no duration up to %s, like 12h", clip(c.Age), longestAge)
		}
	}
	p := &s.Settings
	if p.Consumer != "" {
		return fail("protocolsettings.consumer", "belongs to the protocol NATS")
	}
	if p.Method != "" && p.Method != http.MethodPost {
		return fail("protocolsettings.method", "%q is not supported; POST is", clip(p.Method))
	}
	switch p.ContentMode {
	case "":
		p.ContentMode = binary
	case binary, structured:
	default:
		return fail("protocolsettings.contentmode", "%q is neither binary nor structured", clip(p.ContentMode))
	}
	return checkHeaders(p.Headers)
}

func checkSink(sink string, allow outward.Allowed) error {
	if sink == "" {
		return fail("sink", "is missing: the URL that events are pushed to")
	}
	if len(sink) > longestSink {
		return fail("sink", "has more than %d bytes", longestSink)
	}
	u, err := url.Parse(sink)
	switch {
	case err != nil:
		return fail("sink", "is no URL")
	case u.Scheme != "https" && u.Scheme != "http":
		return fail("sink", "has to begin with https://")
	case u.Hostname() == "":
		return fail("sink", "names no host")
	case strings.ContainsFunc(u.Host, func(r rune) bool { return r > '~' }):
		return fail("sink", "names its host in other letters than ASCII; write it as it is looked up, xn--…")
	case u.User != nil:
		return fail("sink", "holds a name or password; send credentials in protocolsettings.headers")
	case u.Fragment != "":
		return fail("sink", "has a fragment, which is never sent")
	}
	// What a name stands for is checked when it is dialled; an address can be refused at once.
	if addr, err := netip.ParseAddr(u.Hostname()); err == nil {
		if err := allow.Check(addr, u.Scheme == "https"); err != nil {
			return fail("sink", "%v", err)
		}
	}
	return nil
}

// A header that frames the request, or that the receiver trusts the gateway for, is not the subscriber's to set.
var reservedHeaders = []string{
	"host", "content-length", "content-type", "content-encoding", "transfer-encoding", "connection", "keep-alive",
	"upgrade", "te", "trailer", "expect", "origin", "user-agent",
}

func checkHeaders(headers map[string]string) error {
	if len(headers) > mostHeaders {
		return fail("protocolsettings.headers", "has %d headers; %d at most", len(headers), mostHeaders)
	}
	for name, value := range headers {
		field := "protocolsettings.headers." + clip(name)
		lower := strings.ToLower(name)
		switch {
		case !isToken(name):
			return fail(field, "is no name of a header")
		case slices.Contains(reservedHeaders, lower), strings.HasPrefix(lower, "ce-"), strings.HasPrefix(lower, "webhook-"),
			strings.HasPrefix(lower, "proxy-"):
			return fail(field, "is set by the gateway")
		case len(value) > longestHeader:
			return fail(field, "has more than %d bytes", longestHeader)
		case strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r > '~' }):
			return fail(field, "may hold printable ASCII only")
		}
	}
	return nil
}

func isToken(s string) bool {
	return s != "" && len(s) <= 128 && strings.IndexFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	}) < 0
}

var consumerName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$`)

func (s *Subscription) checkNATS() error {
	p := s.Settings
	switch {
	case p.Consumer == "":
		return fail("protocolsettings.consumer", "is missing: the name of the consumer to make")
	case !consumerName.MatchString(p.Consumer):
		return fail("protocolsettings.consumer", "%q has to be 1 to 40 of a-z, 0-9 and '-'", clip(p.Consumer))
	case s.Sink != "":
		return fail("sink", "is for the protocol HTTP; a NATS client comes for its events")
	case len(s.Filters) > 0:
		return fail("filters", "are for the protocol HTTP; a consumer of the bus is narrowed by config.project and types only")
	case s.Source != "":
		return fail("source", "is for the protocol HTTP; a consumer of the bus is narrowed by config.project and types only")
	case p.Method != "" || p.ContentMode != "" || len(p.Headers) > 0:
		return fail("protocolsettings", "takes nothing but consumer with the protocol NATS")
	case s.Config.Secret != "" || s.Config.Rate != 0 || s.Config.Tries != 0 || s.Config.Age != "":
		return fail("config", "takes project and start only with the protocol NATS")
	}
	return nil
}

// start is the sequence to begin at, on a stream that ends at last.
func (s *Subscription) start(last uint64) uint64 {
	switch s.Config.Start {
	case "new":
		return last + 1
	case "all":
		return 1
	}
	n, _ := strconv.ParseUint(string(s.Config.Start), 10, 63) // checked
	return n
}

// masked is the subscription as it may be shown: the values of its headers stay here.
func (s Subscription) masked() Subscription {
	if len(s.Settings.Headers) > 0 {
		headers := make(map[string]string, len(s.Settings.Headers))
		for name := range s.Settings.Headers {
			headers[name] = hidden
		}
		s.Settings.Headers = headers
	}
	return s
}

// restore gives hidden headers the values that they had. Whoever changes a subscription may not know them: they go nowhere but to
// the origin that they were given for.
func (s *Subscription) restore(old Subscription) error {
	for name, value := range s.Settings.Headers {
		if value != hidden {
			continue
		}
		field := "protocolsettings.headers." + clip(name)
		was, ok := old.Settings.Headers[name]
		switch {
		case !ok:
			return fail(field, "has no value")
		case origin(s.Sink) != origin(old.Sink):
			return fail(field, "has to be given again: what it was is for %s only", clip(origin(old.Sink)))
		}
		s.Settings.Headers[name] = was
	}
	return nil
}

// origin is the scheme and host of a sink; empty for none.
func origin(sink string) string {
	to, err := newTarget(sink)
	if err != nil {
		return ""
	}
	return to.origin
}

// clip shows what a stranger sent, cut short.
func clip(s string) string { return excerpt.Of(s, 80) }
