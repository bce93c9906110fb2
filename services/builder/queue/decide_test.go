package queue

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lemnis/lemnis/pkg/events"

	"github.com/lemnis/lemnis/services/builder/mergequeue"
)

// line is a queue with its facts.
type line struct {
	t     *testing.T
	state State
	at    time.Time
	slots int
}

// meet decides and folds; the plan is empty when nothing follows.
func (l *line) meet(key string, content any) events.QueuePlanned {
	l.t.Helper()
	l.at = l.at.Add(10 * time.Second)
	p := events.DefaultProject("shop")
	p.Queue = &events.QueuePolicy{Slots: l.slots}
	e := events.Event{Kind: events.Stated, Key: key, Content: content, Type: events.TypeOf(content), Stored: l.at}
	if got := Route(p, e); !slices.Equal(got, []string{"api"}) {
		l.t.Fatalf("%s goes to %v", e.Type.Short(), got)
	}
	f, ok := Decide("api", l.state, p, e)
	if !ok {
		return events.QueuePlanned{}
	}
	l.state = Evolve(l.state, events.Event{Content: f.Content})
	return f.Content.(events.QueuePlanned)
}

func detail(id string) events.MergeDetail {
	return events.MergeDetail{Change: id, Repository: "api", Base: "main", Head: "head of " + id, Round: 1}
}

func (l *line) enters(id string, touches ...string) events.QueuePlanned {
	l.t.Helper()
	return l.meet(id, events.QueueSurveyed{Merge: detail(id), Writes: touches, Reads: touches})
}

// passes says that all changes of a run were tested.
func (l *line) passes(run int, onto string, ids ...string) (plan events.QueuePlanned) {
	l.t.Helper()
	commit := onto
	for _, id := range ids {
		commit += "+" + id
	}
	for _, id := range ids {
		m := detail(id)
		m.Onto, m.Commit = onto, commit
		plan = l.meet(id, events.QueueTested{Merge: m, Run: RunKey("api", run), Waits: true})
	}
	return plan
}

func (l *line) fails(run int, outcome, reason string, conflicts ...string) events.QueuePlanned {
	l.t.Helper()
	return l.meet(RunKey("api", run), events.PipelineRunFinished{Outcome: outcome, Errors: reason + "\nand what was printed",
		Lemnis: events.RunDetail{Merge: events.MergeDetail{Repository: "api"}, Changes: []events.MergeDetail{detail("x")}, Conflicts: conflicts}})
}

func (l *line) merged(onto string, ids ...string) (plan events.QueuePlanned) {
	l.t.Helper()
	for _, id := range ids {
		m := detail(id)
		m.Onto, m.Commit = onto, onto+"+"+id
		plan = l.meet(id, events.ChangeMerged{Lemnis: m})
	}
	return plan
}

func changes(all []events.MergeDetail) (ids []string) {
	for _, m := range all {
		ids = append(ids, m.Change)
	}
	return ids
}

// begun is the one run that a plan begins.
func begun(t *testing.T, plan events.QueuePlanned, ids ...string) int {
	t.Helper()
	if len(plan.Begun) != 1 || !slices.Equal(changes(plan.Begun[0].Changes), ids) {
		t.Fatalf("begun %+v, want one of %v", plan.Begun, ids)
	}
	return plan.Begun[0].Number
}

func newLine(t *testing.T, slots int) *line {
	return &line{t: t, slots: slots, at: time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)}
}

// twoLanes has a merged upon m, and b passed upon m too.
func twoLanes(t *testing.T) (l *line, confirms events.QueuePlanned) {
	t.Helper()
	l = newLine(t, 2)
	a, b := begun(t, l.enters("a", "x"), "a"), begun(t, l.enters("b", "y"), "b")
	if plan := l.passes(a, "m", "a"); !slices.Equal(changes(plan.Merged), []string{"a"}) || plan.Merged[0].Commit != "m+a" {
		t.Fatalf("a passed on the tip, and merged is %+v", plan.Merged)
	}
	if plan := l.passes(b, "m", "b"); len(plan.Merged)+len(plan.Begun) > 0 {
		t.Fatalf("b passed while a is being merged: %+v", plan)
	}
	confirms = l.merged("m", "a")
	return l, confirms
}

func TestWhatWasTestedOnAnotherTipIsConfirmed(t *testing.T) {
	t.Parallel()
	l, plan := twoLanes(t)
	run := begun(t, plan, "b")
	plan = l.passes(run, "m+a", "b")
	if !slices.Equal(changes(plan.Merged), []string{"b"}) || plan.Merged[0].Commit != "m+a+b" {
		t.Fatalf("merged %+v", plan.Merged)
	}
	if l.merged("m+a", "b"); len(l.state.Queue.Changes)+len(l.state.Runs)+len(l.state.Merges) > 0 || l.state.Landed != 2 {
		t.Fatalf("left %+v", l.state)
	}
}

