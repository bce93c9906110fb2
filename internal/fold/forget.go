package fold

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// Forget takes away all partitions that were saved under the scope, after the position of that name, by which their
// completeness is known. What is saved afterwards has no base.
func (s *Store) Forget(ctx context.Context, name string, sc Scope) error {
	if err := s.client.Del(ctx, positionKey(name)).Err(); err != nil {
		return fmt.Errorf("forget the position of %s: %w", name, err)
	}
	members, err := s.client.SMembers(ctx, sc.index()).Result()
	if err != nil {
		return fmt.Errorf("list the saved partitions: %w", err)
	}
	for len(members) > 0 {
		batch := members[:min(loadBatch, len(members))]
		members = members[len(batch):]
		_, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, member := range batch {
				id, err := parseMember(member)
				if err != nil {
					return err
				}
				p.Unlink(ctx, sc.key(id))
				p.SRem(ctx, sc.index(), member)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("forget saved partitions: %w", err)
		}
	}
	return nil
}
