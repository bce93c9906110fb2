package service

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/lemnis/lemnis/internal/fold"
	"github.com/lemnis/lemnis/pkg/events"
)

// aggregate is the fold of one aggregate's facts.
type aggregate struct {
	name      field
	state     any
	watermark uint64 // highest cause that it stated a fact for; causes at or below it are done
	dirty     bool   // it is among those of its partition that are to be saved
	broken    error  // why a fact of it can not be folded: its state is unknown, nothing is decided on it
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
	purged uint64 // the same, when the stream has no fact of the partition any more
	folded map[field]*aggregate
	dirty  []*aggregate // folded since the last save
	saved  uint64       // sequence that the store is believed to hold
	// stopped says why nothing is decided in this partition any more: the fact at stoppedAt can not
	// be read, so whose state it changed, and which cause it answered, is unknown.
	stopped   error
	stoppedAt uint64
}

// stoppedField stands in a saved partition for one that is stopped. No kind has its name, so that
// the partition is folded anew from the stream, by a version that may be able to read it.
var stoppedField = field{kind: "!stopped"}

func newPartition(phase events.Phase, id fold.PartitionID) *partition {
	return &partition{
		id: id, fence: events.FenceFilter(id.Project, phase, id.Partition),
		folded: map[field]*aggregate{},
	}
}

// expected is the sequence that the stream has for the last fact.
func (p *partition) expected() uint64 {
	if p.purged == p.last {
		return 0
	}
	return p.last
}

// peek is the fold of an aggregate, empty when it has stated nothing.
func (p *partition) peek(f field) aggregate {
	if a := p.folded[f]; a != nil {
		return *a
	}
	return aggregate{}
}

// errUnknownKind says that a fact belongs to no kind of aggregate that this version knows.
var errUnknownKind = errors.New("unknown kind of aggregate")

// fold takes a fact of this partition into account. It is idempotent: a fact whose cause is at
// or below the watermark is folded already. An error other than errUnknownKind says that the
// aggregate is broken from now on; the partition goes on.
func (p *partition) fold(kinds map[string]*Aggregate, fact events.Event) error {
	p.last = max(p.last, fact.Sequence)
	kind := kinds[fact.Aggregate]
	if kind == nil {
		return errUnknownKind
	}
	f := field{fact.Aggregate, fact.Key}
	a := p.at(f)
	if fact.CauseSequence <= a.watermark {
		p.touch(a) // it was saved ahead of its place: now the place is known
		return nil
	}
	state, err := kind.next(*a, p, fact)
	if err != nil {
		state, a.broken = nil, fmt.Errorf("fact %d can not be folded: %s", fact.Sequence, reasonOf(err))
	}
	p.set(a, fact, state)
	return err
}

// put notes a fact of this partition and the state that its aggregate has by it.
func (p *partition) put(fact events.Event, state any) {
	p.last = max(p.last, fact.Sequence)
	p.set(p.at(field{fact.Aggregate, fact.Key}), fact, state)
}

func (p *partition) set(a *aggregate, fact events.Event, state any) {
	a.state, a.watermark = state, fact.CauseSequence
	p.touch(a)
}

// touch has an aggregate saved the next time.
func (p *partition) touch(a *aggregate) {
	if !a.dirty {
		a.dirty = true
		p.dirty = append(p.dirty, a)
	}
}

// saving forgets what was to be saved.
func (p *partition) saving() {
	for _, a := range p.dirty {
		a.dirty = false
	}
	p.dirty, p.saved = nil, p.last
}

// at finds or makes the fold of an aggregate. Its name is a copy: that of a fact is a part of the fact's whole header, which
// would stay in memory with it.
func (p *partition) at(f field) *aggregate {
	a := p.folded[f]
	if a == nil {
		a = &aggregate{name: field{strings.Clone(f.kind), strings.Clone(f.key)}}
		p.folded[a.name] = a
	}
	return a
}

// stop notes a fact that can not be read: nothing may be decided on what it changed.
func (p *partition) stop(sequence uint64, reason error) {
	p.last = max(p.last, sequence)
	if p.stopped == nil {
		p.stopped = fmt.Errorf("fact %d can not be read: %w", sequence, reason)
		a := p.at(stoppedField)
		a.broken = p.stopped
		p.touch(a)
	}
	p.stoppedAt = max(p.stoppedAt, sequence)
}

// next is the state that a fact leads to. Where the state is unknown, it stays so, and only the
// watermark counts. A panic of Evolve is an error.
func (k *Aggregate) next(a aggregate, p *partition, fact events.Event) (state any, err error) {
	if p.stopped != nil || a.broken != nil {
		return a.state, nil
	}
	defer func() {
		if r := recover(); r != nil {
			err = panicked(fmt.Sprintf("%s/%s panics on folding %s", fact.Aggregate, fact.Key, fact.Type.Short()), r)
		}
	}()
	return k.evolve(a.state, fact), nil
}

// unfolded is saved for an aggregate whose facts can not be folded. It can not be loaded either,
// so that a version in which they can be folds the stream again.
const unfolded = "!"

// encodeAggregate renders a fold as it is saved: the watermark, then the state's JSON.
func encodeAggregate(kind *Aggregate, a aggregate) ([]byte, error) {
	if a.broken != nil {
		return []byte(unfolded), nil //nolint:nilerr // that is how a broken one is saved
	}
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
			return nil, fmt.Errorf("saved fold %s of partition %d was not or can not be read", name, id.Partition)
		}
		state, err := kind.decode(value[8:])
		if err != nil {
			return nil, err
		}
		a := p.at(field{kindName, key})
		a.state, a.watermark = state, binary.BigEndian.Uint64(value)
	}
	return p, nil
}
