package rollout

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/deployer/gate"
)

// Steps of a deployment that failed at an outside tool.
const (
	stepDeadline = "deadline" // it said nothing in time
	stepOutside  = "outside"  // it said that it failed
)

// Expired is a rollout that an outside tool has not deployed in time.
type Expired struct {
	Rollout  string                `json:"rollout"`
	Artifact events.ArtifactDetail `json:"artifact"`
	Due      time.Time             `json:"due"`
}

// askOutside asks the tool that deploys to the environment.
func (s State) askOutside(r events.Rollout, owner string, policy events.Environment, now time.Time) (events.Fact, bool) {
	within := cmp.Or(time.Duration(policy.Outside.Deadline), events.DefaultOutsideDeadline)
	r.Target = events.OutsideTarget
	f, ok := s.fact(events.DeploymentStarted{Rollout: r, Asked: owner, Deadline: deadline(now, within)})
	f.Timer = within
	return f, ok
}

// deadline is when the timer fires at the earliest: it does so on whole seconds.
func deadline(now time.Time, within time.Duration) string {
	return now.Add(within).UTC().Truncate(time.Second).Format(time.RFC3339)
}

// awaitsOutside reports whether the outside tool was asked and has not answered.
func (s State) awaitsOutside() bool {
	return s.Stage == Starting && s.Current.Rollout.Target == events.OutsideTarget
}

// overdue ends a rollout whose outside tool has not answered in time. A deadline of a rollout before comes too early for this one.
func (s State) overdue(now time.Time) (events.Fact, bool) {
	if !s.awaitsOutside() || now.Before(s.Due) {
		return events.Fact{}, false
	}
	a := s.Current.Rollout.Artifact
	return s.fail(stepDeadline, fmt.Sprintf("nobody has said by service.deployed, until %s, that %s runs", s.Due.UTC().Format(time.RFC3339), a.Digest))
}

// outside answers the tool that deploys to the environment: that what it was asked for runs, or failed. ok is false for all else
// that a principal may ask.
func (s State) outside(p events.Project, e events.Event) (f events.Fact, ok bool) {
	var d events.ServiceDetail
	var artifact string
	failed := ""
	switch c := e.Content.(type) {
	case events.ServiceDeployed:
		d, artifact = c.Lemnis, c.ArtifactID
	case events.ServiceUpgraded:
		d, artifact = c.Lemnis, c.ArtifactID
	case events.DeploymentFailed:
		d.Rollout, failed = c.Rollout, cmp.Or(c.Reason, "it says no reason")
	case events.ServiceRolledback:
		digest := digestIn(c.ArtifactID)
		if !s.awaitsOutside() || !s.Current.Rollout.Back || !names(digest, s.Current.Rollout.Artifact) {
			return s.rolledBackOutside(p, e, c, digest), true
		}
		d.URL, d.Seconds, artifact = c.Lemnis.URL, c.Lemnis.Seconds, c.ArtifactID // the way back that it was asked for
	default:
		return events.Fact{}, false
	}
	digest := cmp.Or(d.Rollout.Artifact.Digest, digestIn(artifact), digestIn(d.Rollout.Artifact.ID), digestIn(d.Rollout.Artifact.Reference))
	if reason := s.notAwaited(d.Rollout.ID, digest, failed != ""); reason != "" {
		return events.Refuse(e, reason)
	}
	if failed != "" {
		return s.fail(stepOutside, fmt.Sprintf("%s says: %s", e.Principal, failed))
	}
	detail := events.ServiceDetail{Rollout: s.Current.Rollout, URL: d.URL, Seconds: d.Seconds}
	environment := events.Reference{ID: detail.Rollout.Environment}
	var content any = events.ServiceDeployed{Environment: environment, ArtifactID: detail.Rollout.Artifact.ID, Lemnis: detail}
	if detail.Rollout.Previous != nil {
		content = events.ServiceUpgraded{Environment: environment, ArtifactID: detail.Rollout.Artifact.ID, Lemnis: detail}
	}
	f, ok = s.fact(content)
	f.SubjectID, f.Phase = detail.Rollout.Service, events.Deploy
	return f, ok
}

