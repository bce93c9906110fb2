package subscription

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// How the dead letters of subscriptions are named: where they are from, and before the subscription's id.
const (
	DeadLetters  = "subscriptions"
	LetterPrefix = "subscription/"
)

const (
	mostAgain    = 1000 // that are remembered of one subscription
	resendTrials = 10   // when others change the subscription at the same time
)

// Resend lets a subscription deliver a fact that it has given up, once for each number. A sink that was disabled is asked
// anew. The error is [ErrNotFound], [ErrConflict] or the bus's.
func (m *Manager) Resend(ctx context.Context, id string, number, sequence uint64) error {
	kept, err := m.store(ctx)
	if err != nil {
		return err
	}
	for range resendTrials {
		r, revision, err := kept.record(ctx, id)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(r.Again, func(a resending) bool { return a.Number == number }) {
			return nil
		}
		next := resending{Place: 1, Number: number, Sequence: sequence}
		if n := len(r.Again); n > 0 {
			next.Place = r.Again[n-1].Place + 1
		}
		if r.Again = append(r.Again, next); len(r.Again) > mostAgain {
			s, _, err := kept.state(ctx, id)
			if err != nil && !errors.Is(err, ErrNotFound) {
				return err
			}
			if s.Again < r.Again[0].Place {
				return fmt.Errorf("%w: %d facts wait to be sent again already", ErrConflict, mostAgain)
			}
			r.Again = r.Again[1:]
		}
		r.Generation++
		_, err = kept.put(ctx, recordPrefix+id, r, revision)
		if !errors.Is(err, ErrConflict) {
			return err
		}
	}
	return ErrConflict
}

// askedAgain is the number by which a fact was asked for after all the last time, 0 where it was not.
func (r *record) askedAgain(sequence uint64) uint64 {
	for _, a := range slices.Backward(r.Again) {
		if a.Sequence == sequence {
			return a.Number
		}
	}
	return 0
}

// takeUp opens what is to be delivered after all.
func (s *state) takeUp(waiting []resending) {
	for _, a := range waiting {
		if a.Place <= s.Again {
			continue
		}
		s.Again = a.Place
		if !slices.ContainsFunc(s.Open, func(u unsettled) bool { return u.Sequence == a.Sequence }) {
			s.Open = append(s.Open, unsettled{Sequence: a.Sequence})
		}
	}
}
