package fold_test

import (
	"fmt"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/lemnis/lemnis/internal/fold"
)

const benchPartitions = 64

func fields(n int) map[string][]byte {
	m := make(map[string][]byte, n)
	for i := range n {
		m[fmt.Sprintf("item/%06d", i)] = make([]byte, 200)
	}
	return m
}

func BenchmarkSave64PartitionsOf100Changed(b *testing.B) {
	for name, open := range stores {
		b.Run(name, func(b *testing.B) {
			s := open(b)
			changed := fields(100)
			saves := make([]fold.Save, benchPartitions)
			for i := range saves {
				saves[i] = fold.Save{ID: fold.PartitionID{Project: "shop", Partition: i}, Sequence: 1, Changed: changed, Whole: whole(changed)}
			}
			for b.Loop() {
				if err := s.Save(b.Context(), scope, saves); err != nil {
					b.Fatal(err)
				}
				for i := range saves {
					saves[i].Base, saves[i].Sequence = saves[i].Sequence, saves[i].Sequence+1
				}
			}
		})
	}
}

func BenchmarkLoad64PartitionsOf1000(b *testing.B) {
	for name, open := range stores {
		b.Run(name, func(b *testing.B) {
			s := open(b)
			all := fields(1000)
			var saves []fold.Save
			for i := range benchPartitions {
				saves = append(saves, fold.Save{ID: fold.PartitionID{Project: "shop", Partition: i}, Sequence: 1, Whole: whole(all)})
			}
			if err := s.Save(b.Context(), scope, saves); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				loaded, err := s.Load(b.Context(), scope)
				if err != nil || len(loaded) != benchPartitions {
					b.Fatal(len(loaded), err)
				}
			}
		})
	}
}

// BenchmarkManyKeys is a command on a store of 10,000 keys.
func BenchmarkManyKeys(b *testing.B) {
	store, err := fold.Embedded("")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	_, err = store.Client().Pipelined(b.Context(), func(p redis.Pipeliner) error {
		for i := range 10_000 {
			p.Set(b.Context(), fmt.Sprintf("key%d", i), i, 0)
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := store.Client().Get(b.Context(), "key1").Err(); err != nil {
			b.Fatal(err)
		}
	}
}
