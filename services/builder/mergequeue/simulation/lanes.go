package simulation

import (
	"strconv"

	"github.com/lemnis/lemnis/services/builder/mergequeue"
)

// lanes is Lemnis's queue.
type lanes struct {
	queue  mergequeue.Queue
	builds map[int]*build
}

func newLanes() *lanes { return &lanes{builds: map[int]*build{}} }

func (l *lanes) came(w *world, c *change) {
	l.queue.Clash = w.Conflict / w.Overlap
	l.queue.Apply(mergequeue.Step{Do: mergequeue.Enter, Entered: &mergequeue.Change{
		ID: strconv.Itoa(c.id), Since: c.came, Risk: w.Failure, Writes: c.packages, Reads: c.packages}})
	l.plan(w)
}

func (l *lanes) ended(w *world, b *build) {
	outcome := mergequeue.Failed
	if b.ok {
		outcome = mergequeue.Passed
	}
	l.queue.Apply(mergequeue.Step{Do: mergequeue.Finish, Build: b.place.(int), Outcome: outcome})
	l.plan(w)
}

func (l *lanes) plan(w *world) {
	for {
		var landed []string
		for _, s := range l.queue.Plan(w.Slots, w.now) {
			switch s.Do {
			case mergequeue.Start:
				u, _ := l.queue.Unit(s.Unit)
				var on []*change
				for _, id := range s.Assumed {
					a, _ := l.queue.Unit(id)
					on = append(on, changes(w, a.Changes)...)
				}
				l.builds[s.Build] = w.start(on, changes(w, u.Changes), s.Build)
			case mergequeue.Land:
				u, _ := l.queue.Unit(s.Unit)
				for _, c := range changes(w, u.Changes) {
					w.merge(c)
				}
				landed = append(landed, u.Changes...)
			case mergequeue.Eject:
				w.reject(changes(w, []string{s.Change})[0])
			}
		}
		for _, id := range landed {
			l.queue.Apply(mergequeue.Step{Do: mergequeue.Landed, Change: id})
		}
		l.drop(w)
		if len(landed) == 0 {
			return
		}
	}
}

// drop cancels the builds that the queue has let go of.
func (l *lanes) drop(w *world) {
	for id, b := range l.builds {
		if _, matters := l.queue.Build(id); matters {
			continue
		}
		w.cancel(b)
		delete(l.builds, id)
	}
}

func changes(w *world, ids []string) []*change {
	all := make([]*change, len(ids))
	for i, id := range ids {
		n, _ := strconv.Atoi(id)
		all[i] = w.all[n]
	}
	return all
}
