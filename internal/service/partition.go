package service

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/lemnis/lemnis/internal/fold"
	"github.com/lemnis/lemnis/pkg/events"
)

// aggregate is the fold of one aggregate's facts.
type aggregate struct {
	state     any
	watermark uint64 // highest cause that it stated a fact for; causes at or below it are done
}

// field names an aggregate within its partition, as it is saved: "<kind>/<key>".
type field struct{ kind, key string }

func (f field) String() string { return f.kind + "/" + f.key }

// partition is the unit of fold, fence and saving: all aggregates of a project and phase whose
// keys hash to one number. One worker at a time touches it.
type partition struct {
	id     fold.PartitionID
	fence  string // filter whose last sequence every writer expects
	last   uint64 // sequence of the last fact that is folded
	folded map[field]*aggregate
	dirty  map[field]struct{} // folded since the last save
	saved  uint64             // sequence that the store is believed to hold
}

func newPartition(phase events.Phase, id fold.PartitionID) *partition {
	return &partition{
		id: id, fence: events.FenceFilter(id.Project, phase, id.Partition),
		folded: map[field]*aggregate{}, dirty: map[field]struct{}{},
	}
}

// peek is the fold of an aggregate, empty when it has stated nothing.
func (p *partition) peek(f field) aggregate {
	if a := p.folded[f]; a != nil {
		return *a
	}
	return aggregate{}
}

// fold takes a fact of this partition into account. It is idempotent: a fact whose cause is at
// or below the watermark is folded already. False when the fact belongs to no known kind.
func (p *partition) fold(kinds map[string]*Aggregate, fact events.Event) bool {
	if fact.Sequence > p.last {
		p.last = fact.Sequence
	}
	kind := kinds[fact.Aggregate]
	if kind == nil {
		return false
	}
	f := field{fact.Aggregate, fact.Key}
	a := p.folded[f]
	if a == nil {
		a = &aggregate{}
		p.folded[f] = a
	}
	if fact.CauseSequence <= a.watermark {
		return true
	}
	a.state, a.watermark = kind.evolve(a.state, fact), fact.CauseSequence
	p.dirty[f] = struct{}{}
	return true
}

// encodeAggregate renders a fold as it is saved: the watermark, then the state's JSON.
func encodeAggregate(kind *Aggregate, a aggregate) ([]byte, error) {
	state, err := kind.encode(a.state)
	if err != nil {
		return nil, fmt.Errorf("encode state of %s: %w", kind.kind, err)
	}
	return append(binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(state)), a.watermark), state...), nil
}

// loadPartition reads a saved partition; an error means that it has to be folded anew.
func loadPartition(phase events.Phase, kinds map[string]*Aggregate, id fold.PartitionID, saved fold.Partition) (*partition, error) {
	p := newPartition(phase, id)
	p.last, p.saved = saved.Sequence, saved.Sequence
	for name, value := range saved.Fields {
		kindName, key, _ := strings.Cut(name, "/")
		kind := kinds[kindName]
		if kind == nil || len(value) < 8 {
			return nil, fmt.Errorf("saved fold %s of partition %d is unreadable", name, id.Partition)
		}
		state, err := kind.decode(value[8:])
		if err != nil {
			return nil, err
		}
		p.folded[field{kindName, key}] = &aggregate{state: state, watermark: binary.BigEndian.Uint64(value)}
	}
	return p, nil
}
