package natsd_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/internal/natsd/natsdtest"
)

// Services that start together with their cluster ask when nobody leads yet, and what they ask then is dropped without an answer.
// They go on once somebody does, and all of them find the same streams and buckets.
func TestEnsureInAClusterThatOnlyBegins(t *testing.T) {
	members, err := natsdtest.Members(t.TempDir(), 3)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	var (
		wg         sync.WaitGroup
		mu         sync.Mutex
		identities = map[string]int{}
		began      = time.Now()
	)
	for _, o := range members {
		s := start(t, o)
		for range 3 {
			asked := make(chan struct{})
			var once sync.Once
			nc, js := connect(t, s.Connect)
			wg.Go(func() {
				// Only when the question is on its way the next server starts.
				if _, err := nc.Request("$JS.API.INFO", nil, time.Millisecond); err == nil {
					t.Log("the first question was answered")
				}
				once.Do(func() { close(asked) })
				identity, err := natsd.EnsureStreams(ctx, js, 3)
				if err == nil {
					_, err = natsd.EnsureBucket(ctx, js, jetstream.KeyValueConfig{Bucket: "ANY", Replicas: 3})
				}
				if err != nil {
					t.Errorf("after %s: %v", time.Since(began), err)
				}
				mu.Lock()
				defer mu.Unlock()
				identities[identity]++
			})
			<-asked
		}
	}
	wg.Wait()
	t.Logf("all is there after %s", time.Since(began))
	if len(identities) != 1 {
		t.Errorf("identities %v, want one", identities)
	}
}

// A bus that answers nothing is given up when the caller says so, and the error says what may be missing.
func TestEnsureWithoutAnAnswer(t *testing.T) {
	members, err := natsdtest.Members(t.TempDir(), 3)
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, members[0]) // and no other: it has no leader
	_, js := connect(t, s.Connect)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if _, err := natsd.EnsureStreams(ctx, js, 3); err == nil || !strings.Contains(err.Error(), "no leader") {
		t.Errorf("without a leader: %v", err)
	}
}
