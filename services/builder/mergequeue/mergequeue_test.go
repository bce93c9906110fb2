package mergequeue_test

import (
	"encoding/json"
	"reflect"
	"slices"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"github.com/lemnis/lemnis/services/builder/mergequeue"
)

// play is a queue with a world around it that knows which changes are bad and which pairs break the master copy.
type play struct {
	t       *rapid.T
	queue   mergequeue.Queue
	folded  mergequeue.Queue // by the steps alone
	bad     map[string]bool
	clash   map[[2]string]bool
	built   map[int]bool        // outcome of a build that runs: fixed as it starts
	landed  []string            // the master copy
	ejected map[string][]string // and what the master copy was then
	slots   int
	now     float64
}

func (p *play) green(changes []string) bool {
	for i, a := range changes {
		if p.bad[a] {
			return false
		}
		for _, b := range changes[:i] {
			if p.clash[[2]string{a, b}] || p.clash[[2]string{b, a}] {
				return false
			}
		}
	}
	return true
}

func (p *play) apply(s mergequeue.Step) {
	p.queue.Apply(s)
	p.fold(s)
}

// fold applies a step as it is read again from where it was kept.
func (p *play) fold(s mergequeue.Step) {
	text, err := json.Marshal(s)
	if err != nil {
		p.t.Fatal(err)
	}
	var again mergequeue.Step
	if err := json.Unmarshal(text, &again); err != nil {
		p.t.Fatal(err)
	}
	p.folded.Apply(again)
}

func (p *play) plan() {
	for {
		var landed []string
		for _, s := range p.queue.Plan(p.slots, p.now) {
			p.fold(s)
			switch s.Do {
			case mergequeue.Start:
				u, _ := p.folded.Unit(s.Unit)
				set := slices.Clone(p.landed)
				for _, id := range s.Assumed {
					a, ok := p.folded.Unit(id)
					if !ok {
						p.t.Fatalf("build %d assumes unit %d, which is not in the queue", s.Build, id)
					}
					set = append(set, a.Changes...)
				}
				p.built[s.Build] = p.green(append(set, u.Changes...))
			case mergequeue.Land:
				u, _ := p.folded.Unit(s.Unit)
				landed = append(landed, u.Changes...)
			case mergequeue.Eject:
				p.ejected[s.Change] = slices.Clone(p.landed)
			}
		}
		if p.queue.Running() > p.slots {
			p.t.Fatalf("%d builds in %d slots", p.queue.Running(), p.slots)
		}
		if len(landed) == 0 {
			return
		}
		for _, c := range landed {
			p.landed = append(p.landed, c)
			p.apply(mergequeue.Step{Do: mergequeue.Landed, Change: c})
		}
		if !p.green(p.landed) {
			p.t.Fatalf("the master copy is red with %v", p.landed)
		}
	}
}

func (p *play) finish(choose func(int) int) bool {
	var run []mergequeue.Build
	for _, b := range p.queue.Builds {
		if b.Outcome == "" {
			run = append(run, b)
		}
	}
	if len(run) == 0 {
		return false
	}
	b := run[choose(len(run))]
	outcome := mergequeue.Failed
	if p.built[b.ID] {
		outcome = mergequeue.Passed
	}
	p.now += 0.1
	p.apply(mergequeue.Step{Do: mergequeue.Finish, Build: b.ID, Outcome: outcome})
	p.plan()
	return true
}

// part takes apart a unit that is built.
func (p *play) part(choose func(int) int) {
	if len(p.queue.Units) == 0 {
		return
	}
	u := p.queue.Units[choose(len(p.queue.Units))]
	p.apply(mergequeue.Step{Do: mergequeue.Part, Unit: u.ID, Units: [2]int{p.queue.Last + 1}})
	for i, id := range u.Changes {
		if got, ok := p.queue.Unit(p.queue.Last - len(u.Changes) + 1 + i); !ok || !slices.Equal(got.Changes, []string{id}) {
			p.t.Fatalf("of %v became %+v", u.Changes, p.queue.Units)
		}
	}
	p.plan()
}

