package gateway_test

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lemnis/lemnis/internal/testhistory"
	"github.com/lemnis/lemnis/pkg/events"
)

func TestTests(t *testing.T) {
	w := newWorld(t)
	ended := func(run, repository, commit string, tests ...events.TestCase) {
		w.state(events.Event{ID: run, Source: "/integrate", Time: time.Now(), Project: "shop", Phase: events.Integrate, Key: run, SubjectID: run,
			Content: events.PipelineRunFinished{PipelineName: "merge", Outcome: events.Success,
				Lemnis: events.RunDetail{Merge: events.MergeDetail{Repository: repository, Commit: commit}, Tests: tests}}})
	}
	ended("api@1", "api", "c1", events.TestCase{Name: "a.TestOne", Outcome: events.TestFailed}, events.TestCase{Name: "a.TestTwo", Seconds: 2})
	ended("api@2", "api", "c1", events.TestCase{Name: "a.TestOne"}, events.TestCase{Name: "a.TestTwo", Seconds: 3})
	ended("web@1", "web", "c2", events.TestCase{Name: "a.TestOne"})
	for path, want := range map[string]string{
		"/api/v1/tests/shop":                                        "api a.TestOne 2 1 1 0; api a.TestTwo 2 0 0 0; web a.TestOne 1 0 0 0",
		"/api/v1/tests/shop?repository=web":                         "web a.TestOne 1 0 0 0",
		"/api/v1/tests/shop?repository=api&name=One":                "api a.TestOne 2 1 1 2",
		"/api/v1/tests/other":                                       "",
		"/api/v1/tests/shop?from=2199-01-01T00:00:00Z":              "",
		"/api/v1/tests/shop?from=2001-01-01T00:00:00Z&name=TestTwo": "api a.TestTwo 2 0 0 2",
	} {
		answer, body := w.send("GET", path, "")
		var got struct {
			Runs  int                `json:"runs"`
			Tests []testhistory.Case `json:"tests"`
		}
		if err := json.Unmarshal([]byte(body), &got); err != nil || answer.StatusCode != 200 {
			t.Fatalf("%s: %s %v: %s", path, answer.Status, err, body)
		}
		var all []string
		for _, c := range got.Tests {
			all = append(all, strings.Join([]string{c.Repository, c.Name, strconv.Itoa(c.Runs), strconv.Itoa(c.Failures), strconv.Itoa(c.Flaky), strconv.Itoa(len(c.Last))}, " "))
		}
		if said := strings.Join(all, "; "); said != want {
			t.Errorf("%s: %q, want %q", path, said, want)
		}
	}
	for path, reason := range map[string]string{"/api/v1/tests/shop?since=1": `the parameter \"since\" is not known`, "/api/v1/tests/shop?from=yesterday": "no RFC 3339 time",
		"/api/v1/tests/Shop%2A": "project"} {
		if answer, body := w.send("GET", path, ""); answer.StatusCode != 400 || !strings.Contains(body, reason) {
			t.Errorf("%s: %s %s", path, answer.Status, body)
		}
	}
}
