package mapping

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/google/cel-go/cel"
	"google.golang.org/protobuf/types/known/structpb"

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
	matches, _ := v.(bool)
	return matches, nil
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
	for _, f := range o.fields {
		v, err := evaluate(ctx, f.program, with)
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
	s, ok := v.(string)
	if !ok || s == "" {
		return "", fmt.Errorf("%s: has to make text, not %v; string(…) makes it", name, v)
	}
	return s, nil
}

var jsonValue = reflect.TypeFor[*structpb.Value]()

// evaluate runs an expression and returns what JSON has: nil, bool, float64, string, []any, map[string]any.
func evaluate(ctx context.Context, p cel.Program, with map[string]any) (any, error) {
	out, _, err := p.ContextEval(ctx, with)
	if err != nil {
		return nil, err
	}
	v, err := out.ConvertToNative(jsonValue)
	if err != nil {
		return nil, fmt.Errorf("it makes %s, which JSON does not have", out.Type().TypeName())
	}
	return v.(*structpb.Value).AsInterface(), nil
}
