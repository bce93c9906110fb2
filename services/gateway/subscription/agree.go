package subscription

import (
	"context"
	"errors"
	"time"
)

// begin reads how far the subscription has come.
func (w *worker) begin(ctx context.Context) error {
	s, revision, err := w.store.state(ctx, w.record.Spec.ID)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if errors.Is(err, ErrNotFound) {
		s = state{State: Pending, Read: w.record.Begin - 1}
	}
	if s.Generation != w.record.Generation {
		s.Generation = w.record.Generation
		if s.State != Active || s.Sink != w.record.Spec.Sink {
			s.State, s.Reason, s.Sink, s.Rate = Pending, "", "", 0
		}
	}
	s.takeUp(w.record.Again)
	w.mu.Lock()
	w.s, w.revision = s, revision
	w.mu.Unlock()
	return nil
}

// agree asks the sink until it agrees.
func (w *worker) agree(ctx context.Context) error {
	spec := &w.record.Spec
	for tries := 1; w.status().State != Active; tries++ {
		if err := w.prepare(); err != nil {
			w.note(Pending, err.Error())
		} else {
			g := ask(ctx, w.clients, w.patience.Timeout, spec.Sink, w.manager.options.Origin, spec.Config.Rate, spec.Settings.Headers)
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case g.ok:
				w.mu.Lock()
				w.s.State, w.s.Reason, w.s.Sink, w.s.Rate = Active, "", spec.Sink, g.rate
				w.mu.Unlock()
			case g.answer:
				w.note(Refused, g.reason)
			default:
				w.note(Pending, g.reason)
			}
		}
		if err := w.save(ctx); err != nil {
			return err
		}
		if w.status().State != Active {
			wait := widest(w.patience.Handshake, w.patience.Most, tries)
			if !pause(ctx, wait/2+backoff(wait/2, wait/2, 1)) {
				return ctx.Err()
			}
		}
	}
	return w.prepare()
}

func (w *worker) prepareKey() error {
	secret := w.record.Secret
	if reference := w.record.Spec.Config.Secret; reference != "" {
		var err error
		if secret, err = readSecret(w.manager.options.SecretsDir, w.record.Spec.Config.Project, reference); err != nil {
			return err
		}
	}
	key, err := keyOf(secret)
	if err != nil {
		return err
	}
	w.signer = newSigner(key)
	return nil
}

func (w *worker) note(to, reason string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.s.State, w.s.Reason = to, reason
	w.s.LastError, w.s.LastErrorAt = reason, time.Now().UTC()
}
