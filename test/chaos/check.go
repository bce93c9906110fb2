package chaos

import (
	"fmt"
	"sort"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
)

// Rule that a stream has broken.
type Rule string

// The rules. The model knows nothing of the runtime and calls none of the services' code: it knows the catalogue of events,
// and what a lap is.
const (
	Lost      Rule = "lost"      // something that has to be there is not
	Twice     Rule = "twice"     // something is there more than once
	Causeless Rule = "causeless" // a fact names no cause that stands before it, or an older one than the fact before it
	Ungated   Rule = "ungated"   // a deployment without its gate, its approval or its tests
	Unproven  Rule = "unproven"  // an artifact without a green pipeline
	Unordered Rule = "unordered" // time runs backwards: an order or a duration is negative
	Stray     Rule = "stray"     // a dead letter, or an event of nobody's
	Slow      Rule = "slow"      // something took longer than it may
)

// Finding is one breach.
type Finding struct {
	Rule Rule
	Text string
}

// String is the rule and what broke it.
func (f Finding) String() string { return string(f.Rule) + ": " + f.Text }

// Verdict on a stream.
type Verdict struct {
	Findings              []Finding
	Events, Facts, Claims int
	Chains, Closed        int           // of changes, and of what repositories held at first
	Gap                   time.Duration // longest time without a fact
	Answer                time.Duration // 99 of 100 claims were answered within it
	Redone                int           // attempts at effects beyond the first
}

// Count is how often a rule was broken.
func (v Verdict) Count(r Rule) (n int) {
	for _, f := range v.Findings {
		if f.Rule == r {
			n++
		}
	}
	return n
}

// Check walks a stream.
func Check(l Ledger) Verdict {
	c := &checker{ledger: l, at: make(map[uint64]*events.Event, len(l.Stream)), ids: map[string]uint64{}, causes: map[aggregate]map[uint64]uint64{},
		watermarks: map[aggregate]uint64{}, answers: map[string][]*events.Event{}, rollouts: map[string]*rollout{}, green: map[string]bool{}, tested: map[string]bool{},
		merged: map[string]bool{}, built: map[string]bool{}, projects: map[string][]*events.Event{}}
	for i := range l.Stream {
		c.entry(&l.Stream[i])
	}
	c.acknowledged()
	c.letters()
	for _, lap := range l.Laps {
		c.lap(lap)
	}
	sort.SliceStable(c.verdict.Findings, func(i, j int) bool { return c.verdict.Findings[i].Rule < c.verdict.Findings[j].Rule })
	return c.verdict
}

// aggregate names one.
type aggregate struct {
	project, phase, kind, key string
}

type checker struct {
	ledger  Ledger
	verdict Verdict

	last       uint64
	lastFact   time.Time
	at         map[uint64]*events.Event
	ids        map[string]uint64
	causes     map[aggregate]map[uint64]uint64 // cause to the fact that it led to
	watermarks map[aggregate]uint64
	answers    map[string][]*events.Event // to a claim, by project and id
	projects   map[string][]*events.Event // facts
	waits      []time.Duration

	rollouts map[string]*rollout // by project and id
	green    map[string]bool     // commits that a pipeline run found good
	tested   map[string]bool     // commits that the queue let through
	merged   map[string]bool     // commits of the master copy
	built    map[string]bool     // digests of builds
}

func (c *checker) find(r Rule, format string, args ...any) {
	c.verdict.Findings = append(c.verdict.Findings, Finding{r, fmt.Sprintf(format, args...)})
}

// entry is one message in the order of the stream.
func (c *checker) entry(m *Entry) {
	e := &m.Event
	c.verdict.Events++
	if e.Sequence != c.last+1 {
		c.find(Lost, "the stream goes from %d to %d", c.last, e.Sequence)
	}
	c.last = e.Sequence
	c.at[e.Sequence] = e
	if m.Unreadable != "" {
		if !c.ledger.Poison[e.Sequence] {
			c.find(Stray, "%d can not be read: %s", e.Sequence, m.Unreadable)
		}
		return
	}
	switch e.Kind {
	case events.Claim:
		c.verdict.Claims++
		c.once(e)
	case events.Result:
		if e.Attempt > 1 {
			c.verdict.Redone++
		}
		c.durations(e)
	case events.Stated:
		c.verdict.Facts++
		c.once(e)
		c.fact(e)
		c.durations(e)
	}
}