// rolledBackOutside takes the tool's word that users are back on what served them before, by its own doing. What they are back
// from is barred as if it had been taken back here.
func (s State) rolledBackOutside(p events.Project, e events.Event, c events.ServiceRolledback, digest string) events.Fact {
	refuse := func(format string, args ...any) events.Fact {
		f, _ := events.Refuse(e, fmt.Sprintf(format, args...))
		return f
	}
	if s.Serving == nil {
		return refuse("nothing serves here that users could be back on; what was asked for and does not work is a deployment.failed")
	}
	bad := events.Rollout{ID: s.Serving.Rollout, Artifact: s.Serving.Artifact, Target: events.OutsideTarget}
	var back events.Instance
	switch {
	case digest == "":
		return refuse("artifactId has to say, with its digest, which artifact users are back on")
	case s.awaitsOutside() && names(digest, s.Serving.Artifact): // what was asked for was there for a while
		bad, back = s.Current.Rollout, *s.Serving
	case names(digest, s.Serving.Artifact):
		return refuse("%s serves here already; artifactId is what users are back on", digest)
	case s.awaitsOutside() && names(digest, s.Current.Rollout.Artifact):
		return refuse("%s was asked for: say service.deployed when it runs", digest)
	default:
		i := slices.IndexFunc(s.Good, func(g events.Instance) bool { return names(digest, g.Artifact) })
		if i < 0 {
			return refuse("%s is none of the last %d artifacts that served all users here", digest, good)
		}
		back = s.Good[i]
	}
	if why := s.Barred[back.Artifact.Digest]; why != "" {
		return refuse("%s is barred: %s", digest, why)
	}
	bad.Environment, bad.Service = place(e)
	bad.Previous, bad.Back = &back, false
	f, _ := s.fact(events.ServiceRolledback{Environment: events.Reference{ID: bad.Environment}, ArtifactID: back.Artifact.ID, Lemnis: events.ServiceDetail{
		Rollout: bad, URL: c.Lemnis.URL, Seconds: c.Lemnis.Seconds, Together: p.Together(bad.Service),
		Reason: because(e.Principal+" took it back", c.Lemnis.Reason),
	}})
	f.SubjectID, f.Phase = bad.Service, events.Deploy
	return f
}

// tookBack folds that an outside tool took back what serves.
func (s State) tookBack(c events.ServiceRolledback, at time.Time) State {
	back := *c.Lemnis.Rollout.Previous
	s.Good = slices.DeleteFunc(slices.Clone(s.Good), func(g events.Instance) bool { return g.Artifact.Digest == back.Artifact.Digest })
	s.Serving, s.Published, s.Returned = &back, at, true
	s.Revert = nil // the tool went its own way, also where it was being asked for another
	s.TakenBack = &Revert{Rollout: c.Lemnis.Rollout.ID, Artifact: c.Lemnis.Rollout.Artifact, Reason: c.Lemnis.Reason}
	return s
}

// notAwaited says why what an outside tool says is not what it was asked for; empty when it is.
func (s State) notAwaited(id, digest string, failed bool) string {
	r := s.Current.Rollout
	late := s.Expired
	switch {
	case late != nil && (id == late.Rollout || id == "" && names(digest, late.Artifact)) && (!s.awaitsOutside() || !names(digest, r.Artifact)):
		return fmt.Sprintf("too late: %s of %s had to be there until %s; request it again", late.Rollout, late.Artifact.Digest, late.Due.UTC().Format(time.RFC3339))
	case !s.awaitsOutside() && s.Serving != nil && names(digest, s.Serving.Artifact):
		return fmt.Sprintf("%s serves here already, and nothing else is awaited", digest)
	case !s.awaitsOutside():
		return "nobody was asked to deploy anything here now: a deployment that is asked for is a deployment.started"
	case id != "" && id != r.ID:
		return fmt.Sprintf("the rollout in flight is %s, not %s", r.ID, id)
	case digest == "" && !failed:
		return fmt.Sprintf("it has to say which artifact: artifactId, or lemnis.rollout.artifact.digest, with the digest %s", r.Artifact.Digest)
	case digest != "" && !names(digest, r.Artifact):
		return fmt.Sprintf("%s was asked for (%s), not %s", r.Artifact.Digest, r.Artifact.Reference, digest)
	}
	return ""
}

// names reports whether the digest is the artifact's: of what runs, or of the image that has it, which is what other tools know.
func names(digest string, a events.ArtifactDetail) bool {
	return digest != "" && (digest == a.Digest || digest == digestIn(a.Reference) || digest == digestIn(a.ID))
}

// digestIn reads the digest in an artifact's id, a package URL (pkg:oci/api@sha256:…), or reference.
func digestIn(id string) string {
	version := id[strings.LastIndexByte(id, '@')+1:]
	version, _, _ = strings.Cut(version, "?")
	if version = strings.ReplaceAll(version, "%3A", ":"); !gate.IsDigest(version) {
		return ""
	}
	return version
}

// publishedOutside says that users are served: whoever deploys outside moves them too.
func (s State) publishedOutside() (events.Fact, bool) {
	r := s.Current.Rollout
	f, ok := s.fact(events.ServicePublished{Environment: events.Reference{ID: r.Environment}, Lemnis: events.ServiceDetail{
		Rollout: r, URL: s.URL, Reason: "deployed by another tool",
	}})
	f.SubjectID, f.Phase = r.Service, events.Deploy
	return f, ok
}
