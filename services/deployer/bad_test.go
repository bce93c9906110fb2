package deployer

import (
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/lemnis/lemnis/internal/attest"
	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/deployer/gate"
)

// Bad input ends in a clear fact, users are served, and nothing hangs.

// What is not signed as it says does not enter: the gate's fact names the check, and users stay with what they have.
func TestAnArtifactWhoseProvenanceDoesNotMatch(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true)))
	defer server.Close()
	host, secrets := strings.TrimPrefix(server.URL, "http://"), t.TempDir()
	mine, err := attest.ProjectKey(secrets, "shop", "")
	if err != nil {
		t.Fatal(err)
	}
	other, err := attest.ProjectKey(secrets, "other", "")
	if err != nil {
		t.Fatal(err)
	}
	shelf := newShelf(t)
	d := start(t, testProject("dev"), Options{SecretsDir: secrets})
	v1 := shelf.put(t, "v1", "good")
	d.publish(v1)
	address := url(d.await(t, "v1", published("dev", v1.Digest)))
	strict := d.stream.Configured()
	strict.Environments = slices.Clone(strict.Environments)
	strict.Environments[0].Gate.Signature = "verified"
	strict.Repositories = []events.RepositoryRef{{Name: "api", URL: "https://git.example.org/shop/api.git"}}
	d.configure(strict)
	for name, test := range map[string]struct {
		signer *attest.Signer
		change func(*attest.Build)
		reason string
	}{
		"nobody signed":      {nil, nil, "0 are attached"},
		"another's key":      {&other, nil, "no signature of a trusted key"},
		"another executable": {&mine, func(b *attest.Build) { b.Executable.Digest = map[string]string{"sha256": strings.Repeat("0", 64)} }, "another artifact"},
		"another commit":     {&mine, func(b *attest.Build) { b.Commit = "bad" }, "of commit bad"},
		"another project's":  {&mine, func(b *attest.Build) { b.Repository = "https://git.example.org/other/api.git" }, "https://git.example.org/other/api.git"},
	} {
		t.Run(name, func(t *testing.T) {
			a := signedArtifact(t, host, test.signer, test.change)
			a.ID, a.Evidence = "pkg:oci/api@"+a.Digest, v1.Evidence
			a.Supply = &events.Supply{Key: "signing", Signature: "s", Provenance: "p"}
			d.publish(a)
			of := func(r events.Rollout) bool { return r.Artifact.Digest == a.Digest }
			var why string
			d.await(t, "the gate's word", func(f events.Event) bool {
				c, ok := f.Content.(events.GateEvaluated)
				if !ok || !of(c.Rollout) || gate.Looks(c) {
					return false
				}
				for _, check := range c.Checks {
					if check.Name == gate.Signature && !check.Passed {
						why = check.Value
					}
				}
				return true
			})
			if !strings.Contains(why, test.reason) {
				t.Errorf("the signature is told to be: %s", why)
			}
			d.await(t, "the end", func(f events.Event) bool {
				c, ok := f.Content.(events.DeploymentFailed)
				return ok && of(c.Rollout) && c.Step == "gate"
			})
			if got := get(t, address); !strings.HasPrefix(got, "v1 ") {
				t.Error(got)
			}
		})
	}
}

// A repository that is moved bars what comes next, with the reason. What was let in before is not asked again: users go back to it, though
// its process has to be started anew.
func TestUsersGoBackToWhatWasBuiltBeforeARepositoryMoved(t *testing.T) {
	secrets := t.TempDir()
	signer, err := attest.ProjectKey(secrets, "shop", "")
	if err != nil {
		t.Fatal(err)
	}
	shelf := newShelf(t)
	shelf.signer = &signer
	p := testProject("dev")
	p.Environments[0].Gate.Signature = "verified"
	p.Repositories = []events.RepositoryRef{{Name: "api", URL: "https://git.example.org/shop/api.git"}}
	d := start(t, p, Options{SecretsDir: secrets})
	v1, v2, v3 := shelf.put(t, "v1", "good"), shelf.put(t, "v2", "good"), shelf.put(t, "v3", "good")
	d.publish(v1)
	d.await(t, "v1", published("dev", v1.Digest))
	d.publish(v2)
	bad := d.await(t, "v2", published("dev", v2.Digest))
	p.Repositories = []events.RepositoryRef{{Name: "api", URL: "https://new.example.org/shop/api.git"}}
	d.configure(p)
	d.stream.Put(events.Stated, "i-1", "", events.IncidentDetected{
		Incident: events.Incident{Environment: events.Reference{ID: "dev"}, Service: &events.Reference{ID: "api"}},
		Lemnis:   events.IncidentDetail{Rollout: bad.Content.(events.ServicePublished).Lemnis.Rollout.ID},
	})
	d.await(t, "end of going back", is[events.ServiceRolledback])
	if got := get(t, url(bad)); !strings.HasPrefix(got, "v1 ") {
		t.Errorf("users are served by %s", got)
	}
	d.publish(v3)
	f := d.await(t, "the end of v3", failed("gate"))
	if c := f.Content.(events.DeploymentFailed); c.Rollout.Artifact.Digest != v3.Digest || !strings.Contains(c.Reason, `"https://git.example.org/shop/api.git", which is none of the project's repositories`) {
		t.Errorf("%+v", c)
	}
}

