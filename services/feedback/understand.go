package feedback

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/lemnis/lemnis/internal/privacy"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
)

// Keys opens what users said. The error is [privacy.ErrErased] when a user's key is gone.
type Keys interface {
	Open(ctx context.Context, project, keyID string, ciphertext []byte) ([]byte, error)
}

var _ Keys = (*privacy.Vault)(nil)

// understanding reads each piece of feedback once it is received. Doing it twice says the same again, and is dropped.
func understanding(keys Keys) service.Effect {
	return service.Effect{
		Name: "understand", On: []events.Type{events.TypeOf(events.FeedbackReceived{})}, Parallel: 4,
		Do: func(ctx context.Context, job *service.Job) error {
			u, err := understand(ctx, keys, job.Event)
			if err != nil {
				return err
			}
			return job.Report(ctx, service.Report{Content: u, Key: job.Event.Project, SubjectID: u.Feedback})
		},
	}
}

// understand is what a piece of feedback says, without its words. Without its text, erased or
// never readable, it is understood from rating and feature alone.
func understand(ctx context.Context, keys Keys, e events.Event) (events.Understanding, error) {
	c, ok := e.Content.(events.FeedbackReceived)
	if !ok {
		return events.Understanding{}, events.Reject(fmt.Errorf("%T is no feedback", e.Content))
	}
	u := events.Understanding{Feedback: e.Key, User: c.User, Feature: c.Feature, Service: c.Service, Rating: c.Rating, EventID: e.ID}
	felt := false
	if len(c.Text) > 0 {
		text, err := keys.Open(ctx, e.Project, c.Key, c.Text)
		switch {
		case err == nil:
			u.Category, u.Sentiment, u.Terms = read(e.Project, string(text))
			felt = u.Sentiment != 0
		case errors.Is(err, privacy.ErrErased), errors.Is(err, privacy.ErrUnreadable):
		default:
			return u, fmt.Errorf("open feedback %s: %w", e.Key, err)
		}
	}
	if c.Rating > 0 {
		rated := (c.Rating - 3) / 2
		if felt {
			rated = (rated + u.Sentiment) / 2
		}
		u.Sentiment = rated
	}
	u.Sentiment = math.Round(u.Sentiment*1000) / 1000
	if u.Category == "" || u.Sentiment >= 0.5 {
		// Whoever is happy praises, whatever the words are about.
		u.Category = "other"
		if u.Sentiment > 0 {
			u.Category = "praise"
		}
	}
	return u, nil
}
