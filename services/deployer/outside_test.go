package deployer

import (
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
)

// claim puts a claim on the bus, as the gateway does for a principal that it knows.
func (b *bus) claim(principal string, e events.Event) {
	b.tb.Helper()
	e.Project, e.Phase, e.Principal, e.ID = "shop", events.Deploy, principal, principal+"-"+e.SubjectID+events.TypeOf(e.Content).Short()
	e.Source, e.Time, e.Type = "/test", time.Now(), events.TypeOf(e.Content)
	msg, err := events.Encode(e)
	if err != nil {
		b.tb.Fatal(err)
	}
	msg.Subject = e.Subject(events.Claim)
	if _, err := b.host.JS.PublishMsg(b.ctx, msg); err != nil {
		b.tb.Fatal(err)
	}
}

// Another tool deploys: it is asked, only its word counts, the deadline is kept by the bus, and nothing is run here.
func TestAnotherToolDeploys(t *testing.T) {
	b := newBus(t, time.Minute)
	data := t.TempDir()
	defer b.run(Options{Data: data})()
	p := testProject("prod")
	p.Environments[0] = events.Environment{Name: "prod", Target: events.OutsideTarget, Gate: events.Gate{Tests: "passed"},
		Outside: &events.Outside{Owner: "argocd", Deadline: events.Duration(time.Minute)}}
	b.configure(p)
	shelf := newShelf(t)
	v1, v2 := shelf.put(t, "v1", "good"), shelf.put(t, "v2", "good")
	b.publish(v1)
	asked := b.await("question", is[events.DeploymentStarted]).Content.(events.DeploymentStarted)
	if asked.Asked != "argocd" || asked.Rollout.Artifact.Reference != v1.Reference {
		t.Errorf("%+v", asked)
	}
	says := events.Event{SubjectID: "api", Content: events.ServiceDeployed{Environment: events.Reference{ID: "prod"}, ArtifactID: v1.ID,
		Lemnis: events.ServiceDetail{URL: "https://shop.example.org"}}}
	b.claim("mallory", says)
	b.await("refusal", is[events.ClaimRefused])
	b.claim("argocd", says)
	if got := url(b.await("v1 in prod", published("prod", v1.Digest))); got != "https://shop.example.org" {
		t.Error(got)
	}
	p.Environments[0].Outside.Deadline = events.Duration(time.Second)
	b.state(events.Event{Project: "shop", Phase: events.Plan, Key: "shop", SubjectID: "shop-2", Content: events.ProjectConfigured{Project: p, Revision: 2}})
	b.publish(v2)
	b.await("end", failed("deadline"))
	if files, err := os.ReadDir(filepath.Join(data, "executables")); err != nil || len(files) > 0 {
		t.Errorf("it was fetched to be run: %v %v", files, err)
	}
}

// A service moves from processes to another tool: what ran before is ended once the tool has deployed, and is no stranger.
func TestAServiceMovesToAnotherTool(t *testing.T) {
	b := newBus(t, time.Minute)
	var told atomic.Int32
	d, stop := b.deploy(Options{Data: t.TempDir(), Grace: time.Second, Look: 400 * time.Millisecond, Log: func(message string, _ ...any) {
		if message == endedForAnother {
			told.Add(1)
		}
	}})
	defer stop()
	b.configure(testProject("prod"))
	shelf := newShelf(t)
	v1, v2, v3 := shelf.put(t, "v1", "good"), shelf.put(t, "v2", "good"), shelf.put(t, "v3", "good")
	b.publish(v1)
	ran := b.await("v1 in prod", published("prod", v1.Digest)).Content.(events.ServicePublished).Lemnis.Rollout.ID
	p := testProject("prod")
	p.Environments[0] = events.Environment{Name: "prod", Target: events.OutsideTarget, Gate: events.Gate{Tests: "passed"},
		Outside: &events.Outside{Owner: "argocd", Deadline: events.Duration(time.Minute)}}
	b.state(events.Event{Project: "shop", Phase: events.Plan, Key: "shop", SubjectID: "shop-2", Content: events.ProjectConfigured{Project: p, Revision: 2}})
	b.publish(v2)
	b.await("question", is[events.DeploymentStarted])
	b.claim("argocd", events.Event{SubjectID: "api", Content: events.ServiceDeployed{Environment: events.Reference{ID: "prod"}, ArtifactID: v2.ID,
		Lemnis: events.ServiceDetail{URL: "https://shop.example.org"}}})
	b.await("v2 in prod", published("prod", v2.Digest))
	s, err := d.use(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !poll(func() bool { _, err := s.front.Process(t.Context(), "shop/prod/api", ran); return err != nil }) {
		t.Error("what ran before runs on")
	}
	b.publish(v3)
	b.await("another question", is[events.DeploymentStarted]) // whatever was said of the process before
	if n := told.Load(); n > 1 {                              // none where an effect was quicker
		t.Errorf("the log says it %d times", n)
	}
	for _, f := range b.met {
		if c, ok := f.Content.(events.DriftFound); ok {
			t.Errorf("%+v", c)
		}
	}
}
