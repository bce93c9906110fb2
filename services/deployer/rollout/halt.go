package rollout

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/deployer/gate"
)

// Halter is who pauses and resumes a rollout because of an incident.
const Halter = "lemnis"

// good is how many artifacts that served all users are remembered, to go back to.
const good = 5

// Revert is an artifact that served all users and turned out bad.
type Revert struct {
	Rollout  string                `json:"rollout"`
	Artifact events.ArtifactDetail `json:"artifact"`
	Reason   string                `json:"reason"`
}

// trouble is what the phase operate says of an environment.
type trouble struct {
	id       string // of the incident, or of the objective that burns
	service  string // that users suffer at; empty: not known
	over     bool
	reason   string
	rollout  string // held to be the cause; these three may be empty
	change   string
	artifact string
}

// troubleIn reads an event of the phase operate; environment is empty for all others.
func troubleIn(e events.Event) (t trouble, environment string) {
	incident := func(i events.Incident, d events.IncidentDetail, over bool) (trouble, string) {
		t := trouble{id: e.SubjectID, over: over, rollout: d.Rollout, change: d.Change, artifact: i.ArtifactID,
			reason: because("incident "+e.SubjectID, i.Description)}
		if i.Service != nil {
			t.service = i.Service.ID
		}
		return t, i.Environment.ID
	}
	burn := func(environment, service, objective string, over bool) (trouble, string) {
		return trouble{id: "slo/" + environment + "/" + service + "/" + objective, service: service, over: over,
			reason: fmt.Sprintf("the error budget of %s burns (%s)", service, objective)}, environment
	}
	switch c := e.Content.(type) {
	case events.IncidentDetected:
		return incident(c.Incident, c.Lemnis, false)
	case events.IncidentReported:
		return incident(c.Incident, c.Lemnis, false)
	case events.IncidentResolved:
		return incident(c.Incident, c.Lemnis, true)
	case events.SLOBurned:
		return burn(c.Environment, c.Service, c.Objective, false)
	case events.SLORecovered:
		return burn(c.Environment, c.Service, c.Objective, true)
	}
	return trouble{}, ""
}

