package gateway

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const askTimeout = 5 * time.Second

// asking gathers questions for the index: while the store answers one lot, the next comes together. A store takes
// hundreds of questions in the time of a few, and the embedded one has this process's processors only.
type asking struct {
	mu      sync.Mutex
	waiting []*question
	busy    bool
}

// question is what sequence a field has.
type question struct {
	field    string
	answered chan struct{}
	sequence uint64 // 0: none
	err      error
}

// ask waits for the answer of a lot that began after it was asked.
func (x *index) ask(ctx context.Context, field string) (uint64, error) {
	q := &question{field: field, answered: make(chan struct{})}
	a := &x.asking
	a.mu.Lock()
	a.waiting = append(a.waiting, q)
	begin := !a.busy
	a.busy = true
	a.mu.Unlock()
	if begin {
		go x.answerAll() //nolint:contextcheck // a lot is answered for all who wait, also when the first of them leaves
	}
	select {
	case <-q.answered:
		return q.sequence, q.err
	case <-ctx.Done():
		return 0, fmt.Errorf("%w: read the index: %w", errAway, ctx.Err())
	}
}

// answerAll answers lot after lot until nobody waits.
func (x *index) answerAll() {
	a := &x.asking
	for {
		a.mu.Lock()
		lot := a.waiting
		a.waiting = nil
		a.busy = len(lot) > 0
		a.mu.Unlock()
		if len(lot) == 0 {
			return
		}
		x.answer(lot)
	}
}

func (x *index) answer(lot []*question) {
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	byKey := make(map[string][]*question, buckets)
	for _, q := range lot {
		key := x.key("ids", q.field)
		byKey[key] = append(byKey[key], q)
	}
	answers := make(map[string]*redis.SliceCmd, len(byKey))
	err := x.look(ctx, func(p redis.Pipeliner) {
		for key, questions := range byKey {
			fields := make([]string, len(questions))
			for i, q := range questions {
				fields[i] = q.field
			}
			answers[key] = p.HMGet(ctx, key, fields...)
		}
	})
	for key, questions := range byKey {
		for i, q := range questions {
			if q.err = err; err == nil {
				q.sequence, q.err = sequenceOf(answers[key], i)
			}
			close(q.answered)
		}
	}
}

// sequenceOf reads one of the answers to a command.
func sequenceOf(answer *redis.SliceCmd, i int) (n uint64, err error) {
	values, err := answer.Result()
	if err == nil && i >= len(values) {
		err = errors.New("an answer is missing")
	}
	if err == nil {
		if text, ok := values[i].(string); ok {
			n, err = strconv.ParseUint(text, 10, 64)
		}
	}
	if err != nil {
		return 0, fmt.Errorf("%w: read the index: %w", errAway, err)
	}
	return n, nil
}
