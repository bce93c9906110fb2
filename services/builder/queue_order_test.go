package builder_test

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/lemnis/lemnis/internal/service/rulestest"
	"github.com/lemnis/lemnis/pkg/events"

	"github.com/lemnis/lemnis/services/builder"
)

// host is a repository and the workers of a queue, in memory: they do what the effects do, and die, repeat themselves and come
// late as rapid likes. It knows which changes are bad and which pairs break the master copy.
type host struct {
	t       *rapid.T
	stream  *rulestest.Stream
	master  []string            // commits of the master copy, oldest first
	holds   map[string][]string // heads in a commit
	bad     map[string]bool     // heads
	clash   map[string]bool     // pairs of heads
	refused map[string]bool     // heads that may not be pushed to the master copy
	alone   map[string]int      // head, to the round from which it is merged together with no other
	touches map[string]string   // head, to what it touches; empty: everything
	jobs    []*job
	scanned int
	stood   []string        // where the master copy stood as each event came, some of it not reported yet
	over    map[string]bool // runs
	pushed  int
	errs    bool // machinery fails now and then
	broken  bool // and from now on always
}

func (h *host) tip() string { return h.master[len(h.master)-1] }

func (h *host) green(heads []string) bool {
	for i, a := range heads {
		if h.bad[a] {
			return false
		}
		for _, b := range heads[:i] {
			if h.clash[a+b] || h.clash[b+a] {
				return false
			}
		}
	}
	return true
}

// couple makes the commit of a head upon another, the same whoever makes it.
func (h *host) couple(onto, head string) string {
	c := merged(onto, head)
	h.holds[c] = append(slices.Clone(h.holds[onto]), head)
	return c
}

func (h *host) hire() {
	for ; h.scanned < len(h.stream.Events); h.scanned++ {
		e := h.stream.Events[h.scanned]
		h.stood = append(h.stood, h.tip())
		if e.Kind != events.Stated {
			continue
		}
		switch c := e.Content.(type) {
		case events.QueueEntered:
			if delete(h.alone, c.Merge.Head); c.Alone {
				h.alone[c.Merge.Head] = c.Merge.Round
			}
			h.jobs = append(h.jobs, &job{fact: e})
		case events.PipelineRunQueued:
			h.jobs = append(h.jobs, &job{fact: e})
		case events.QueuePlanned:
			if len(c.Merged) > 0 {
				h.jobs = append(h.jobs, &job{fact: e})
			}
		case events.QueueTested:
			if !c.Waits {
				h.jobs = append(h.jobs, &job{fact: e})
			}
		case events.PipelineRunFinished:
			if c.Outcome == events.Cancelled {
				h.over[e.Key] = true
			}
		}
	}
}

type report struct {
	key     string
	content any
}

// work does a job once more and returns what it would report, in order.
func (h *host) work(j *job) (all []report) {
	j.attempt++
	switch c := j.fact.Content.(type) {
	case events.QueueEntered:
		if c.Slots == 0 {
			return nil
		}
		s := events.QueueSurveyed{Merge: c.Merge, Writes: []string{"*"}}
		if at := h.touches[c.Merge.Head]; at != "" && !c.Alone {
			s.Writes, s.Reads = []string{at}, []string{at}
		}
		return []report{{j.fact.Key, s}}
	case events.PipelineRunQueued:
		return h.pipeline(j, c)
	case events.QueueTested:
		return h.land([]events.MergeDetail{c.Merge})
	case events.QueuePlanned:
		return h.land(c.Merged)
	}
	return nil
}

func (h *host) pipeline(j *job, c events.PipelineRunQueued) []report {
	d := c.Lemnis
	key := j.fact.Key
	end := events.PipelineRunFinished{Outcome: events.Success}
	if len(d.Changes) == 0 { // a change alone
		m := &d.Merge
		m.Onto = h.tip()
		m.Commit = h.couple(m.Onto, m.Head)
		if !h.green(h.holds[m.Commit]) {
			end.Outcome, end.Errors = events.Failure, "test: 1 failed"
		}
		end.Lemnis = d
		return []report{{key, events.PipelineRunStarted{Lemnis: c.Lemnis}}, {key, end}}
	}
	if h.over[key] {
		return nil
	}
	at := h.tip()
	for _, m := range d.Assumed {
		if !slices.Contains(h.holds[h.tip()], m.Head) {
			at = h.couple(at, m.Head)
		}
	}
	onto := at
	d.Changes = slices.Clone(d.Changes)
	for _, m := range d.Changes {
		if slices.Contains(h.holds[h.tip()], m.Head) {
			end.Outcome, end.Errors = events.Failure, "change "+m.Change+": is there already"
		}
		at = h.couple(at, m.Head)
	}
	if !h.green(h.holds[at]) {
		end.Outcome, end.Errors = events.Failure, "test: 1 failed"
	}
	if h.broken || h.errs && rapid.IntRange(0, 20).Draw(h.t, "fault") == 0 {
		end.Outcome, end.Errors = events.Errored, "given up"
	}
	last := d.Changes[len(d.Changes)-1].Change
	for i := range d.Changes {
		d.Changes[i].Onto, d.Changes[i].Commit = onto, at
		if d.Changes[i].Change != last {
			d.Changes[i].With = last
		}
	}
	d.Merge.Onto, d.Merge.Commit = onto, at
	end.Lemnis = d
	return []report{{key, events.PipelineRunStarted{Lemnis: c.Lemnis}}, {key, end}}
}