// Whatever comes, leaves and ends in whatever order: the master copy is never red, every change lands, is ejected or left, none is ejected that would
// have been green, and the steps alone give the same queue.
func TestNothingMergesThatBreaksTheMasterCopy(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := &play{t: t, bad: map[string]bool{}, clash: map[[2]string]bool{}, built: map[int]bool{}, ejected: map[string][]string{},
			slots: rapid.IntRange(1, 6).Draw(t, "slots")}
		packages := rapid.IntRange(1, 12).Draw(t, "packages")
		var came []mergequeue.Change
		left := map[string]bool{}
		for range rapid.IntRange(1, 40).Draw(t, "events") {
			switch rapid.IntRange(0, 10).Draw(t, "what") {
			default:
				id := strconv.Itoa(len(came))
				c := mergequeue.Change{ID: id, Since: p.now, Risk: rapid.Float64Range(0.01, 0.6).Draw(t, "risk")}
				if n := rapid.IntRange(-1, packages).Draw(t, "package"); n >= 0 { // else it is not known what it touches
					c.Writes = []string{strconv.Itoa(n)}
					c.Reads = append([]string{strconv.Itoa(rapid.IntRange(0, packages).Draw(t, "read"))}, c.Writes...)
				}
				p.bad[id] = rapid.IntRange(0, 3).Draw(t, "bad") == 0
				for _, d := range came {
					if overlap(c, d) && rapid.IntRange(0, 4).Draw(t, "clash") == 0 {
						p.clash[[2]string{id, d.ID}] = true
					}
				}
				came = append(came, c)
				p.apply(mergequeue.Step{Do: mergequeue.Enter, Entered: &c})
				p.plan()
			case 5, 6, 7, 8:
				p.finish(func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "build") })
			case 10:
				p.part(func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "unit") })
			case 9:
				if len(p.queue.Changes) > 0 {
					id := p.queue.Changes[rapid.IntRange(0, len(p.queue.Changes)-1).Draw(t, "leaves")].ID
					left[id] = true
					p.apply(mergequeue.Step{Do: mergequeue.Leave, Change: id})
					p.plan()
				}
			}
		}
		for p.finish(func(int) int { return 0 }) {
		}
		if len(p.queue.Changes)+len(p.queue.Units)+len(p.queue.Builds) > 0 {
			t.Fatalf("nothing runs, and the queue holds %+v", p.queue)
		}
		for _, c := range came {
			_, out := p.ejected[c.ID]
			if in := slices.Contains(p.landed, c.ID); in && (out || left[c.ID]) || !in && !out && !left[c.ID] {
				t.Fatalf("change %s: landed %v, ejected %v, left %v", c.ID, in, out, left[c.ID])
			}
		}
		for id, master := range p.ejected {
			if p.green(append(master, id)) {
				t.Fatalf("%s was ejected, and is green upon %v", id, master)
			}
		}
		same(t, p.queue, p.folded)
	})
}

func same(t *rapid.T, a, b mergequeue.Queue) {
	var one, two any
	for q, into := range map[*mergequeue.Queue]*any{&a: &one, &b: &two} {
		text, err := json.Marshal(q)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, into); err != nil {
			t.Fatal(err)
		}
	}
	if !reflect.DeepEqual(one, two) {
		t.Fatalf("folded\n%v\nplanned\n%v", two, one)
	}
}

func overlap(a, b mergequeue.Change) bool {
	if a.Reads == nil || b.Reads == nil {
		return true
	}
	return slices.Contains(b.Reads, a.Writes[0]) || slices.Contains(a.Reads, b.Writes[0])
}

