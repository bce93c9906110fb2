package chaos

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// readFolds reads the folds that the services keep in Redis: "<key> <field>" to what stands there.
func readFolds(ctx context.Context, s *Stack) (map[string]string, error) {
	client := s.RedisClient()
	defer func() { _ = client.Close() }()
	all := map[string]string{}
	keys := client.Scan(ctx, 0, "fold:{"+s.Identity+"/*}:*", 1000).Iterator()
	for keys.Next(ctx) {
		key := keys.Val()
		if kind, err := client.Type(ctx, key).Result(); err != nil || kind != "hash" {
			continue
		}
		hash, err := client.HGetAll(ctx, key).Result()
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", key, err)
		}
		for field, value := range hash {
			all[key+" "+field] = value
		}
	}
	return all, keys.Err()
}

// differences between the folds that were remembered and those of the stream alone.
func differences(remembered, anew map[string]string) (all []Finding) {
	const most = 20
	for _, key := range slices.Sorted(maps.Keys(anew)) {
		if !strings.HasSuffix(key, " sequence") && !strings.Contains(key, "/") {
			continue
		}
		switch was, ok := remembered[key]; {
		case len(all) >= most:
			return all
		case !ok:
			all = append(all, Finding{Lost, fmt.Sprintf("the fold %s was not remembered", key)})
		case was != anew[key]:
			all = append(all, Finding{Stray, fmt.Sprintf("the fold %s was remembered as %.300s; the stream says %.300s", key, was, anew[key])})
		}
	}
	for _, key := range slices.Sorted(maps.Keys(remembered)) {
		if _, ok := anew[key]; !ok && len(all) < most {
			all = append(all, Finding{Stray, fmt.Sprintf("the fold %s was remembered; the stream says nothing of it", key)})
		}
	}
	return all
}
