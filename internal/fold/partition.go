package fold

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Scope is what folds must agree in to be read by each other.
type Scope struct {
	Stream  string // identity of the stream
	Phase   string // or another name of what is folded
	Version string // of the fold's code
}

// Name makes a name, for Position or for keys, that carries the scope.
func (sc Scope) Name(name string) string { return sc.tag() + ":" + name }

// tag is in braces, so that all of a scope is in one slot of a Redis cluster.
func (sc Scope) tag() string { return "{" + sc.Stream + "/" + sc.Phase + "/" + sc.Version + "}" }

func (sc Scope) index() string { return "fold:" + sc.tag() }

func (sc Scope) key(id PartitionID) string { return sc.index() + ":" + id.member() }

// PartitionID names a partition of the stream: of one project, by the number
// that the stream's transform gave it.
type PartitionID struct {
	Project   string
	Partition int
}

func (id PartitionID) member() string { return id.Project + "/" + strconv.Itoa(id.Partition) }

func parseMember(member string) (PartitionID, error) {
	i := strings.LastIndexByte(member, '/')
	if i < 0 {
		return PartitionID{}, fmt.Errorf("partition %q has no number", member)
	}
	n, err := strconv.Atoi(member[i+1:])
	if err != nil {
		return PartitionID{}, fmt.Errorf("partition %q: %w", member, err)
	}
	return PartitionID{Project: member[:i], Partition: n}, nil
}

// Partition is the folds of one partition as they were at a sequence.
type Partition struct {
	Sequence uint64
	Fields   map[string][]byte // "<kind>/<key>" to what the caller encoded
}

// sequenceField is no "<kind>/<key>", as it has no slash.
const sequenceField = "sequence"

// loadBatch is how many partitions are asked for at a time.
const loadBatch = 64

// Load returns all partitions that were saved under the scope; none when
// nothing was, or the store was wiped.
func (s *Store) Load(ctx context.Context, sc Scope) (map[PartitionID]Partition, error) {
	members, err := s.client.SMembers(ctx, sc.index()).Result()
	if err != nil {
		return nil, fmt.Errorf("list the saved partitions: %w", err)
	}
	loaded := make(map[PartitionID]Partition, len(members))
	for len(members) > 0 {
		batch := members[:min(loadBatch, len(members))]
		members = members[len(batch):]
		ids := make([]PartitionID, len(batch))
		answers := make([]*redis.MapStringStringCmd, len(batch))
		_, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i, member := range batch {
				if ids[i], err = parseMember(member); err != nil {
					return err
				}
				answers[i] = p.HGetAll(ctx, sc.key(ids[i]))
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("load partitions: %w", err)
		}
		for i, answer := range answers {
			partition, err := decodePartition(answer.Val())
			if err != nil {
				return nil, fmt.Errorf("load partition %s: %w", batch[i], err)
			}
			// Gone since the list was read.
			if partition.Sequence > 0 {
				loaded[ids[i]] = partition
			}
		}
	}
	return loaded, nil
}

func decodePartition(hash map[string]string) (Partition, error) {
	text, ok := hash[sequenceField]
	if !ok {
		return Partition{}, nil
	}
	sequence, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return Partition{}, err
	}
	delete(hash, sequenceField)
	fields := make(map[string][]byte, len(hash))
	for field, value := range hash {
		fields[field] = []byte(value)
	}
	return Partition{Sequence: sequence, Fields: fields}, nil
}

// Save is what is new of one partition.
type Save struct {
	ID       PartitionID
	Base     uint64            // sequence that the caller believes is stored; 0 for none
	Sequence uint64            // at which Changed and Whole stand; above 0
	Changed  map[string][]byte // since Base; nil as a value removes the field
	// Whole returns all fields as they are at Sequence, not later. It is
	// called during Save, when the base is not what is stored.
	Whole func() map[string][]byte
}

// OlderError says which partitions stand at a later sequence in the store and
// were left so. The others were saved.
type OlderError struct{ IDs []PartitionID }

func (e *OlderError) Error() string {
	return fmt.Sprintf("%d partitions are stored at a later sequence, the first %s", len(e.IDs), e.IDs[0].member())
}

// What the script answers.
const (
	saved = iota
	refusedAsOlder
	baseDiffers
)

//go:embed save.lua
var saveSource string

var saveScript = redis.NewScript(saveSource)