// services that a project names, sorted: those that may have a rollout in flight.
func services(p events.Project) []string {
	var all []string
	for _, r := range p.Repositories {
		all = append(all, r.Name)
	}
	for _, o := range p.Objectives {
		all = append(all, o.Service)
	}
	for _, f := range p.Features {
		all = append(all, f.Service)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// names reports whether the trouble is held to be caused by this rollout.
func (t trouble) names(rollout string, a events.ArtifactDetail) bool {
	return t.rollout != "" && t.rollout == rollout || t.artifact != "" && t.artifact == a.ID ||
		t.rollout == "" && t.change != "" && t.change == a.Change
}

// trouble stops what is in flight: what it is held to be caused by goes back, all else waits until it is over.
func (s State) trouble(key string, t trouble) (events.Fact, bool) {
	_, service := SplitKey(key)
	own := t.service == "" || t.service == service
	halted := slices.Contains(s.Halts, t.id)
	switch {
	case t.over && halted:
		return s.fact(events.DeploymentResumed{Rollout: s.Current.Rollout, By: Halter, Incident: t.id})
	case t.over:
		return events.Fact{}, false
	case own && s.Stage != Idle && t.names(s.Current.Rollout.ID, s.Current.Rollout.Artifact):
		return s.goBack(t.reason)
	case own && s.Serving != nil && t.names(s.Serving.Rollout, s.Serving.Artifact):
		return s.barServing(t.reason) // what is in flight may be what mends it
	case strings.HasPrefix(t.rollout, key+"@"): // one of here that has come to its end
		return events.Fact{}, false
	case halted || !s.mayHalt():
		return events.Fact{}, false
	}
	return s.fact(events.DeploymentPaused{Rollout: s.Current.Rollout, By: Halter, Incident: t.id, Reason: t.reason})
}

// mayHalt leaves alone what ends by itself, what goes back, and users who are on their way to a version already.
func (s State) mayHalt() bool {
	switch s.Stage {
	case Idle, Closed, Refused, Failing, Undoing, Undone, Shifting:
		return false
	}
	return !s.Current.Rollout.Back
}

// goBack undoes what is bad, however far it came. An artifact of before that nobody knows is no reason to end a service.
func (s State) goBack(reason string) (events.Fact, bool) {
	switch s.Stage {
	case Idle:
		return s.barServing(reason)
	case Observing, Promoted:
		return s.fact(events.CanaryJudged{Rollout: s.Current.Rollout, Verdict: events.Rollback, Tick: s.Tick,
			Exposed: s.Canary.Canary.Requests, Errors: s.Canary.Canary.Errors, Reason: reason})
	case Shifting: // once it has all users it goes back
		return s.fact(events.DeploymentPaused{Rollout: s.Current.Rollout, By: Halter, Reason: reason})
	case Closed, Refused, Failing, Undoing, Undone:
		return events.Fact{}, false
	}
	return s.fail("halt", reason)
}

// barServing bars what serves all users, who go back next.
func (s State) barServing(reason string) (events.Fact, bool) {
	if _, ok := s.lastGood(); !ok || s.Serving == nil || s.Revert != nil {
		return events.Fact{}, false
	}
	a := s.Serving.Artifact
	f, ok := s.fact(events.ArtifactBarred{ArtifactID: a.ID, Digest: a.Digest, Service: a.Service, Reason: reason, Rollout: s.Serving.Rollout})
	f.SubjectID = a.ID
	return f, ok
}

// hasNoUsers reports whether a rollout is in flight that no user has met.
func (s State) hasNoUsers() bool {
	switch s.Stage {
	case Requested, Soaking, Verifying, Gated, Approving, Starting, Placed, Tested:
		return true
	}
	return false
}

// giveWay makes room for the way back from what serves all users: what no user has met comes after it. What is paused would
// then go on by itself, so it ends.
func (s State) giveWay(key string, e events.Event) (events.Fact, bool) {
	if s.Revert == nil || s.Serving == nil || s.Serving.Rollout != s.Revert.Rollout || !s.hasNoUsers() || s.Current.Rollout.Back {
		return events.Fact{}, false
	}
	if s.paused() {
		return s.fail("halt", because("what serves all users goes back first", s.Revert.Reason))
	}
	return s.revert(key, e)
}

// outlawed ends a rollout whose artifact turned out bad elsewhere, after its gate was asked.
func (s State) outlawed() (events.Fact, bool) {
	why := s.Barred[s.Current.Rollout.Artifact.Digest]
	if why == "" || s.Current.Rollout.Back || s.Suspect != "" || s.Stage == Idle || s.Stage == Requested {
		return events.Fact{}, false
	}
	return s.goBack(because("it is barred", why))
}

// lastGood is the newest artifact that served all users before, and is not barred.
func (s State) lastGood() (events.Instance, bool) {
	for _, g := range slices.Backward(s.Good) {
		if s.Barred[g.Artifact.Digest] == "" && (s.Serving == nil || g.Artifact.Digest != s.Serving.Artifact.Digest) {
			return g, true
		}
	}
	return events.Instance{}, false
}

// revert asks for the last good artifact again: it has proved what a gate asks for, and nobody waits for a window or a person.
func (s State) revert(key string, e events.Event) (events.Fact, bool) {
	environment, service := SplitKey(key)
	g, ok := s.lastGood()
	if !ok {
		return events.Fact{}, false
	}
	return events.Fact{Content: events.DeploymentRequested{
		Rollout: events.Rollout{ID: fmt.Sprintf("%s@%d", key, e.Sequence), Environment: environment, Service: service, Artifact: g.Artifact, Strategy: events.AllAtOnce, Back: true},
		Reason:  because("back to what was good before "+s.Revert.Artifact.ID, s.Revert.Reason),
	}}, true
}

// reverted says that all users are back.
func (s State) reverted(key string, p events.Project) (events.Fact, bool) {
	environment, service := SplitKey(key)
	c := events.ServiceRolledback{Environment: events.Reference{ID: environment}, ArtifactID: s.Serving.Artifact.ID, Lemnis: events.ServiceDetail{
		Rollout: events.Rollout{ID: s.Revert.Rollout, Environment: environment, Service: service, Artifact: s.Revert.Artifact, Previous: s.Serving},
		Reason:  s.Revert.Reason, Together: p.Together(service),
	}}
	f, ok := s.fact(c)
	f.SubjectID, f.Phase = service, events.Deploy
	return f, ok
}

// together goes back with a service that it belongs to: when what it serves, or shall serve, was made for the same item, change
// or commit as what turned out bad there.
func (s State) together(bad events.Rollout, reason string) (events.Fact, bool) {
	belongs := func(a events.ArtifactDetail) bool {
		b := bad.Artifact
		same := func(x, y string) bool { return x != "" && x == y }
		return same(a.Item, b.Item) || same(a.Change, b.Change) || same(a.Commit, b.Commit)
	}
	reason = because("goes back together with "+bad.Service, reason)
	switch {
	case s.Stage != Idle && belongs(s.Current.Rollout.Artifact) && !s.Current.Rollout.Back:
		return s.goBack(reason)
	case s.Serving != nil && belongs(s.Serving.Artifact):
		return s.barServing(reason)
	}
	return events.Fact{}, false
}

// policyOf is the gate that a request has to pass: what goes back has passed it before.
func policyOf(r Request, p events.Project, place int) events.Gate {
	if r.Rollout.Back {
		return events.Gate{}
	}
	return p.Gate(place)
}

// published folds that an artifact serves all users.
func (s State) published(d events.ServiceDetail, at time.Time) State {
	r := d.Rollout
	if before := s.Serving; before != nil && before.Artifact.Digest != r.Artifact.Digest && !r.Back {
		list := slices.DeleteFunc(slices.Clone(s.Good), func(g events.Instance) bool { return g.Artifact.Digest == before.Artifact.Digest })
		list = append(list, *before)
		s.Good = list[max(0, len(list)-good):]
	}
	s.Serving, s.Published = &events.Instance{Rollout: r.ID, Artifact: r.Artifact, Target: r.Target, Process: r.Process}, at
	s.Kept, s.Returned = keptBy(d), r.Back
	if !r.Back {
		s.Revert = nil // users went on to something newer instead
	}
	if s.is(r.ID) {
		suspect := s.Suspect
		s = s.end()
		s.Suspect = suspect
	}
	return s
}

// barred folds that an artifact may not enter any more; here is where users are taken back from it.
func (s State) barred(c events.ArtifactBarred) State {
	if s.Stage == Idle {
		s.Suspect = ""
	}
	if c.Rollout != "" && s.Serving != nil && s.Serving.Rollout == c.Rollout {
		s.Revert = &Revert{c.Rollout, s.Serving.Artifact, c.Reason}
	}
	return s
}

// unbarred forgets what was barred once a newer artifact comes: it is for the automatic way that the bad one is barred.
func (s State) unbarred(digest string, sequence uint64) State {
	if s.Barred[digest] == "" && !slices.ContainsFunc(s.Known, func(k Request) bool { return k.Rollout.Artifact.Digest == digest }) {
		if s.Barred != nil {
			s.Freed = sequence
		}
		s.Barred = nil
	}
	return s
}

func (s State) paused() bool { return s.Paused || len(s.Halts) > 0 }

func (s State) frozen(p events.Environment, at time.Time) bool {
	end, _ := gate.Frozen(p.Gate.Freeze, at)
	return !end.IsZero() && !s.Current.Rollout.Back
}

// homeless ends what is in flight in an environment that the project has no more. What moves all users there goes on.
func (s State) homeless(environment string) (events.Fact, bool) {
	reason := fmt.Sprintf("the project has no environment %q any more", environment)
	switch s.Stage {
	case Observing, Promoted:
		return s.fact(events.DeploymentAborted{Rollout: s.Current.Rollout, By: Halter, Reason: reason})
	case Soaking, Verifying, Gated, Approving, Starting, Placed, Tested:
		return s.fail("environment", reason)
	}
	return events.Fact{}, false
}
