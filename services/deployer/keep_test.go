package deployer

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
)

// Blue-green on the real bus, under traffic: users are switched at once, back at once to the very process that served them
// before, and no request fails but for what the bad version answers; what is kept ends when its time is over.
func TestBlueGreen(t *testing.T) {
	b := newBus(t, time.Minute)
	stop := b.run(Options{Data: t.TempDir(), Grace: 2 * time.Second})
	defer stop()
	shelf := newShelf(t)
	p := testProject("prod")
	e := &p.Environments[0]
	e.Strategy, e.Canary, e.Blue = events.BlueGreenStrategy, nil, &events.BlueGreen{Keep: events.Duration(time.Minute)}
	b.configure(p)
	v1, v2, v3 := shelf.put(t, "v1", "good"), shelf.put(t, "v2", "good"), shelf.put(t, "v3", "good")
	b.publish(v1)
	address := url(b.await("v1", published("prod", v1.Digest)))
	crowd := traffic(address, 100)
	crowd.await(t, 50)
	b.publish(v2)
	second := b.await("v2", published("prod", v2.Digest)).Content.(events.ServicePublished).Lemnis
	if second.Kept == nil || second.Kept.Artifact.Digest != v1.Digest || second.Until == "" {
		t.Errorf("kept %+v until %s", second.Kept, second.Until)
	}
	b.state(events.Event{Project: "shop", Phase: events.Operate, Key: "i1", SubjectID: "i1", Content: events.IncidentDetected{
		Incident: events.Incident{Environment: events.Reference{ID: "prod"}, Service: &events.Reference{ID: "api"}},
		Lemnis:   events.IncidentDetail{Rollout: second.Rollout.ID},
	}})
	barred := b.await("bar", is[events.ArtifactBarred])
	b.await("v1 again", published("prod", v1.Digest))
	back := b.await("rollback", is[events.ServiceRolledback])
	t.Logf("from the bar to all users back: %s", back.Stored.Sub(barred.Stored))

	e.Blue.Keep = events.Duration(time.Second)
	b.state(events.Event{Project: "shop", Phase: events.Plan, Key: "shop", SubjectID: "shop-2", Content: events.ProjectConfigured{Project: p, Revision: 2}})
	b.publish(v3)
	b.await("v3", published("prod", v3.Digest))
	retired := b.await("end of v1", is[events.DeploymentRetired]).Content.(events.DeploymentRetired)
	crowd.stop()
	if len(crowd.errors) > 0 {
		t.Errorf("users saw errors: %v, %v", crowd.errors, crowd.status)
	}
	if retired.Rollout.Artifact.Digest != v1.Digest {
		t.Errorf("%+v", retired)
	}
	if n := len(crowd.pids["v1"]); n != 1 {
		t.Errorf("v1 ran as %d processes", n)
	}
	for version, pids := range crowd.pids {
		for pid := range pids {
			ended := func() bool { _, err := os.Stat(fmt.Sprint("/proc/", pid)); return errors.Is(err, os.ErrNotExist) }
			if version != "v3" && !poll(ended) {
				t.Errorf("%s runs on as %s", version, pid)
			}
		}
	}
}
