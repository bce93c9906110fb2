package natsd_test

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lemnis/lemnis/internal/natsd"
)

// Where there is no CACHE a service's key does not wait for what it may not make, at each of its starts; whoever may makes it.
func TestAServiceDoesNotWaitForTheCache(t *testing.T) {
	c := startClosed(t)
	if err := c.service.DeleteStream(t.Context(), natsd.Cache); err != nil {
		t.Fatal(err)
	}
	_, planner := c.as("planner")
	began := time.Now()
	ensure(t, planner, 1)
	if took := time.Since(began); took > time.Second {
		t.Errorf("it took %s", took)
	}
	if _, err := planner.Stream(t.Context(), natsd.Cache); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Errorf("there is one: %v", err)
	}
	ensure(t, c.service, 1)
	if _, err := planner.Stream(t.Context(), natsd.Cache); err != nil {
		t.Errorf("it is not made again: %v", err)
	}
}