func change(id, touches string, risk float64) mergequeue.Step {
	c := &mergequeue.Change{ID: id, Risk: risk}
	if touches != "" {
		c.Writes, c.Reads = []string{touches}, []string{touches}
	}
	return mergequeue.Step{Do: mergequeue.Enter, Entered: c}
}

func queue(steps ...mergequeue.Step) *mergequeue.Queue {
	q := &mergequeue.Queue{}
	for _, s := range steps {
		q.Apply(s)
	}
	return q
}

func verbs(steps []mergequeue.Step) (all []mergequeue.Verb) {
	for _, s := range steps {
		all = append(all, s.Do)
	}
	return all
}

// One slot and two changes that do not overlap: a batch. It fails, the first half passes: the second is ejected without a build.
func TestTheOtherHalfNeedsNoBuild(t *testing.T) {
	t.Parallel()
	q := queue(change("a", "x", 0.1), change("b", "y", 0.1))
	steps := q.Plan(1, 0)
	if u, ok := q.Unit(1); !ok || !slices.Equal(u.Changes, []string{"a", "b"}) {
		t.Fatalf("planned %+v", steps)
	}
	q.Apply(mergequeue.Step{Do: mergequeue.Finish, Build: q.Last, Outcome: mergequeue.Failed})
	steps = q.Plan(1, 1)
	if got := verbs(steps); !slices.Equal(got, []mergequeue.Verb{mergequeue.Split, mergequeue.Start}) {
		t.Fatalf("after the failure: %v", got)
	}
	q.Apply(mergequeue.Step{Do: mergequeue.Finish, Build: q.Last, Outcome: mergequeue.Passed})
	if got := verbs(q.Plan(1, 2)); !slices.Equal(got, []mergequeue.Verb{mergequeue.Land}) {
		t.Fatalf("after the first half passed: %v", got)
	}
	q.Apply(mergequeue.Step{Do: mergequeue.Landed, Change: "a"})
	steps = q.Plan(1, 2)
	if len(steps) != 1 || steps[0].Do != mergequeue.Eject || steps[0].Change != "b" || len(q.Changes) > 0 {
		t.Fatalf("the other half: %+v; left %+v", steps, q.Changes)
	}
}

// A batch that was to land and fails on the tip after all is halved as if it had failed at once.
func TestFall(t *testing.T) {
	t.Parallel()
	q := queue(change("a", "x", 0.1), change("b", "y", 0.1))
	q.Plan(1, 0)
	q.Apply(mergequeue.Step{Do: mergequeue.Finish, Build: q.Last, Outcome: mergequeue.Passed})
	if got := verbs(q.Plan(1, 1)); !slices.Equal(got, []mergequeue.Verb{mergequeue.Land}) {
		t.Fatalf("after it passed: %v", got)
	}
	q.Apply(mergequeue.Step{Do: mergequeue.Fall, Unit: 1, Build: q.Last + 1})
	if got := verbs(q.Plan(1, 2)); !slices.Equal(got, []mergequeue.Verb{mergequeue.Split, mergequeue.Start}) {
		t.Fatalf("after it fell: %v", got)
	}
}

// Halves are of equal risk, not of equal number.
func TestHalvesAreOfEqualRisk(t *testing.T) {
	t.Parallel()
	q := queue(change("a", "1", 0.05), change("b", "2", 0.05), change("c", "3", 0.05), change("d", "4", 0.2))
	q.Plan(1, 0)
	q.Apply(mergequeue.Step{Do: mergequeue.Finish, Build: q.Last, Outcome: mergequeue.Failed})
	steps := q.Plan(1, 1)
	if steps[0].Do != mergequeue.Split || steps[0].At != 3 {
		t.Fatalf("%+v", steps)
	}
}

func TestBatchEndsBeforeItIsLikelyToFail(t *testing.T) {
	t.Parallel()
	q := queue(change("a", "1", 0.3), change("b", "2", 0.3), change("c", "3", 0.3))
	q.Plan(1, 0)
	if u, _ := q.Unit(1); len(u.Changes) != 1 { // 1 − 0.7² = 0.51
		t.Fatalf("batch of %v", u.Changes)
	}
}

