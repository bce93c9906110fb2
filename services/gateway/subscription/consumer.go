package subscription

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/pkg/events"
)

// principalKey is the metadata by which the wall (internal/natsd) knows whose consumer it is.
const principalKey = "lemnis-principal"

const consumerAckWait = 30 * time.Second

// consumer is the name of a subscription's consumer on the bus: the principal's, so that the wall lets it through.
func (r record) consumer() string { return r.Principal + "-" + r.Spec.Settings.Consumer }

func (r record) filters() []string {
	if len(r.Spec.Types) == 0 {
		return []string{string(events.Stated) + "." + r.Spec.Config.Project + ".>"}
	}
	out := make([]string, len(r.Spec.Types))
	for i, t := range r.Spec.Types {
		out[i] = events.Filter(events.Stated, r.Spec.Config.Project, "", events.Type(t))
	}
	return out
}

// freeConsumer refuses a name that is taken.
func (m *Manager) freeConsumer(ctx context.Context, r record) error {
	_, err := m.host.JS.Consumer(ctx, natsd.Lifecycle, r.consumer())
	switch {
	case errors.Is(err, jetstream.ErrConsumerNotFound):
		return nil
	case err == nil:
		return fail("protocolsettings.consumer", "there is a consumer %s already", r.consumer())
	}
	return fmt.Errorf("look for consumer %s: %w", r.consumer(), err)
}

// createConsumer makes a durable pull consumer that waits for its client however long that stays away.
func (m *Manager) createConsumer(ctx context.Context, r record) error {
	cfg := jetstream.ConsumerConfig{
		Durable: r.consumer(), Description: "subscription " + r.Spec.ID, AckPolicy: jetstream.AckExplicitPolicy, AckWait: consumerAckWait,
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: r.Begin, Metadata: map[string]string{principalKey: r.Principal},
	}
	if filters := r.filters(); len(filters) == 1 {
		cfg.FilterSubject = filters[0]
	} else {
		cfg.FilterSubjects = filters
	}
	_, err := m.host.JS.CreateConsumer(ctx, natsd.Lifecycle, cfg)
	if errors.Is(err, jetstream.ErrConsumerExists) {
		return fail("protocolsettings.consumer", "there is a consumer %s already", r.consumer())
	}
	if err != nil {
		return fmt.Errorf("create consumer %s: %w", r.consumer(), err)
	}
	return nil
}

func (m *Manager) deleteConsumer(ctx context.Context, r record) error {
	err := m.host.JS.DeleteConsumer(ctx, natsd.Lifecycle, r.consumer())
	if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return fmt.Errorf("remove consumer %s: %w", r.consumer(), err)
	}
	return nil
}

// consumerStatus is what the server knows of a consumer.
func (m *Manager) consumerStatus(ctx context.Context, r record) Status {
	s := Status{State: Active, Consumer: r.consumer(), At: time.Now().UTC()}
	c, err := m.host.JS.Consumer(ctx, natsd.Lifecycle, r.consumer())
	switch {
	case errors.Is(err, jetstream.ErrConsumerNotFound):
		s.State, s.Reason = Disabled, "the consumer is gone: somebody has removed it on the bus"
		return s
	case err != nil:
		s.LastError, s.LastErrorAt = "the bus does not answer", s.At
		return s
	}
	i := c.CachedInfo()
	s.Sequence, s.Settled = i.Delivered.Stream, i.AckFloor.Stream
	s.Lag, s.Waiting, s.Delivered = i.NumPending+uint64(i.NumAckPending), i.NumAckPending, i.Delivered.Consumer
	return s
}
