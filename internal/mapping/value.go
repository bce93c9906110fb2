package mapping

import (
	"fmt"
	"reflect"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"google.golang.org/protobuf/types/known/structpb"
)

// What all the expressions of one mapping may make of one event. The parts of a value may be shared, so that a few bytes of
// an expression stand for more than there is room for once they are written out.
const (
	mostNodes = 10_000
	mostBytes = 1 << 20
	mostDepth = 64
)

// room is what is left of it.
type room struct {
	nodes, bytes int
}

func newRoom() *room { return &room{nodes: mostNodes, bytes: mostBytes} }

func (r *room) take(bytes int) error {
	r.nodes--
	r.bytes -= bytes
	switch {
	case r.nodes < 0:
		return fmt.Errorf("it makes more than %d values", mostNodes)
	case r.bytes < 0:
		return fmt.Errorf("it makes more than %d bytes of text", mostBytes)
	}
	return nil
}

var jsonValue = reflect.TypeFor[*structpb.Value]()

// native is what JSON has: nil, bool, int64, uint64, float64, string, []any, map[string]any.
func (r *room) native(v ref.Val, depth int) (any, error) {
	if depth > mostDepth {
		return nil, fmt.Errorf("it makes more than %d levels of lists and maps", mostDepth)
	}
	switch v := v.(type) {
	case types.String:
		return string(v), r.take(len(v))
	case types.Bytes:
		if err := r.take(len(v) * 4 / 3); err != nil { // in base64
			return nil, err
		}
		return r.scalar(v)
	case types.Int:
		return int64(v), r.take(8)
	case types.Uint:
		return uint64(v), r.take(8)
	case traits.Mapper:
		return r.object(v, depth)
	case traits.Lister:
		return r.list(v, depth)
	}
	if err := r.take(8); err != nil {
		return nil, err
	}
	return r.scalar(v)
}

func (r *room) scalar(v ref.Val) (any, error) {
	plain, err := v.ConvertToNative(jsonValue)
	if err != nil {
		return nil, fmt.Errorf("it makes %s, which JSON does not have", v.Type().TypeName())
	}
	return plain.(*structpb.Value).AsInterface(), nil
}

func (r *room) list(v traits.Lister, depth int) (any, error) {
	all := []any{}
	for i := v.Iterator(); i.HasNext() == types.True; {
		if err := r.take(0); err != nil {
			return nil, err
		}
		one, err := r.native(i.Next(), depth+1)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, r.take(0)
}

func (r *room) object(v traits.Mapper, depth int) (any, error) {
	all := map[string]any{}
	for i := v.Iterator(); i.HasNext() == types.True; {
		key := i.Next()
		name, ok := key.ConvertToType(types.StringType).(types.String)
		if !ok {
			return nil, fmt.Errorf("it makes a map with a key that is %s, which JSON does not have", key.Type().TypeName())
		}
		if err := r.take(len(name)); err != nil {
			return nil, err
		}
		one, err := r.native(v.Get(key), depth+1)
		if err != nil {
			return nil, err
		}
		all[string(name)] = one
	}
	return all, r.take(0)
}