func (h *host) land(train []events.MergeDetail) (all []report) {
	end := train[len(train)-1]
	moved, refused := false, false
	switch {
	case slices.Contains(h.master, end.Commit):
	case h.tip() != end.Onto:
		moved = true
	case slices.ContainsFunc(train, func(m events.MergeDetail) bool { return h.refused[m.Head] }):
		refused = true
	default:
		if !h.green(h.holds[end.Commit]) {
			h.t.Fatalf("the master copy turns red: %v", h.holds[end.Commit])
		}
		h.master = append(h.master, end.Commit)
	}
	for _, m := range train {
		if m.Commit != end.Commit || m.Onto != end.Onto {
			h.t.Fatalf("a train of several commits: %+v", train)
		}
		if from := h.alone[m.Head]; from > 0 && m.Round >= from && len(train) > 1 {
			h.t.Fatalf("%s is to be merged alone, and is in a train of %d", m.Change, len(train))
		}
		switch {
		case refused && len(train) > 1:
			all = append(all, report{m.Change, events.QueueEntered{Merge: m, Reason: "refused", Alone: true}})
		case refused:
			all = append(all, report{m.Change, events.QueueEjected{Merge: m, Reason: "refused"}})
		case moved:
			all = append(all, report{m.Change, events.QueueEntered{Merge: m, Reason: "moved"}})
		default:
			all = append(all, report{m.Change, events.ChangeMerged{Lemnis: m}})
		}
	}
	return all
}

func (h *host) perform(crashes bool) {
	h.hire()
	if len(h.jobs) == 0 {
		return
	}
	i := rapid.IntRange(0, len(h.jobs)-1).Draw(h.t, "job")
	j := h.jobs[i]
	all := h.work(j)
	reach := len(all) + 1 // all reports, and the acknowledgement
	if crashes {
		reach = rapid.IntRange(0, len(all)+1).Draw(h.t, "reach")
	}
	for _, r := range all[:min(reach, len(all))] {
		h.stream.Add(events.Event{Kind: events.Result, Key: r.key, Attempt: j.attempt, Content: r.content})
	}
	if reach > len(all) {
		h.jobs = slices.Delete(h.jobs, i, i+1)
	}
}

func (h *host) propose(n int, packages int) {
	id, head := fmt.Sprint(n), commit(fmt.Sprintf("head %d", n))
	h.bad[head] = rapid.IntRange(0, 4).Draw(h.t, "bad") == 0
	h.refused[head] = rapid.IntRange(0, 7).Draw(h.t, "refused") == 0
	if p := rapid.IntRange(0, packages).Draw(h.t, "package"); p > 0 {
		h.touches[head] = fmt.Sprint(p)
	}
	for other := range n {
		// Hidden from the survey or not: a pair may break the master copy whatever it touches.
		if rapid.IntRange(0, 8).Draw(h.t, "clash") == 0 {
			h.clash[head+commit(fmt.Sprintf("head %d", other))] = true
		}
	}
	c := proposed(head)
	c.Lemnis.Branch = "b" + id
	h.stream.Add(rulestest.Claim(id, c))
	h.stream.Add(events.Event{Kind: events.Claim, Key: id, Principal: "bo", Content: approved("bo", "")})
}

