package lesson

import "github.com/lemnis/lemnis/pkg/events"

// Evolve folds a fact of the lesson.
func Evolve(s State, fact events.Event) State {
	if _, ok := fact.Content.(events.LessonLearned); ok {
		s.Learned = true
	}
	return s
}
