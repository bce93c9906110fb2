// Package eventstest builds events for tests and drives handlers without a server.
//
//	verdicts := eventstest.Deliver(t, handler,
//		eventstest.Fact(events.ChangeMerged{Lemnis: events.MergeDetail{Commit: "9a8b"}}, eventstest.Key("42")),
//	)
//	if verdicts[0].Action != eventstest.Done { … }
//
// It is for tests: production code has no use for it.
package eventstest
