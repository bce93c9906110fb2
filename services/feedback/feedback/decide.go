package feedback

import (
	"fmt"

	"github.com/lemnis/lemnis/pkg/events"
)

const (
	longestID   = 200       // bytes
	longestText = 256 << 10 // bytes of ciphertext
)

// Decide takes a piece of feedback once.
func Decide(key string, s State, p events.Project, e events.Event) (events.Fact, bool) {
	c, ok := e.Content.(events.FeedbackReceived)
	if !ok || e.Kind != events.Claim {
		return events.Fact{}, false
	}
	switch {
	case s.Received:
		return events.Refuse(e, fmt.Sprintf("feedback %s was received already; give another piece another id", key))
	case len(key) > longestID:
		return events.Refuse(e, fmt.Sprintf("the id has %d bytes; %d at most", len(key), longestID))
	case c.User == "":
		return events.Refuse(e, "say whose feedback it is: without a user nobody can count how many say the same")
	case c.Rating != 0 && (c.Rating < 1 || c.Rating > 5):
		return events.Refuse(e, fmt.Sprintf("the rating %g has to be 1 to 5, or left out", c.Rating))
	case len(c.Text) == 0 && c.Rating == 0:
		return events.Refuse(e, "it says nothing: give a text or a rating")
	case len(c.Text) > longestText:
		return events.Refuse(e, fmt.Sprintf("the text has %d bytes; %d at most", len(c.Text), longestText))
	case len(c.Text) > 0 && c.Key == "":
		return events.Refuse(e, "the text is not encrypted under a user's key: send feedback to POST /feedback, which does that")
	}
	if c.Service == "" {
		for _, f := range p.Features {
			if f.Name == c.Feature {
				c.Service = f.Service
			}
		}
	}
	return events.Fact{Content: c}, true
}
