package mapping

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"

	"github.com/lemnis/lemnis/pkg/events"
)

// ErrNone says that no mapping takes an event.
var ErrNone = errors.New("no mapping of the project takes it")

// Claim makes the CDEvent that the first mapping which takes the event makes of it, and its body. It has the event's id and
// source, by which it is known again; customData.original is the event itself. The error says which mapping failed where.
func (s Set) Claim(ctx context.Context, in Event) (events.Event, []byte, error) {
	with := in.variables()
	var last error // of a condition that could not be judged, which is no match
	for _, o := range s {
		matches, err := o.takes(ctx, with)
		if err != nil {
			last = err
		}
		if !matches {
			continue
		}
		body, err := o.body(ctx, in, with)
		if err != nil {
			return events.Event{}, nil, fmt.Errorf("%s: %w", o.name, err)
		}
		e, err := events.DecodeBody(body)
		if err != nil {
			return events.Event{}, nil, fmt.Errorf("%s: %w", o.name, err)
		}
		e.Project, e.TraceParent = in.Project, in.TraceParent
		return e, body, nil
	}
	if last != nil {
		return events.Event{}, nil, fmt.Errorf("%w: %w", ErrNone, last)
	}
	return events.Event{}, nil, ErrNone
}

func (o one) takes(ctx context.Context, with map[string]any) (bool, error) {
	v, err := evaluate(ctx, o.when, with)
	if err != nil {
		return false, fmt.Errorf("%s.when: %w", o.name, err)
	}
	return v == types.True, nil
}

// body is the JSON of the CDEvent.
func (o one) body(ctx context.Context, in Event, with map[string]any) ([]byte, error) {
	subject, err := text(ctx, "subject", o.subject, with)
	if err != nil {
		return nil, err
	}
	about := map[string]any{"specversion": events.SpecVersion, "id": in.ID, "source": in.Source, "type": o.typ, "timestamp": in.Time.UTC().Format(time.RFC3339Nano)}
	if o.chain != nil {
		if about["chainId"], err = text(ctx, "chain", o.chain, with); err != nil {
			return nil, err
		}
	}
	root := map[string]any{}
	left := newRoom()
	for _, f := range o.fields {
		made, err := evaluate(ctx, f.program, with)
		if err != nil {
			return nil, fmt.Errorf("fields.%s: %w", f.path, err)
		}
		v, err := left.native(made, 0)
		if err != nil {
			return nil, fmt.Errorf("fields.%s: %w", f.path, err)
		}
		if v != nil { // null: the field is left out
			put(root, strings.Split(f.path, "."), v)
		}
	}
	custom := map[string]any{"original": json.RawMessage(in.whole)}
	if lemnis := root["lemnis"]; lemnis != nil {
		custom["lemnis"] = lemnis
		delete(root, "lemnis")
	}
	return json.Marshal(map[string]any{
		"context": about, "subject": map[string]any{"id": subject, "content": root},
		"customData": custom, "customDataContentType": "application/json",
	})
}

// put sets a value within objects; a path that leads through another value replaces it.
func put(root map[string]any, path []string, v any) {
	for _, name := range path[:len(path)-1] {
		inner, ok := root[name].(map[string]any)
		if !ok {
			inner = map[string]any{}
			root[name] = inner
		}
		root = inner
	}
	root[path[len(path)-1]] = v
}

func text(ctx context.Context, name string, p cel.Program, with map[string]any) (string, error) {
	v, err := evaluate(ctx, p, with)
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	s, ok := v.(types.String)
	switch {
	case !ok:
		return "", fmt.Errorf("%s: has to make text, not %s; string(…) makes it", name, brief(v))
	case s == "":
		return "", fmt.Errorf("%s: has to make text, not an empty one", name)
	case len(s) > mostBytes:
		return "", fmt.Errorf("%s: it makes more than %d bytes of text", name, mostBytes)
	}
	return string(s), nil
}

// brief is a number or truth value itself, and the type of what may be large.
func brief(v ref.Val) string {
	switch v.(type) {
	case types.Bool, types.Int, types.Uint, types.Double:
		return fmt.Sprint(v.Value())
	}
	return v.Type().TypeName()
}

// evaluate runs an expression. What it returns may be far larger than the memory it takes.
func evaluate(ctx context.Context, p cel.Program, with map[string]any) (ref.Val, error) {
	out, _, err := p.ContextEval(ctx, with)
	return out, err
}
