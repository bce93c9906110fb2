package integration_test

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/lemnis/lemnis/cmd/lemnis/api"
	"github.com/lemnis/lemnis/pkg/events"
)

// clusterVariable asks for the stack of eighteen containers, and names those that are killed in turn, each during a lap;
// "all" are all of them. make test-cluster sets it.
const clusterVariable = "LEMNIS_TEST_CLUSTER"

// judge reads a lap's events from outside and has them judged.
func judge(t *testing.T, client *api.Client, project string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var all []events.Event
	// What the lap waited for was on the stream; it can be queried within a second of that, here or at the other gateway.
	for tick := time.NewTicker(100 * time.Millisecond); ; {
		var err error
		all, err = client.Events(ctx, api.Query{Project: project})
		if err == nil && count(all, func(e events.Event) bool {
			_, is := e.Content.(events.LessonLearned)
			return is && e.Kind == events.Stated && counts(e)
		}) > 0 {
			tick.Stop()
			break
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%d events of %s, none is the lesson: %v", len(all), project, err)
		case <-tick.C:
		}
	}
	eachFactOnce(t, all)
	eachSigned(t, all)
	official(t, all)
	t.Logf("%d events of %s, each fact once", len(all), project)
}

// The images, with keys, tokens and passwords, read-only, without a capability: the lap closes.
func TestLapOfContainers(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED in short mode: takes a minute, so the images were NOT run")
	}
	s := startContainers(t, 1, 1)
	judge(t, s.client("gateway-1"), s.demo("demo", func() {}))
	for _, name := range []string{"gateway-1", "builder-1"} {
		if n := s.bill(name); n < 10 {
			t.Errorf("the bill of %s has %d components", name, n)
		}
	}
}

// Three NATS servers, two Redis and two of every service: a lap closes while any one container is killed, and each fact is there
// once.
func TestLapOfContainersOverKills(t *testing.T) {
	victims := os.Getenv(clusterVariable)
	if victims == "" {
		t.Skipf("SKIPPED: the cluster of containers was NOT tried; make test-cluster does, which sets %s", clusterVariable)
	}
	s := startContainers(t, 3, 2)
	if victims == "all" {
		victims = "nats-1 nats-2 nats-3 redis-1 redis-2 gateway-1 gateway-2 planner-1 planner-2 builder-1 builder-2 deployer-1 deployer-2 monitor-1 monitor-2 feedback-1 feedback-2"
	}
	for _, victim := range strings.Fields(victims) {
		id := s.all[victim].GetContainerID()
		project := s.demo("demo-"+victim, func() {
			if out, err := exec.Command("docker", "kill", id).CombinedOutput(); err != nil {
				t.Errorf("kill %s: %v\n%s", victim, err, out)
			}
			t.Logf("killed %s", victim)
		})
		other := "gateway-1"
		if victim == other {
			other = "gateway-2"
		}
		judge(t, s.client(other), project)
		if err := s.all[victim].Start(t.Context()); err != nil {
			t.Fatalf("start %s again: %v", victim, err)
		}
	}
}

func removeVolumes(t *testing.T, prefix string) {
	t.Helper()
	out, err := exec.Command("docker", "volume", "ls", "-q", "--filter", "name="+prefix).Output()
	if err != nil {
		t.Errorf("list the volumes: %v", err)
		return
	}
	if names := strings.Fields(string(out)); len(names) > 0 {
		if out, err := exec.Command("docker", append([]string{"volume", "rm"}, names...)...).CombinedOutput(); err != nil {
			t.Errorf("remove the volumes: %v\n%s", err, out)
		}
	}
}
