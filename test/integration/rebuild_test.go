package integration_test

import (
	"testing"
	"time"

	"github.com/lemnis/lemnis/cmd/lemnis/api"
	"github.com/lemnis/lemnis/pkg/events"
)

// rebuildAll folds everything again from the stream: what the services decided on is what the stream says.
func rebuildAll(t *testing.T, url string) {
	t.Helper()
	client := api.New(url)
	defer client.Close()
	for _, phase := range append(events.Phases(), "gateway") {
		asked, err := client.Rebuild(t.Context(), string(phase))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range asked.Models {
			if m.Differing > 0 || m.Compared == 0 {
				t.Errorf("the %s: %+v", m.Model, m)
			}
		}
		for _, request := range asked.Requests {
			var report events.RebuildReported
			for deadline := time.Now().Add(30 * time.Second); !report.Finished; {
				if report, _, err = client.RebuildReport(t.Context(), request.ID, request.Sequence, request.Phase); err != nil {
					t.Fatal(err)
				}
				if time.Now().After(deadline) {
					t.Fatalf("the owner of %s does not report", request.Phase)
				}
				<-time.After(10 * time.Millisecond)
			}
			if report.Failed != "" || report.Differing > 0 || report.Aggregates == 0 {
				t.Errorf("the rebuild of %s: %+v", request.Phase, report)
			}
			t.Logf("%s: %d facts in %.3f s, %d aggregates compared", request.Phase, report.Facts, report.Seconds, report.Aggregates)
		}
	}
}
