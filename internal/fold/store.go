package fold

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/lemnis/lemnis/internal/secret"
)

// Store is a Redis or the embedded store.
type Store struct {
	client   *redis.Client
	embedded *embedded // nil for a Redis
}

// Open connects to a Redis, as At names it. It fails when the Redis does not
// answer.
func Open(ctx context.Context, addresses string) (*Store, error) {
	s, err := At(addresses)
	if err != nil {
		return nil, err
	}
	if err := s.Reach(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// At is a Redis that need not be there yet: redis://[user:password@]host:port/db,
// rediss:// for TLS, unix://path for a socket. Several, separated by commas, are
// used one at a time: the first that answers, until it does not any more. The
// error does not quote the address, which may hold a password.
func At(addresses string) (*Store, error) {
	var all []*redis.Options
	for address := range strings.SplitSeq(addresses, ",") {
		opts, err := redis.ParseURL(address)
		if err != nil {
			return nil, fmt.Errorf("redis address: %w", secret.RedactError(err))
		}
		all = append(all, opts)
	}
	opts := all[0]
	if len(all) > 1 {
		var err error
		if opts, err = together(all); err != nil {
			return nil, err
		}
	}
	opts.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return &Store{client: redis.NewClient(opts)}, nil
}

// Reach says why the store does not answer; nil when it does.
func (s *Store) Reach(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	if err := s.client.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("reach redis: %w", err)
	}
	return nil
}

// reachTimeout bounds one try.
const reachTimeout = 5 * time.Second

// Client is for read models and rate windows, which choose their own keys:
// other than fold: and position:.
func (s *Store) Client() *redis.Client { return s.client }

// Close writes the embedded store's snapshot, if it has one, and ends the
// connections.
func (s *Store) Close() error {
	if s.embedded == nil {
		return s.client.Close()
	}
	return s.embedded.close(s.client)
}

// ErrMoved says that a read model does not stand where the caller believes:
// the store was wiped, or somebody else is writing it.
var ErrMoved = errors.New("the read model stands elsewhere")

// Position is the sequence that the read model of that name stands at, 0 when
// there is none. The name carries what the model depends on; Scope.Name makes
// one.
func (s *Store) Position(ctx context.Context, name string) (uint64, error) {
	return position(ctx, s.client, name)
}

// Mark is a text that the store has until it is wiped: whoever reads or writes it in several steps knows by it whether it still was
// the same store at the last one. Where there is none it is made.
func (s *Store) Mark(ctx context.Context) (string, error) {
	if err := s.client.SetNX(ctx, markKey, rand.Text(), 0).Err(); err != nil {
		return "", fmt.Errorf("mark the store: %w", err)
	}
	mark, err := mark(ctx, s.client)
	if err == nil && mark == "" {
		err = ErrMoved // wiped in between
	}
	return mark, err
}

const markKey = "fold:mark"

func mark(ctx context.Context, c redis.Cmdable) (string, error) {
	text, err := c.Get(ctx, markKey).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return "", fmt.Errorf("read the mark of the store: %w", err)
	}
	return text, nil
}

// Advance moves the read model of that name from one sequence to another, and
// with it runs the commands that apply queues, all or nothing. When the model
// does not stand at from, nothing happens and the error is ErrMoved.
func (s *Store) Advance(ctx context.Context, name string, from, to uint64, apply func(redis.Pipeliner) error) error {
	return s.advance(ctx, name, "", from, to, apply)
}

// AdvanceMarked moves the read model of that name from one sequence to another, in a store that still has the mark. Otherwise nothing
// happens and the error is ErrMoved.
func (s *Store) AdvanceMarked(ctx context.Context, name, mark string, from, to uint64) error {
	return s.advance(ctx, name, mark, from, to, func(redis.Pipeliner) error { return nil })
}

func (s *Store) advance(ctx context.Context, name, marked string, from, to uint64, apply func(redis.Pipeliner) error) error {
	watched := []string{positionKey(name)}
	if marked != "" {
		watched = append(watched, markKey)
	}
	err := s.client.Watch(ctx, func(tx *redis.Tx) error {
		at, err := position(ctx, tx, name)
		if err != nil {
			return err
		}
		if at != from {
			return ErrMoved
		}
		if marked != "" {
			switch now, err := mark(ctx, tx); {
			case err != nil:
				return err
			case now != marked:
				return ErrMoved
			}
		}
		_, err = tx.TxPipelined(ctx, func(p redis.Pipeliner) error {
			if err := apply(p); err != nil {
				return err
			}
			p.Set(ctx, positionKey(name), to, 0)
			return nil
		})
		return err
	}, watched...)
	if errors.Is(err, redis.TxFailedErr) {
		return ErrMoved
	}
	return err
}

const positionPrefix = "position:"

func positionKey(name string) string { return positionPrefix + name }

func position(ctx context.Context, c redis.Cmdable, name string) (uint64, error) {
	text, err := c.Get(ctx, positionKey(name)).Result()
	if errors.Is(err, redis.Nil) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the position of %s: %w", name, err)
	}
	at, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read the position of %s: %w", name, err)
	}
	return at, nil
}
