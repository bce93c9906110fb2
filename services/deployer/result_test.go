package deployer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/lemnis/lemnis/internal/executor"
	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/deployer/runtimetest"
)

// What services and reports say is of any length; the event that says how the tests ended has a bound.
func TestWhatTestsSayFitsIntoAnEvent(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Server", "1"+strings.Repeat("<", 2<<20))
	}))
	defer server.Close()
	results := runtimetest.Run(t.Context(), runtimetest.Instance{URL: server.URL}, runtimetest.Suite{
		Host:    runtimetest.Host{Process: executor.NewProcess(executor.None)},
		Headers: &runtimetest.Headers{Paths: []string{"/"}, NoVersion: []string{"Server"}},
		Commands: []runtimetest.Command{{Name: "long", Kind: runtimetest.Quality, JUnit: "r.xml",
			Run: `(printf '<testsuite><testcase name="'; head -c 3145728 /dev/zero | tr '\0' n; printf '"><failure message="why"/></testcase></testsuite>') > r.xml`}},
	})
	for i := range 150 {
		results = append(results, runtimetest.Result{Kind: runtimetest.Compliance, Name: fmt.Sprintf("%d%s", i, strings.Repeat("\x01", 5000)), Reason: strings.Repeat("\x01", 1<<20),
			Unisolated: strings.Repeat("\x01", 1<<20)})
	}
	for _, some := range [][]runtimetest.Result{results[:1], results[1:2], results[:82], results} {
		c := finished(events.Rollout{ID: "r", Environment: "dev"}, some)
		msg, err := events.Encode(events.Event{ID: "x", Type: events.TypeOf(c), Source: "/lemnis/deploy/test", Project: "shop", Phase: events.Deploy, Key: "api/dev", SubjectID: "r/runtime", Content: c})
		if err != nil {
			t.Fatal(err)
		}
		if size := msg.Size(); size > natsd.MaxEvent*9/10 { // what it is about is in it too
			t.Errorf("%d results: %d bytes", len(some), size)
		}
		if c.Outcome != events.Failure || len(c.Reason) == 0 || len(c.Lemnis.Cases) == 0 {
			t.Errorf("%d results: %s, %d cases, %q", len(some), c.Outcome, len(c.Lemnis.Cases), c.Reason)
		}
	}
	if c := finished(events.Rollout{}, results[:2]); !strings.Contains(c.Reason, "headers: /: Server tells a version") || !strings.Contains(c.Reason, "…: why") {
		t.Errorf("it does not say what failed: %q", c.Reason)
	}
	if c := finished(events.Rollout{}, results[1:2]); !strings.Contains(c.Lemnis.Cases[0].Reason, "; NOT ISOLATED: ") {
		t.Errorf("it does not say that it was not apart: %q", c.Lemnis.Cases[0].Reason)
	}
	if c := finished(events.Rollout{}, results); !strings.HasSuffix(c.Reason, " more") || len(c.Lemnis.Cases) != mostCases {
		t.Errorf("%d cases: …%q", len(c.Lemnis.Cases), c.Reason[max(0, len(c.Reason)-100):])
	}
}

// A rollout whose tests ended in what can not be published is not left waiting.
func TestAResultThatCanNotBePublishedEndsTheRollout(t *testing.T) {
	for _, test := range []struct {
		err  error
		want int // reports
	}{
		{nil, 1},
		{errors.New("the bus is away"), 1},
		{events.Reject(errors.New("maximum payload exceeded")), 2},
	} {
		var reports []service.Report
		job := service.NewJob(events.Event{}, events.Project{}, 1, func(_ context.Context, r service.Report) error {
			if reports = append(reports, r); len(reports) == 1 {
				return test.err
			}
			return nil
		})
		r := events.Rollout{ID: "r", Environment: "dev"}
		err := told(t.Context(), job, r, finished(r, nil))
		if len(reports) != test.want || (err != nil) != (test.err != nil && test.want == 1) {
			t.Errorf("%v: %v, %d reports", test.err, err, len(reports))
			continue
		}
		if test.want == 2 {
			c, ok := reports[1].Content.(events.DeploymentFailed)
			if !ok || c.Rollout.ID != "r" || c.Step != "test" || !strings.Contains(c.Reason, "maximum payload exceeded") || reports[1].Phase != events.Deploy {
				t.Errorf("%+v", reports[1])
			}
		}
	}
}
