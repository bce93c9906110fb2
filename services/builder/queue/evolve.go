package queue

import (
	"maps"
	"slices"

	"github.com/lemnis/lemnis/pkg/events"

	"github.com/lemnis/lemnis/services/builder/mergequeue"
)

// What steps do beside those of mergequeue.
const (
	tested  = "tested"  // Change passed in Run
	confirm = "confirm" // Run begins, on the tip of the master copy: Units, which are to land, together
	narrow  = "narrow"  // the confirming Run failed: the next one confirms one unit alone
	fall    = "fall"    // Unit was to land, and fails alone on the tip
	merge   = "merge"   // Changes are to become part of the master copy, as Run tested them
)

// State is what is known of the queue of a repository.
type State struct {
	Queue   mergequeue.Queue
	Merges  map[string]events.MergeDetail // of the changes in the queue
	Faults  map[string]Fault              // what was found when they failed last
	Runs    []Run                         // that run, or that passed and may still count
	Confirm []int                         // units that the run which confirms is about; none: none does
	Narrow  bool                          // units are confirmed one by one
	Merging []string                      // changes that are becoming part of the master copy
	Tips    []string                      // commits at which the master copy stood, as far as is known, the last one last
	Pace    float64                       // seconds that a run takes; 0: not known yet
	Landed  int
	Ejected int
}

// Fault is why a change failed.
type Fault struct {
	Reason    string
	Conflicts []string
}

// Run is a run of the queue.
type Run struct {
	Number int
	Unit   int                  // 0: it confirms
	Upon   bool                 // others that were not merged yet
	Began  float64              // seconds of Unix time
	Passed []events.MergeDetail // its changes, as they were tested
}

// keptTips is how many commits of the master copy are remembered.
const keptTips = 64

// Evolve folds a plan of the queue.
func Evolve(s State, fact events.Event) State {
	c, ok := fact.Content.(events.QueuePlanned)
	if !ok {
		return s
	}
	s = s.clone()
	s.count(c.Pace)
	for _, step := range c.Steps {
		s.apply(step, c.At)
	}
	return s
}

func (s State) clone() State {
	s.Queue = s.Queue.Clone()
	s.Merges, s.Faults = maps.Clone(s.Merges), maps.Clone(s.Faults)
	s.Runs, s.Confirm, s.Merging, s.Tips = slices.Clone(s.Runs), slices.Clone(s.Confirm), slices.Clone(s.Merging), slices.Clone(s.Tips)
	if s.Merges == nil {
		s.Merges, s.Faults = map[string]events.MergeDetail{}, map[string]Fault{}
	}
	s.Queue.Clash = clash
	return s
}

// count counts time in the pace of now.
func (s *State) count(pace float64) {
	if pace == 0 || pace == s.Pace {
		return
	}
	was := s.pace()
	s.Pace = pace
	for i := range s.Queue.Changes {
		s.Queue.Changes[i].Since *= was / pace
	}
}

func (s *State) pace() float64 {
	if s.Pace > 0 {
		return s.Pace
	}
	return firstPace
}

// apply lets a step happen at a time.
func (s *State) apply(step events.QueueStep, at float64) {
	switch step.Do {
	case tested:
		s.passed(step)
	case confirm:
		s.Confirm = step.Units
		s.Queue.Apply(mergequeue.Step{Do: mergequeue.Start, Build: step.Run})
		s.Runs = append(s.Runs, Run{Number: step.Run, Began: at})
	case narrow:
		s.Narrow = true
		s.Queue.Apply(mergequeue.Step{Do: mergequeue.Cancel, Build: step.Run})
	case fall:
		s.Narrow = false
		s.Queue.Apply(mergequeue.Step{Do: mergequeue.Fall, Unit: step.Unit, Build: step.Run})
		if r := s.run(step.Run); r != nil {
			r.Unit = step.Unit
		}
		s.fault(step)
	case string(mergequeue.Part):
		if r := s.run(step.Run); r != nil && r.Unit == 0 {
			s.Narrow = false // the one that was confirmed alone is to land no more
		}
		s.Queue.Apply(plain(step))
	case merge:
		s.Merging, s.Narrow = step.Changes, false
		if r := s.run(step.Run); r != nil && r.Unit == 0 {
			s.Queue.Apply(mergequeue.Step{Do: mergequeue.Cancel, Build: step.Run})
		}
	case string(mergequeue.Landed):
		s.Landed++
		if step.Merge != nil {
			s.stand(step.Merge.Onto)
			s.stand(step.Merge.Commit)
		}
		s.Queue.Apply(plain(step))
	case string(mergequeue.Finish):
		s.fault(step)
		s.Queue.Apply(plain(step))
	case string(mergequeue.Eject):
		s.Ejected++
		s.Queue.Apply(plain(step))
	default:
		s.Queue.Apply(plain(step))
	}
	switch step.Do {
	case string(mergequeue.Enter):
		if step.Merge != nil {
			s.Merges[step.Change] = *step.Merge
		}
	case string(mergequeue.Start):
		s.Runs = append(s.Runs, Run{Number: step.Run, Unit: step.Unit, Began: at, Upon: len(step.Units) > 0})
	}
	s.tidy()
}

