package subscription

import (
	"context"
	"time"
)

// View is a subscription as it is shown.
type View struct {
	Subscription
	// Secret is what deliveries are signed with. It is there once: in the answer to the creation.
	Secret  string    `json:"signingsecret,omitempty"`
	Created time.Time `json:"created"`
	Changed time.Time `json:"changed"`
	Status  Status    `json:"status"`
}

// Status is how a subscription fares.
type Status struct {
	State        string    `json:"state"`                 // pending, refused, active, disabled
	Reason       string    `json:"reason,omitempty"`      // why it is not active
	Sequence     uint64    `json:"sequence,omitempty"`    // of the fact that was delivered last
	Settled      uint64    `json:"settled"`               // every wanted fact up to here is delivered or dead-lettered
	Lag          uint64    `json:"lag"`                   // places on the stream between that and the last fact
	Waiting      int       `json:"waiting"`               // facts that are on their way
	Delivered    uint64    `json:"delivered"`             // how many so far
	Retried      uint64    `json:"retried"`               // tries that failed, but not for good
	DeadLettered uint64    `json:"deadlettered"`          // facts that were given up
	Unjudged     uint64    `json:"unjudged,omitempty"`    // facts that a filter failed on; they are not delivered
	Rate         int       `json:"allowedrate,omitempty"` // deliveries a minute that the sink allows
	LastError    string    `json:"lasterror,omitempty"`   //
	LastErrorAt  time.Time `json:"lasterrorat,omitzero"`  //
	Consumer     string    `json:"consumer,omitempty"`    // NATS: what to ask for the facts
	At           time.Time `json:"at,omitzero"`           // when all this was so
}

// view joins what was asked for with how it fares, as this gateway knows it or as the delivering one has written it.
func (m *Manager) view(ctx context.Context, r record, s state) View {
	v := View{Subscription: r.Spec.masked(), Created: r.Created, Changed: r.Changed}
	if r.Spec.Protocol == NATS {
		v.Status = m.consumerStatus(ctx, r)
		return v
	}
	m.mu.Lock()
	w := m.working[r.Spec.ID]
	m.mu.Unlock()
	if w != nil && w.record.Generation == r.Generation {
		if now := w.status(); now.Generation == r.Generation {
			s = now
		}
	}
	if s.Generation < r.Generation && s.State != Active {
		s.State, s.Reason = Pending, ""
	}
	settled := s.Read
	if len(s.Open) > 0 {
		settled = s.Open[0].Sequence - 1
	}
	v.Status = Status{
		State: s.State, Reason: s.Reason, Sequence: s.Sequence, Settled: settled, Lag: s.Lag, Waiting: s.Waiting, Delivered: s.Delivered,
		Retried: s.Retried, DeadLettered: s.DeadLettered, Unjudged: s.Unjudged, Rate: s.Rate, LastError: s.LastError, LastErrorAt: s.LastErrorAt, At: s.At,
	}
	return v
}
