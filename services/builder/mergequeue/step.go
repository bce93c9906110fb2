package mergequeue

import "slices"

// Verb says what a step does.
type Verb string

// The verbs. What happens to the queue from the outside comes first, what the queue decides after it.
const (
	Enter  Verb = "enter"  // Entered joins, as the last
	Touch  Verb = "touch"  // it was found out what Entered touches
	Leave  Verb = "leave"  // Change leaves, whatever became of it
	Finish Verb = "finish" // Build ended with Outcome
	Landed Verb = "landed" // Change is in the master copy
	Fall   Verb = "fall"   // Unit was to land, and fails on the master copy as it stands by now; Build found that out
	Part   Verb = "part"   // Unit can not be built as one; each of its changes becomes a unit, numbered from the first of Units on

	Seal   Verb = "seal"   // Changes, of which none is in a unit, become Unit
	Start  Verb = "start"  // Build of Unit begins, on Assumed
	Cancel Verb = "cancel" // Build does not matter any more
	Land   Verb = "land"   // Unit passed and is to become the master copy
	Split  Verb = "split"  // Unit failed; its Changes become Units, the first At of them and the others
	Eject  Verb = "eject"  // Unit, of one change, fails: its change leaves; Build found that out
)

// Step is one thing that happens to the queue. Which fields count depends on Do.
type Step struct {
	Do      Verb       `json:"do"`
	Entered *Change    `json:"entered,omitempty"`
	Change  string     `json:"change,omitempty"`
	Changes []string   `json:"changes,omitempty"`
	Unit    int        `json:"unit,omitempty"`
	Units   [2]int     `json:"units,omitzero"`
	Risks   [2]float64 `json:"risks,omitzero"` // of Units, by what their failure together says
	At      int        `json:"at,omitempty"`
	Build   int        `json:"build,omitempty"`
	Assumed []int      `json:"assumed,omitempty"`
	Outcome Outcome    `json:"outcome,omitempty"`
}

// Apply lets a step happen. One that names what is not there changes nothing.
func (q *Queue) Apply(s Step) {
	q.Last = max(q.Last, s.Unit, s.Build, s.Units[0], s.Units[1])
	switch s.Do {
	case Enter:
		if _, there := q.Change(s.Entered.ID); !there {
			q.Changes = append(q.Changes, *s.Entered)
		}
	case Touch:
		if i := slices.IndexFunc(q.Changes, func(c Change) bool { return c.ID == s.Entered.ID }); i >= 0 {
			q.Changes[i].Writes, q.Changes[i].Reads = s.Entered.Writes, s.Entered.Reads
		}
	case Leave:
		q.leave(s.Change)
	case Landed:
		q.landed(s.Change)
	case Finish:
		if i := slices.IndexFunc(q.Builds, func(b Build) bool { return b.ID == s.Build }); i >= 0 {
			q.Builds[i].Outcome = s.Outcome
		}
	case Seal:
		q.Units = append(q.Units, Unit{ID: s.Unit, Changes: s.Changes, Risk: joint(q.changes(s.Changes))})
	case Start:
		q.Builds = append(q.Builds, Build{ID: s.Build, Unit: s.Unit, Assumed: s.Assumed})
	case Cancel:
		q.Builds = slices.DeleteFunc(q.Builds, func(b Build) bool { return b.ID == s.Build })
	case Land:
		if i := q.unit(s.Unit); i >= 0 {
			q.Units[i].Landing, q.Units[i].Risk = true, 0
		}
	case Fall:
		if i := q.unit(s.Unit); i >= 0 && q.Units[i].Landing {
			q.Units[i].Landing, q.Units[i].Risk = false, 1
			q.Builds = slices.DeleteFunc(q.Builds, func(b Build) bool { return b.Unit == s.Unit || b.ID == s.Build })
			q.Builds = append(q.Builds, Build{ID: s.Build, Unit: s.Unit, Outcome: Failed})
		}
	case Part:
		q.part(s)
	case Split:
		q.split(s)
	case Eject:
		if u, ok := q.Unit(s.Unit); ok {
			q.leave(u.Changes[0])
		}
	}
}