// A canary that ends at its users' requests, or eats memory, is taken back from them, and barred.
func TestACanaryThatDoesNotStayUp(t *testing.T) {
	for _, mode := range []string{"frail", "greedy"} {
		t.Run(mode, func(t *testing.T) {
			b := newBus(t, time.Minute)
			defer b.run(Options{Data: t.TempDir(), Grace: time.Second, Look: 50 * time.Millisecond})()
			shelf := newShelf(t)
			p := testProject("prod")
			p.Environments[0].Limits = &events.Limits{Memory: 100 << 20}
			p.Environments[0].Canary.Deadline, p.Environments[0].Canary.Objective = events.Duration(time.Minute), 0.999
			b.configure(p)
			v1, v2 := shelf.put(t, "v1", "good"), shelf.put(t, "v2", mode)
			b.publish(v1)
			address := url(b.await("v1", published("prod", v1.Digest)))
			crowd := traffic(address, 100)
			defer crowd.stop()
			b.publish(v2)
			judged := b.await("verdict", func(f events.Event) bool {
				c, ok := f.Content.(events.CanaryJudged)
				return ok && c.Verdict != events.Hold
			}).Content.(events.CanaryJudged)
			if judged.Verdict != events.Rollback { // by its errors, or because it does not stay up
				t.Error(judged.Verdict, judged.Reason)
			}
			t.Log(judged.Reason)
			b.await("rollback", is[events.ServiceRolledback])
			b.await("bar", is[events.ArtifactBarred])
			crowd.stop()
			crowd = traffic(address, 50)
			crowd.await(t, 50)
			crowd.stop()
			if len(crowd.errors) > 0 || len(crowd.pids["v2"]) > 0 {
				t.Errorf("users met %v, served by %v", crowd.status, crowd.pids)
			}
		})
	}
}

// A version that does not care for SIGTERM is ended after its grace, and holds up nobody.
func TestAProcessThatIgnoresSIGTERM(t *testing.T) {
	shelf := newShelf(t)
	d := start(t, testProject("dev"), Options{Grace: 300 * time.Millisecond})
	v1, v2 := shelf.put(t, "v1", "stubborn"), shelf.put(t, "v2", "good")
	d.publish(v1)
	address := url(d.await(t, "v1", published("dev", v1.Digest)))
	pid := strings.TrimSpace(strings.TrimPrefix(get(t, address), "v1 "))
	crowd := traffic(address, 20)
	d.publish(v2)
	d.await(t, "v2", published("dev", v2.Digest))
	crowd.stop()
	if !poll(func() bool { _, err := os.Stat("/proc/" + pid); return errors.Is(err, os.ErrNotExist) }) {
		t.Error("it runs on")
	}
	if len(crowd.errors) > 0 {
		t.Errorf("users met %v", crowd.status)
	}
}

// The environment is removed while a part of its users are with a canary: they go back, in a fact, and all are served.
func TestAnEnvironmentIsRemovedDuringACanary(t *testing.T) {
	b := newBus(t, time.Minute)
	defer b.run(Options{Data: t.TempDir(), Grace: time.Second})()
	shelf := newShelf(t)
	p := testProject("prod")
	p.Environments[0].Canary.Deadline, p.Environments[0].Canary.Objective = events.Duration(time.Hour), 0.999
	b.configure(p)
	v1, v2 := shelf.put(t, "v1", "good"), shelf.put(t, "v2", "good")
	b.publish(v1)
	address := url(b.await("v1", published("prod", v1.Digest)))
	crowd := traffic(address, 100)
	defer crowd.stop()
	b.publish(v2)
	b.await("a tick", func(f events.Event) bool {
		c, ok := f.Content.(events.CanaryObserved)
		return ok && c.Canary.Requests > 0
	})
	b.state(events.Event{Project: "shop", Phase: events.Plan, Key: "shop", SubjectID: "shop-2", Content: events.ProjectConfigured{Project: testProject("live"), Revision: 2}})
	aborted := b.await("abort", is[events.DeploymentAborted]).Content.(events.DeploymentAborted)
	if !strings.Contains(aborted.Reason, `no environment "prod" any more`) {
		t.Error(aborted.Reason)
	}
	b.await("rollback", is[events.ServiceRolledback])
	crowd.stop()
	if len(crowd.errors) > 0 {
		t.Errorf("users met %v", crowd.status)
	}
	for range 50 {
		response, err := http.Get(address)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if got := response.Header.Get("App-Version"); got != "v1" {
			t.Fatal(got)
		}
	}
}