// passed notes that a change of a run passed. What was built upon nothing else shows where the master copy stands.
func (s *State) passed(step events.QueueStep) {
	r := s.run(step.Run)
	if r == nil || step.Merge == nil {
		return
	}
	r.Passed = append(slices.Clone(r.Passed), *step.Merge)
	if !r.Upon {
		s.stand(step.Merge.Onto)
	}
}

// stand notes where the master copy stands. What is known is older than what is known since.
func (s *State) stand(commit string) {
	if slices.Contains(s.Tips, commit) {
		return
	}
	s.Tips = append(s.Tips, commit)
	if n := len(s.Tips) - keptTips; n > 0 {
		s.Tips = slices.Delete(s.Tips, 0, n)
	}
}

// fault notes why the changes of a run failed.
func (s *State) fault(step events.QueueStep) {
	unit := step.Unit
	if r := s.run(step.Run); r != nil && r.Unit > 0 {
		unit = r.Unit
	}
	u, _ := s.Queue.Unit(unit)
	for _, id := range u.Changes {
		if step.Reason != "" && (step.Change == "" || step.Change == id) {
			s.Faults[id] = Fault{Reason: step.Reason, Conflicts: step.Conflicts}
		}
	}
}

// tidy forgets what is of changes and runs that are gone.
func (s *State) tidy() {
	gone := func(id string) bool { _, there := s.Queue.Change(id); return !there }
	maps.DeleteFunc(s.Merges, func(id string, _ events.MergeDetail) bool { return gone(id) })
	maps.DeleteFunc(s.Faults, func(id string, _ Fault) bool { return gone(id) })
	s.Merging = slices.DeleteFunc(slices.Clone(s.Merging), func(id string) bool {
		c, there := s.Queue.Change(id)
		return !there || c.Landed
	})
	s.Runs = slices.DeleteFunc(s.Runs, func(r Run) bool {
		_, there := s.Queue.Build(r.Number)
		return !there
	})
	if !slices.ContainsFunc(s.Runs, func(r Run) bool { return r.Unit == 0 }) {
		s.Confirm = nil
	}
}

// tip is where the master copy stands, as far as is known.
func (s *State) tip() string {
	if len(s.Tips) == 0 {
		return ""
	}
	return s.Tips[len(s.Tips)-1]
}

func (s *State) run(number int) *Run {
	if i := slices.IndexFunc(s.Runs, func(r Run) bool { return r.Number == number }); i >= 0 {
		return &s.Runs[i]
	}
	return nil
}

// plain is a step as mergequeue knows it.
func plain(step events.QueueStep) mergequeue.Step {
	out := mergequeue.Step{
		Do: mergequeue.Verb(step.Do), Change: step.Change, Changes: step.Changes, Unit: step.Unit, At: step.At,
		Build: step.Run, Outcome: mergequeue.Outcome(step.Outcome),
	}
	if out.Do == mergequeue.Start {
		out.Assumed = step.Units
	} else {
		copy(out.Units[:], step.Units)
	}
	copy(out.Risks[:], step.Risks)
	if out.Do == mergequeue.Enter {
		out.Entered = &mergequeue.Change{ID: step.Change, Since: step.Since, Risk: step.Risk, Writes: step.Writes, Reads: step.Reads}
	}
	return out
}

// told is a step of mergequeue as it stands on the stream.
func told(step mergequeue.Step) events.QueueStep {
	out := events.QueueStep{
		Do: string(step.Do), Change: step.Change, Changes: step.Changes, Unit: step.Unit, At: step.At,
		Run: step.Build, Units: step.Assumed, Outcome: string(step.Outcome),
	}
	if step.Do == mergequeue.Split {
		out.Units, out.Risks = step.Units[:], step.Risks[:]
	}
	return out
}
