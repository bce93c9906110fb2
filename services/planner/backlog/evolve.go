package backlog

import (
	"slices"

	"github.com/lemnis/lemnis/pkg/events"
)

// rememberedReleases bounds the names that may not be used again.
const rememberedReleases = 100

// Evolve folds a fact of the backlog.
func Evolve(s State, fact events.Event) State {
	switch c := fact.Content.(type) {
	case events.BacklogRanked:
		return evolveOrder(s, fact, c)
	case events.ReleasePlanned:
		return evolvePlan(s, fact, c)
	case events.ReleaseCompleted:
		if s.Release != nil && s.Release.Name == c.Release {
			s.Release = nil
		}
		s.Leaving = slices.DeleteFunc(slices.Clone(s.Leaving), func(r Release) bool { return r.Name == c.Release })
		s.Done = append(slices.Clone(s.Done), c.Release)
		s.Done = s.Done[max(0, len(s.Done)-rememberedReleases):]
	}
	return s
}

func evolveOrder(s State, fact events.Event, c events.BacklogRanked) State {
	s.Items, s.Order = make(map[string]Item, len(c.Places)), make([]string, 0, len(c.Places))
	for _, p := range c.Places {
		s.Items[p.Item] = Item{Title: p.Title, Value: p.Value, Cost: p.Cost}
		s.Order = append(s.Order, p.Item)
	}
	for _, l := range fact.Links {
		switch {
		case l.Type != events.Relation:
		case l.Kind == requires:
			require(s.Items, l)
		case l.Kind == closed:
			item, resolution := l.Tags[tagItem], l.Tags[tagResolution]
			if s.Release != nil {
				r := s.Release.closing(item, resolution)
				s.Release = &r
			}
			s.Leaving = slices.Clone(s.Leaving)
			for i := range s.Leaving {
				s.Leaving[i] = s.Leaving[i].closing(item, resolution)
			}
		}
	}
	return s
}

func evolvePlan(s State, fact events.Event, c events.ReleasePlanned) State {
	r := Release{Name: c.Release}
	if old := s.Release; old != nil && old.Name == c.Release {
		// Planned again under its name: what was already done stays part of it.
		r.Closed = old.Closed
		for _, id := range old.Items {
			if old.Closed[id] != "" {
				r.Items = append(r.Items, id)
			}
		}
	} else if old != nil {
		s.Leaving = append(slices.Clone(s.Leaving), *old)
	}
	s.Release = nil
	if len(c.Items) > 0 {
		for _, p := range c.Items {
			r.Items = append(r.Items, p.Item)
		}
		s.Release = &r
	}
	s.Releases++
	s.Timer = ""
	if !fact.Deadline.IsZero() {
		s.Timer = fact.ID
	}
	return s
}
