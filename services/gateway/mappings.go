package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/lemnis/lemnis/internal/mapping"
	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/gateway/access"
)

// mappings are the projects' mappings, compiled when they are first needed, once for each revision of the configuration.
type mappings struct {
	project func(ctx context.Context, name string) (events.Project, error)

	mu  sync.Mutex
	all map[string]compiledMappings
}

type compiledMappings struct {
	from  []events.Mapping // every revision that was read has its own
	set   mapping.Set
	wrong []mapping.Error
}

func (c compiledMappings) of(all []events.Mapping) bool {
	return len(c.from) == len(all) && len(all) > 0 && &c.from[0] == &all[0]
}

// of compiles the mappings of a project. There are as many as projects that have some.
func (m *mappings) of(p events.Project) (mapping.Set, error) {
	if len(p.Mappings) == 0 {
		return nil, nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	c, ok := m.all[p.Name]
	if !ok || !c.of(p.Mappings) {
		c = compiledMappings{from: p.Mappings}
		c.set, c.wrong = mapping.Compile(p.Mappings)
		if m.all == nil {
			m.all = map[string]compiledMappings{}
		}
		m.all[p.Name] = c
	}
	if len(c.wrong) > 0 { // it was applied past `lemnis apply`
		return nil, refuse(http.StatusBadRequest, "the project's mappings can not be used: %v", c.wrong[0])
	}
	return c.set, nil
}

// claim makes a CDEvent of a CloudEvent that is none, as its project says. What comes of it is admitted as any other.
func (m *mappings) claim(ctx context.Context, in mapping.Event) (events.Event, []byte, error) {
	none := events.Event{Project: in.Project}
	if err := checkProject(in.Project); err != nil {
		return none, nil, err
	}
	p, err := m.project(ctx, in.Project)
	if err != nil {
		return none, nil, err
	}
	if err := maySay(ctx, p); err != nil {
		return none, nil, err
	}
	set, err := m.of(p)
	if err != nil {
		return none, nil, err
	}
	e, body, err := set.Claim(ctx, in)
	if errors.Is(err, mapping.ErrNone) {
		return none, nil, refuse(http.StatusBadRequest, "%v %s: it is no CDEvent, and %v", events.ErrUnknownType, quote(in.Type), err)
	}
	if err != nil {
		return none, nil, refuse(http.StatusBadRequest, "the project's %v", err)
	}
	return e, body, nil
}

// maySay refuses who may say nothing of a project, before its mappings tell anything about it.
func maySay(ctx context.Context, p events.Project) error {
	who := access.From(ctx)
	for _, e := range p.Environments {
		if who.May(access.Need(access.Decide, e.Name, p.Name)) == nil {
			return nil
		}
	}
	var err error
	for _, phase := range events.Phases() {
		if err = who.May(access.Need(access.Publish, string(phase), p.Name)); err == nil {
			return nil
		}
	}
	return err
}

// fromText reads a CloudEvent in structured mode that may be no CDEvent; ok is false when it says that it is one.
func (m *mappings) fromText(ctx context.Context, text []byte) (d events.Decoded, ok bool) {
	var peek struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(text, &peek); err != nil || !mapping.Foreign(peek.Type) {
		return d, false
	}
	in, err := mapping.Structured(text)
	return m.decoded(ctx, in, err), true
}

// fromHeaders is fromText for binary mode.
func (m *mappings) fromHeaders(ctx context.Context, h map[string][]string, body []byte) (d events.Decoded, ok bool) {
	attributes := events.Attributes(h)
	if !mapping.Foreign(attributes["type"]) {
		return d, false
	}
	in, err := mapping.Binary(attributes, body)
	return m.decoded(ctx, in, err), true
}

func (m *mappings) decoded(ctx context.Context, in mapping.Event, err error) (d events.Decoded) {
	if err != nil {
		d.Event.Project, d.Err = in.Project, err
		return d
	}
	d.Event, d.Body, d.Err = m.claim(ctx, in)
	return d
}

// mapped takes a request's events that could not be read as CDEvents to the mappings.
func (g *Gateway) mapped(r *http.Request, mode string, body []byte, decoded []events.Decoded) {
	var texts []json.RawMessage // of a batch
	for i, d := range decoded {
		if d.Err == nil {
			continue
		}
		var other events.Decoded
		var ok bool
		switch mode {
		case "application/cloudevents+json":
			other, ok = g.mappings.fromText(r.Context(), body)
		case batchMode:
			if texts == nil && json.Unmarshal(body, &texts) != nil {
				return
			}
			other, ok = g.mappings.fromText(r.Context(), texts[i])
		default:
			other, ok = g.mappings.fromHeaders(r.Context(), r.Header, body)
		}
		if ok {
			decoded[i] = other
		}
	}
}

// mappedMessage is mapped for a message of an inbox; ok is false when it is nothing for mappings.
func (g *Gateway) mappedMessage(ctx context.Context, h nats.Header, data []byte) (d events.Decoded, ok bool) {
	contentType, binary := "", header(h, "ce-type") != ""
	for name, values := range h {
		if strings.EqualFold(name, "content-type") && len(values) > 0 {
			contentType = values[0]
		}
	}
	media, _, err := mime.ParseMediaType(contentType)
	if contentType != "" && err != nil {
		return d, false
	}
	switch isJSON := media == "" || media == "application/json" || strings.HasSuffix(media, "+json"); {
	case media == "application/cloudevents+json", !binary && isJSON:
		return g.mappings.fromText(ctx, data)
	case binary && isJSON && !strings.HasPrefix(media, "application/cloudevents"):
		return g.mappings.fromHeaders(ctx, h, data)
	}
	return d, false
}