func TestWhatFailsOnTheTipLeavesWithItsReason(t *testing.T) {
	t.Parallel()
	l, plan := twoLanes(t)
	plan = l.fails(begun(t, plan, "b"), events.Failure, "change b: conflicts with main in f.go", "f.go")
	if len(plan.Ejected) != 1 || plan.Ejected[0].Merge.Change != "b" || plan.Ejected[0].Reason != "change b: conflicts with main in f.go" ||
		!slices.Equal(plan.Ejected[0].Conflicts, []string{"f.go"}) {
		t.Fatalf("ejected %+v", plan.Ejected)
	}
}

func TestWhatFailsTogetherOnTheTipIsConfirmedOneByOne(t *testing.T) {
	t.Parallel()
	l := newLine(t, 3)
	a, b, c := begun(t, l.enters("a", "x"), "a"), begun(t, l.enters("b", "y"), "b"), begun(t, l.enters("c", "z"), "c")
	l.passes(a, "m", "a")
	l.passes(b, "m", "b")
	l.passes(c, "m", "c")
	both := begun(t, l.merged("m", "a"), "b", "c")
	plan := l.fails(both, events.Failure, "test: 1 failed")
	alone := begun(t, plan, "b")
	if len(plan.Ejected) > 0 {
		t.Fatalf("ejected %+v", plan.Ejected)
	}
	if plan = l.passes(alone, "m+a", "b"); len(plan.Merged) != 1 {
		t.Fatalf("merged %+v", plan.Merged)
	}
	plan = l.fails(begun(t, l.merged("m+a", "b"), "c"), events.Failure, "test: 1 failed")
	if len(plan.Ejected) != 1 || plan.Ejected[0].Merge.Change != "c" {
		t.Fatalf("ejected %+v", plan.Ejected)
	}
}

// Two that overlap: the second is built upon the first, and needs no other run when that is merged as it was tested.
func TestSpeculationNeedsNoConfirmation(t *testing.T) {
	t.Parallel()
	l := newLine(t, 2)
	a := begun(t, l.enters("a", "x"), "a")
	plan := l.enters("b", "x")
	b := begun(t, plan, "b")
	if !slices.Equal(changes(plan.Begun[0].Assumed), []string{"a"}) {
		t.Fatalf("b is built upon %v", changes(plan.Begun[0].Assumed))
	}
	l.passes(b, "m+a", "b")
	l.passes(a, "m", "a")
	if plan = l.merged("m", "a"); len(plan.Begun) > 0 || !slices.Equal(changes(plan.Merged), []string{"b"}) {
		t.Fatalf("begun %+v, merged %v", plan.Begun, changes(plan.Merged))
	}
}

func TestARunOfWhatLeftIsOver(t *testing.T) {
	t.Parallel()
	l := newLine(t, 2)
	a, b := begun(t, l.enters("a", "x"), "a"), begun(t, l.enters("b", "x"), "b")
	plan := l.meet("a", events.QueueEjected{Merge: detail("a"), Reason: "the change was abandoned"})
	if !slices.Equal(plan.Over, []int{a, b}) || len(plan.Ejected) > 0 {
		t.Fatalf("over %v, ejected %+v", plan.Over, plan.Ejected)
	}
	begun(t, plan, "b")
	if plan = l.passes(a, "m", "a"); len(plan.Steps) > 0 {
		t.Fatalf("a run that is over: %+v", plan)
	}
}

// A fault of the machinery is no verdict on changes that were tested together: each is tested alone, and what meets a fault alone leaves.
func TestFaultsOfTheMachinery(t *testing.T) {
	t.Parallel()
	l := newLine(t, 1)
	a := begun(t, l.enters("a", "x"), "a")
	l.enters("b", "y")
	l.enters("c", "z")
	both := begun(t, l.fails(a, events.Failure, "test: 1 failed"), "b", "c")
	b := begun(t, l.fails(both, events.Errored, "given up"), "b")
	plan := l.fails(b, events.Errored, "given up after 20 attempts: no space left")
	if len(plan.Ejected) != 1 || plan.Ejected[0].Merge.Change != "b" || plan.Ejected[0].Reason != "given up after 20 attempts: no space left" {
		t.Fatalf("ejected %+v", plan.Ejected)
	}
	if plan = l.passes(begun(t, plan, "c"), "m", "c"); !slices.Equal(changes(plan.Merged), []string{"c"}) {
		t.Fatalf("merged %+v", plan.Merged)
	}
}

// What is built upon others waits for what becomes of them.
func TestAFaultUponOthers(t *testing.T) {
	t.Parallel()
	l := newLine(t, 2)
	a, b := begun(t, l.enters("a", "x"), "a"), begun(t, l.enters("b", "x"), "b")
	if again := begun(t, l.fails(b, events.Errored, "given up"), "b"); again == b {
		t.Fatalf("run %d again", b)
	}
	if plan := l.fails(a, events.Errored, "given up"); len(plan.Ejected) != 1 || plan.Ejected[0].Reason != "given up" {
		t.Fatalf("ejected %+v", plan.Ejected)
	}
}

