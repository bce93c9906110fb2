package gateway

import (
	"fmt"
	"testing"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"github.com/lemnis/lemnis/internal/fold"
	"github.com/lemnis/lemnis/internal/natsd/natsdtest"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
)

// What was acknowledged is read, wherever in a cluster the reader is placed: two of three servers are enough for an
// acknowledgement, and the third may not have it yet.
func TestScanOfACluster(t *testing.T) {
	servers, err := natsdtest.StartCluster(t.TempDir(), 3)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		for _, s := range servers {
			s.Stop()
		}
	}()
	nc, err := nats.Connect(servers[0].URL(), servers[0].ServiceOptions()...)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	folds, err := fold.Embedded("")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = folds.Close() }()
	host, err := service.NewHost(t.Context(), nc, folds, 3, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	client, err := events.Connect(servers[1].URL())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	for n := range 20 {
		for _, project := range []string{"shop", "food"} { // the end is another project's
			subject := fmt.Sprintf("lifecycle.%s.plan.ticket.created.k%d", project, n)
			if _, err := host.JS.Publish(t.Context(), subject, make([]byte, 32<<10)); err != nil {
				t.Fatal(err)
			}
		}
		read := 0
		ended, err := scan(t.Context(), host, lifecycle, []string{"claims.shop.>", "lifecycle.shop.>"}, 0, func(service.Message) bool { read++; return true })
		if err != nil || !ended || read != n+1 {
			t.Fatalf("the gateway read %d of %d, %v, %v", read, n+1, ended, err)
		}
		read = 0
		for range client.Replay(t.Context(), events.Selector{Project: "shop"}, 1) { // what cannot be read counts, too
			read++
		}
		if read != n+1 {
			t.Fatalf("a replay gave %d of %d", read, n+1)
		}
	}
}