// once holds an id to one claim or fact.
func (c *checker) once(e *events.Event) {
	id := string(e.Kind) + " " + e.Principal + " " + e.Source + " " + e.ID
	if first, ok := c.ids[id]; ok {
		c.find(Twice, "%s %s of %s stands at %d and at %d", e.Kind, e.Type.Short(), e.ID, first, e.Sequence)
		return
	}
	c.ids[id] = e.Sequence
}

// fact checks what ties a fact to its aggregate and to its cause.
func (c *checker) fact(e *events.Event) {
	a := aggregate{e.Project, string(e.Phase), e.Aggregate, e.Key}
	name := fmt.Sprintf("fact %d, %s of %s %s/%s", e.Sequence, e.Type.Short(), e.Project, e.Aggregate, e.Key)
	if c.causes[a] == nil {
		c.causes[a] = map[uint64]uint64{}
	}
	if first, ok := c.causes[a][e.CauseSequence]; ok {
		c.find(Twice, "%s: its cause %d led to fact %d already", name, e.CauseSequence, first)
	}
	c.causes[a][e.CauseSequence] = e.Sequence
	switch cause := c.at[e.CauseSequence]; {
	case e.CauseSequence >= e.Sequence || cause == nil:
		c.find(Causeless, "%s: its cause %d does not stand before it", name, e.CauseSequence)
	case cause.ID != e.Cause || cause.Project != e.Project:
		c.find(Causeless, "%s: its cause is said to be %s, and %d is %s", name, e.Cause, e.CauseSequence, cause.ID)
	default:
		if e.CauseSequence < c.watermarks[a] {
			c.find(Causeless, "%s: its cause %d is older than that of the fact before it, %d", name, e.CauseSequence, c.watermarks[a])
		}
		c.watermarks[a] = max(c.watermarks[a], e.CauseSequence)
		c.order(name, e, cause)
		if cause.Kind == events.Claim {
			id := cause.Project + "\x00" + cause.ID
			c.answers[id] = append(c.answers[id], e)
			c.waits = append(c.waits, e.Stored.Sub(cause.Stored))
		}
	}
	if !c.lastFact.IsZero() {
		c.verdict.Gap = max(c.verdict.Gap, e.Stored.Sub(c.lastFact))
	}
	c.lastFact = e.Stored
	c.projects[e.Project] = append(c.projects[e.Project], e)
	c.proof(name, e)
}

// acknowledged holds every acknowledgement to its claim on the stream, and to one answer.
func (c *checker) acknowledged() {
	for _, a := range c.ledger.Acked {
		e := c.at[a.Sequence]
		if e == nil || e.Kind != events.Claim || e.ID != a.ID || e.Project != a.Project {
			c.find(Lost, "claim %s of %s was acknowledged at %d, and is not there", a.ID, a.Project, a.Sequence)
			continue
		}
		switch n := len(c.answers[a.Project+"\x00"+a.ID]); {
		case n == 0:
			c.find(Lost, "claim %s of %s at %d (%s) was acknowledged and has no answer", a.ID, a.Project, a.Sequence, e.Type.Short())
		case n > 1:
			c.find(Twice, "claim %s of %s at %d has %d answers", a.ID, a.Project, a.Sequence, n)
		}
	}
	sort.Slice(c.waits, func(i, j int) bool { return c.waits[i] < c.waits[j] })
	if n := len(c.waits); n > 0 {
		c.verdict.Answer = c.waits[(n*99-1)/100]
	}
}

// letters holds poison to one dead letter each, with a reason, and everything else to none.
func (c *checker) letters() {
	seen := map[uint64]int{}
	for _, l := range c.ledger.Letters {
		switch {
		case !c.ledger.Poison[l.Sequence]:
			c.find(Stray, "%d (%s) is a dead letter of %s: %s", l.Sequence, l.Subject, l.Phase, l.Reason)
		case l.Reason == "":
			c.find(Stray, "the dead letter of %d gives no reason", l.Sequence)
		}
		seen[l.Sequence]++
	}
	for at := range c.ledger.Poison {
		switch n := seen[at]; {
		case n == 0:
			c.find(Lost, "%d can not be read, and is no dead letter", at)
		case n > 1:
			c.find(Twice, "%d is %d dead letters", at, n)
		}
	}
}