// Runs that confirm, and meet nothing but faults, come to an end.
func TestAFaultThatConfirms(t *testing.T) {
	t.Parallel()
	l, plan := twoLanes(t)
	if plan = l.fails(begun(t, plan, "b"), events.Errored, "given up"); len(plan.Ejected) != 1 || plan.Ejected[0].Reason != "given up" || len(plan.Begun) > 0 {
		t.Fatalf("planned %+v", plan)
	}
}

// A train that is confirmed alone, and parted for a fault, is to land no more: what lands next is confirmed together again.
func TestAFaultEndsConfirmingOneByOne(t *testing.T) {
	t.Parallel()
	l := newLine(t, 2)
	a, b := begun(t, l.enters("a", "x"), "a"), begun(t, l.enters("b", "y"), "b")
	l.enters("c", "z")
	l.enters("d", "w")
	train := begun(t, l.passes(a, "m", "a"), "c", "d")
	l.passes(b, "m", "b")
	l.passes(train, "m", "c", "d")
	together := begun(t, l.merged("m", "a"), "b", "c", "d")
	begun(t, l.fails(together, events.Failure, "test: 1 failed"), "b")
	alone := begun(t, l.meet("b", events.QueueEjected{Merge: detail("b"), Reason: "abandoned"}), "c", "d")
	if !l.state.Narrow {
		t.Fatal("it is not confirmed alone")
	}
	if l.fails(alone, events.Errored, "given up"); l.state.Narrow {
		t.Error("what lands next is confirmed one by one")
	}
}

// A queue that is given up empties one by one, and takes nothing more.
func TestGivenUp(t *testing.T) {
	t.Parallel()
	l := newLine(t, 2)
	a := begun(t, l.enters("a", "x"), "a")
	l.enters("b", "y")
	l.slots = 0
	l.passes(a, "m", "a")
	if plan := l.merged("m", "a"); len(plan.Begun) > 1 {
		t.Fatalf("begun %+v", plan.Begun)
	}
	e := detail("b")
	e.Round = 2
	if plan := l.meet("b", events.QueueEntered{Merge: e}); len(plan.Steps) != 1 || len(l.state.Queue.Changes) > 0 {
		t.Fatalf("steps %+v", plan.Steps)
	}
}

// Waiting is counted in the time that a run takes, also when that changes.
func TestPace(t *testing.T) {
	t.Parallel()
	l := newLine(t, 2)
	a := begun(t, l.enters("a", "x"), "a")
	l.enters("b", "x")
	came := l.at
	l.passes(a, "m", "a")
	if l.state.Pace != 20 {
		t.Fatalf("pace %v", l.state.Pace)
	}
	c, _ := l.state.Queue.Change("b")
	if got := c.Since * l.state.Pace; got-float64(came.Unix()) > 0.001 || float64(came.Unix())-got > 0.001 {
		t.Fatalf("b came at %v, and stands as %v", came.Unix(), got)
	}
}

// What touches everything is in no train, and is not confirmed together with what lands meanwhile: it becomes the master copy alone.
func TestWhatTouchesEverythingLandsAlone(t *testing.T) {
	t.Parallel()
	l := newLine(t, 2)
	a, b := begun(t, l.enters("a", "x"), "a"), begun(t, l.enters("b", "y"), "b")
	ids := []string{"c", "d", "e", "f"}
	for _, id := range ids {
		l.meet(id, events.QueueSurveyed{Merge: detail(id), Writes: []string{mergequeue.Everything}})
	}
	l.passes(a, "m", "a")
	l.passes(b, "m", "b")
	plan, tip := l.merged("m", "a"), "m+a"
	var landed []string
	for range 20 {
		for _, r := range l.state.Runs { // the first that runs passes, upon what it assumes
			build, there := l.state.Queue.Build(r.Number)
			if !there || build.Outcome != "" || len(plan.Merged) > 0 {
				continue
			}
			units := l.state.Confirm
			if r.Unit > 0 {
				units = []int{r.Unit}
			}
			plan = l.passes(r.Number, strings.Join(append([]string{tip}, l.members(build.Assumed)...), "+"), l.members(units)...)
			break
		}
		if len(plan.Merged) == 0 {
			continue
		}
		now := changes(plan.Merged)
		if len(now) > 1 {
			t.Fatalf("%v land together", now)
		}
		landed = append(landed, now...)
		plan, tip = l.merged(tip, now...), tip+"+"+now[0]
	}
	if want := append([]string{"b"}, ids...); !slices.Equal(landed, want) {
		t.Errorf("landed %v, want %v", landed, want)
	}
}

// members lists the changes of units.
func (l *line) members(units []int) (ids []string) {
	for _, id := range units {
		u, _ := l.state.Queue.Unit(id)
		ids = append(ids, u.Changes...)
	}
	return ids
}