// Whatever comes, leaves, dies and is pushed in whatever order: the master copy is never red, holds only what was tested as exactly
// that, and facts say so; no change is ejected that is green upon the master copy as it was then; no change waits for ever; and
// each aggregate states one fact for a cause.
func TestQueueMergesOnlyWhatWasTested(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		p := shop(1)
		slots := rapid.IntRange(2, 5).Draw(t, "slots")
		p.Queue = &events.QueuePolicy{Slots: slots}
		h := &host{t: t, stream: rulestest.New(p, builder.New(builder.Options{Data: data})...), master: []string{commit("start")},
			holds: map[string][]string{}, bad: map[string]bool{}, clash: map[string]bool{}, touches: map[string]string{}, over: map[string]bool{},
			refused: map[string]bool{}, alone: map[string]int{}}
		h.errs = rapid.Bool().Draw(t, "faults")
		packages := rapid.IntRange(0, 6).Draw(t, "packages")
		came := 0
		for range rapid.IntRange(5, 120).Draw(t, "steps") {
			switch rapid.IntRange(0, 12).Draw(t, "do") {
			case 0, 1, 2:
				h.propose(came, packages)
				came++
			case 3:
				if came > 0 && rapid.IntRange(0, 3).Draw(t, "abandon") == 0 {
					h.stream.Add(rulestest.Claim(fmt.Sprint(rapid.IntRange(0, came-1).Draw(t, "which")), events.ChangeAbandoned{}))
				}
			case 4:
				if rapid.IntRange(0, 5).Draw(t, "push") == 0 { // by somebody who goes past the queue, and breaks nothing
					h.pushed++
					c := commit(fmt.Sprintf("pushed %d", h.pushed))
					h.holds[c] = h.holds[h.tip()]
					h.master = append(h.master, c)
				}
			case 5:
				if rapid.IntRange(0, 9).Draw(t, "configure") == 0 {
					q := &events.QueuePolicy{Slots: rapid.IntRange(0, 5).Draw(t, "slots now")}
					h.stream.Project.Queue = q
				}
			default:
				if rapid.Bool().Draw(t, "decide") {
					h.stream.Run(t)
				}
				h.perform(true)
			}
		}
		h.errs, h.broken = false, rapid.IntRange(0, 3).Draw(t, "broken") == 0
		for range 5000 {
			h.stream.Run(t)
			if h.hire(); len(h.jobs) == 0 {
				break
			}
			h.perform(false)
		}
		if len(h.jobs) > 0 {
			t.Fatalf("%d jobs never end", len(h.jobs))
		}
		h.stream.CheckAnswers(t)
		h.judge(t)
	})
}

func (h *host) judge(t *rapid.T) {
	waits, merges, masters := map[string]bool{}, map[string]int{}, map[string]bool{}
	for _, c := range h.master {
		masters[c] = true
	}
	for i, e := range h.stream.Events {
		if e.Kind != events.Stated {
			continue
		}
		switch c := e.Content.(type) {
		case events.QueueEntered:
			waits[e.Key] = true
		case events.ChangeMerged:
			waits[e.Key] = false
			merges[c.Lemnis.Head]++
			if !masters[c.Lemnis.Commit] {
				t.Fatalf("a fact says that %s is in the master copy", e.Key)
			}
		case events.QueueEjected:
			waits[e.Key] = false
			if c.Reason == "refused" && !h.refused[c.Merge.Head] {
				t.Fatalf("%s was ejected since another was refused", e.Key)
			}
			if c.Reason == "test: 1 failed" && h.green(append(slices.Clone(h.holds[h.stood[i]]), c.Merge.Head)) {
				t.Fatalf("%s was ejected, and is green upon the master copy %v", e.Key, h.holds[h.stood[i]])
			}
		case events.QueuePlanned:
			h.running(t, i)
		}
	}
	for id, still := range waits {
		if still {
			t.Fatalf("change %s waits for ever", id)
		}
	}
	for _, head := range h.holds[h.tip()] {
		if merges[head] != 1 {
			t.Fatalf("the master copy holds %s; %d facts say so", head, merges[head])
		}
	}
}

// running holds the queue to the slots that it may have had.
func (h *host) running(t *rapid.T, at int) {
	alive := map[int]bool{}
	for _, e := range h.stream.Events[:at+1] {
		c, ok := e.Content.(events.QueuePlanned)
		if !ok || e.Kind != events.Stated {
			continue
		}
		for _, n := range c.Over {
			delete(alive, n)
		}
		for _, s := range c.Steps {
			if slices.Contains([]string{"finish", "narrow", "fall", "part", "cancel", "merge"}, s.Do) {
				delete(alive, s.Run)
			}
		}
		for _, r := range c.Begun {
			alive[r.Number] = true
		}
	}
	if len(alive) > 5 {
		t.Fatalf("%d runs at once", len(alive))
	}
}