// leave takes a change out. Of what was learned about its unit nothing holds any more.
func (q *Queue) leave(change string) {
	if i := q.of(change); i >= 0 {
		u := &q.Units[i]
		id := u.ID
		u.Changes = slices.DeleteFunc(slices.Clone(u.Changes), func(c string) bool { return c == change })
		u.After, u.Doomed, u.Landing = 0, false, false
		u.Risk = joint(q.changes(u.Changes))
		if len(u.Changes) == 0 {
			q.Units = slices.Delete(q.Units, i, i+1)
		}
		q.forget(id)
		q.Builds = slices.DeleteFunc(q.Builds, func(b Build) bool { return b.Unit == id || slices.Contains(b.Assumed, id) })
	}
	q.Changes = slices.DeleteFunc(q.Changes, func(c Change) bool { return c.ID == change })
}

// forget lets go of what was known of other units upon this one.
func (q *Queue) forget(unit int) {
	for i := range q.Units {
		if q.Units[i].After == unit {
			q.Units[i].After = 0
			q.Units[i].Risk = joint(q.changes(q.Units[i].Changes))
		}
	}
}

// landed notes that a change is in the master copy; with the last of its unit, the unit is.
func (q *Queue) landed(change string) {
	i := q.of(change)
	if i < 0 {
		return
	}
	u := q.Units[i]
	for j := range q.Changes {
		if q.Changes[j].ID == change {
			q.Changes[j].Landed = true
		}
	}
	if slices.ContainsFunc(q.changes(u.Changes), func(c Change) bool { return !c.Landed }) {
		return
	}
	// What was built without it, and had to be built on it, is worth nothing; for the others it is a part of the master copy now.
	q.Builds = slices.DeleteFunc(q.Builds, func(b Build) bool {
		at := q.unit(b.Unit)
		return b.Unit == u.ID || at > i && !slices.Contains(b.Assumed, u.ID) && overlap(q.changes(u.Changes), q.changes(q.Units[at].Changes))
	})
	for j, b := range q.Builds {
		q.Builds[j].Assumed = slices.DeleteFunc(slices.Clone(b.Assumed), func(id int) bool { return id == u.ID })
	}
	for j := range q.Units {
		if q.Units[j].After == u.ID {
			q.Units[j].After, q.Units[j].Risk, q.Units[j].Doomed = 0, 1, true
		}
	}
	done := q.changes(u.Changes)
	q.Units = slices.Delete(q.Units, i, i+1)
	q.Changes = slices.DeleteFunc(q.Changes, func(c Change) bool { return slices.Contains(u.Changes, c.ID) })
	q.expect(done)
}

// expect lets the risk of those that stay grow with what was merged since they came.
func (q *Queue) expect(merged []Change) {
	for i, c := range q.Changes {
		for _, m := range merged {
			if !c.known() || !m.known() || !c.overlaps(m) {
				continue
			}
			q.Changes[i].Risk = either(q.Changes[i].Risk, q.Clash)
			if at := q.of(c.ID); at >= 0 && !q.Units[at].Landing && !q.Units[at].Doomed {
				q.Units[at].Risk = either(q.Units[at].Risk, q.Clash)
			}
		}
	}
}

// either is the probability that at least one of two independent things happens.
func either(p, q float64) float64 { return 1 - (1-p)*(1-q) }

func (q *Queue) split(s Step) {
	i := q.unit(s.Unit)
	if i < 0 {
		return
	}
	u := q.Units[i]
	first := Unit{ID: s.Units[0], Changes: u.Changes[:s.At:s.At], Risk: s.Risks[0]}
	second := Unit{ID: s.Units[1], Changes: u.Changes[s.At:], Risk: s.Risks[1], After: first.ID}
	q.forget(u.ID)
	q.Units = slices.Replace(q.Units, i, i+1, first, second)
	q.Builds = slices.DeleteFunc(q.Builds, func(b Build) bool { return b.Unit == u.ID || slices.Contains(b.Assumed, u.ID) })
}

func (q *Queue) part(s Step) {
	i := q.unit(s.Unit)
	if i < 0 {
		return
	}
	u := q.Units[i]
	var alone []Unit
	for n, c := range q.changes(u.Changes) {
		alone = append(alone, Unit{ID: s.Units[0] + n, Changes: []string{c.ID}, Risk: c.Risk})
	}
	q.Last = max(q.Last, alone[len(alone)-1].ID)
	q.forget(u.ID)
	q.Units = slices.Replace(q.Units, i, i+1, alone...)
	q.Builds = slices.DeleteFunc(q.Builds, func(b Build) bool { return b.Unit == u.ID || slices.Contains(b.Assumed, u.ID) })
}