// Save stores partitions, each by itself all or nothing. A partition that is
// stored at the same sequence is left as it is, since folds of one sequence
// are equal. The error is an *OlderError when some stand later.
func (s *Store) Save(ctx context.Context, sc Scope, saves []Save) error {
	var older, whole []Save
	send := func(saves []Save, entire bool) error {
		answers, err := s.run(ctx, sc, saves, entire)
		if err != nil {
			return err
		}
		for i, answer := range answers {
			switch answer {
			case refusedAsOlder:
				older = append(older, saves[i])
			case baseDiffers:
				whole = append(whole, saves[i])
			}
		}
		return nil
	}
	var changed []Save
	for _, save := range saves {
		if save.Base == 0 {
			whole = append(whole, save)
		} else {
			changed = append(changed, save)
		}
	}
	if err := send(changed, false); err != nil {
		return err
	}
	if err := send(whole, true); err != nil {
		return err
	}
	if len(older) == 0 {
		return nil
	}
	e := &OlderError{}
	for _, save := range older {
		e.IDs = append(e.IDs, save.ID)
	}
	return e
}

// callLimit is how many arguments a call of the script is filled up with: one
// call holds up a Redis for as long as it runs, and the embedded store starts
// an interpreter for each.
const callLimit = 8192

// call is the saves that one call of the script makes.
type call struct {
	saves []int // indices
	keys  []string
	args  []any
}

// pipelineLimit is how many arguments are on their way at a time: they are in memory several times over.
const pipelineLimit = 4 * callLimit

// run makes saves in pipelines of few calls. A Redis that was restarted has forgotten the script; those calls are made once
// more.
func (s *Store) run(ctx context.Context, sc Scope, saves []Save, entire bool) ([]int64, error) {
	answers := make([]int64, len(saves))
	for from := 0; from < len(saves); {
		var pending []call
		pending, from = gather(sc, saves, from, entire)
		for attempt := 0; len(pending) > 0; attempt++ {
			again, err := s.pipeline(ctx, pending, saves, answers, attempt == 0)
			if err != nil {
				return nil, err
			}
			if pending = again; len(again) > 0 {
				if err := saveScript.Load(ctx, s.client).Err(); err != nil {
					return nil, errors.Join(errors.New("load the script that saves partitions"), err)
				}
			}
		}
	}
	return answers, nil
}

// pipeline makes calls and notes their answers; it returns those whose script was not there, when that is no error.
func (s *Store) pipeline(ctx context.Context, calls []call, saves []Save, answers []int64, unknown bool) (again []call, err error) {
	cmds := make([]*redis.Cmd, len(calls))
	// The first error of the pipeline is one of those looked at below.
	_, _ = s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, c := range calls {
			cmds[i] = saveScript.EvalSha(ctx, p, c.keys, c.args...)
		}
		return nil
	})
	for i, cmd := range cmds {
		c := calls[i]
		got, err := cmd.Int64Slice()
		switch {
		case err == nil && len(got) == len(c.saves):
			for j, at := range c.saves {
				answers[at] = got[j]
			}
		case redis.HasErrorPrefix(err, "NOSCRIPT") && unknown:
			again = append(again, c)
		default:
			return nil, fmt.Errorf("save %d partitions, the first %s: %w", len(c.saves), saves[c.saves[0]].ID.member(), err)
		}
	}
	return again, nil
}

// gather makes calls of the saves from one on, as many as go into a pipeline, and says which is the next.
func gather(sc Scope, saves []Save, from int, entire bool) (calls []call, next int) {
	total := 0
	for next = from; next < len(saves) && total < pipelineLimit; next++ {
		if n := len(calls); n == 0 || len(calls[n-1].args) >= callLimit {
			calls = append(calls, call{keys: []string{sc.index()}})
		}
		c := &calls[len(calls)-1]
		c.saves = append(c.saves, next)
		c.keys = append(c.keys, sc.key(saves[next].ID))
		before := len(c.args)
		c.args = appendArguments(c.args, saves[next], entire)
		total += len(c.args) - before
	}
	return calls, next
}

func appendArguments(args []any, save Save, entire bool) []any {
	fields := save.Changed
	if entire {
		fields = save.Whole()
	}
	head := len(args)
	args = append(args, save.ID.member(), save.Sequence, save.Base, entire, 0, 0)
	var removed []any
	for field, value := range fields {
		if value == nil {
			removed = append(removed, field)
		} else {
			args = append(args, field, value)
		}
	}
	args[head+4], args[head+5] = (len(args)-head-6)/2, len(removed)
	return append(args, removed...)
}