// What does not overlap is not built on each other; what does is, in its order; and what is not known to be apart overlaps.
func TestLanes(t *testing.T) {
	t.Parallel()
	q := queue(change("a", "x", 0.1), change("b", "y", 0.1), change("c", "x", 0.1))
	q.Plan(8, 0)
	assumed := map[string]int{}
	for _, b := range q.Builds {
		if u, _ := q.Unit(b.Unit); len(b.Assumed) >= assumed[u.Changes[0]] {
			assumed[u.Changes[0]] = len(b.Assumed)
		}
	}
	if assumed["a"] != 0 || assumed["b"] != 0 || assumed["c"] != 1 || len(q.Lanes()) != 2 {
		t.Fatalf("assumed %v, lanes %+v", assumed, q.Lanes())
	}
	if q := queue(change("a", "x", 0.1), change("b", "", 0.1)); len(q.Lanes()) != 1 {
		t.Fatalf("lanes %+v", q.Lanes())
	}
	if q := queue(change("a", "x", 0.1), change("b", mergequeue.Everything, 0.1)); len(q.Lanes()) != 1 {
		t.Fatalf("lanes %+v", q.Lanes())
	}
}

// What waits grows riskier with what was merged that it overlaps with.
func TestRiskGrowsWithWhatWasMerged(t *testing.T) {
	t.Parallel()
	q := queue(change("a", "x", 0.1))
	q.Clash = 0.5
	q.Plan(1, 0)
	q.Apply(change("b", "x", 0.1))
	q.Apply(change("c", "y", 0.1))
	q.Apply(mergequeue.Step{Do: mergequeue.Finish, Build: q.Last, Outcome: mergequeue.Passed})
	q.Plan(1, 1)
	q.Apply(mergequeue.Step{Do: mergequeue.Landed, Change: "a"})
	b, ok := q.Change("b")
	c, _ := q.Change("c")
	if !ok || b.Risk < 0.54 || b.Risk > 0.56 || c.Risk > 0.11 {
		t.Fatalf("b %+v, c %+v, queue %+v", b, c, q)
	}
}

func TestStepsOnWhatIsNotThere(t *testing.T) {
	t.Parallel()
	for _, do := range []mergequeue.Verb{mergequeue.Leave, mergequeue.Finish, mergequeue.Landed, mergequeue.Cancel, mergequeue.Land, mergequeue.Fall, mergequeue.Part, mergequeue.Split, mergequeue.Eject, "later"} {
		q := queue(change("a", "x", 0.1))
		q.Apply(mergequeue.Step{Do: do, Change: "z", Unit: 9, Build: 9, Units: [2]int{10, 11}})
		if len(q.Changes) != 1 || len(q.Units)+len(q.Builds) > 0 {
			t.Errorf("%s: %+v", do, q)
		}
	}
}

// What overlaps with a unit is overtaken by what does not, until it has waited long.
func TestOvertaking(t *testing.T) {
	t.Parallel()
	pair := func(id string, since float64, touches ...string) mergequeue.Step {
		return mergequeue.Step{Do: mergequeue.Enter, Entered: &mergequeue.Change{ID: id, Since: since, Risk: 0.3, Writes: touches, Reads: touches}}
	}
	for now, want := range map[float64]string{1: "c", 10: "b"} { // who has the second slot
		q := queue(pair("a", 0, "x"))
		q.Plan(1, 0)
		q.Apply(pair("b", 0, "x", "y"))
		q.Apply(pair("c", now, "y"))
		q.Plan(2, now)
		b, _ := q.Build(q.Last)
		u, _ := q.Unit(b.Unit)
		if u.Changes[0] != want {
			t.Errorf("at %v the second slot has %v upon %v", now, u.Changes, b.Assumed)
		}
	}
}
