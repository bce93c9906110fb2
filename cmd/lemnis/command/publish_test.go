package command_test

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/lemnis/lemnis/cmd/lemnis/command"
	"github.com/lemnis/lemnis/pkg/events"
)

// draft runs `events publish … --dry-run` and reads the event that it prints.
func draft(t *testing.T, stdin string, args ...string) events.Event {
	t.Helper()
	var stdout, stderr bytes.Buffer
	args = append([]string{"events", "publish", "--project", "shop", "--dry-run"}, args...)
	if code := command.Run(t.Context(), args, strings.NewReader(stdin), &stdout, &stderr); code != 0 {
		t.Fatalf("lemnis %s: exit %d: %s", strings.Join(args, " "), code, stderr.String())
	}
	e, _, err := events.DecodeStructured(stdout.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestPublishDraws(t *testing.T) {
	e := draft(t, "", "change.merged", "--id", "42", "--chain", "turn-1", "--event-id", "e1", "--source", "/ci", "--link", "abc", "--link", "TRIGGER:def", "--link", "end:ghi",
		"--repository.id", "api", "--lemnis.commit", "9a8b", "--lemnis.title", "42", "--lemnis.evidence.tests", "3", "--lemnis.evidence.failed", "0", "--lemnis.evidence.coverage", "81.5")
	want := events.ChangeMerged{
		Repository: &events.Reference{ID: "api"},
		Lemnis:     events.MergeDetail{Commit: "9a8b", Title: "42", Evidence: &events.Evidence{Tests: 3, Coverage: 81.5}},
	}
	if !reflect.DeepEqual(e.Content, want) {
		t.Errorf("%+v", e.Content)
	}
	links := []events.Link{{Type: events.Path, Context: "abc"}, {Type: events.Relation, Kind: "TRIGGER", Context: "def"}, {Type: events.End, Context: "ghi"}}
	if e.ID != "e1" || e.Source != "/ci" || e.Chain != "turn-1" || e.SubjectID != "42" || e.Project != "shop" || !reflect.DeepEqual(e.Links, links) {
		t.Errorf("%+v", e)
	}
}

// What is in a file, is set, or stands in a flag: the later wins, lists are replaced and added to.
func TestPublishLayers(t *testing.T) {
	e := draft(t, `{"summary":"from the file","labels":["old"],"priority":"low","lemnis":{"origin":"end-user"}}`,
		"ticket.created", "--id", "T-1", "--data", "-", "--set", "priority=medium", "--set", `lemnis.requires=["T-0"]`, "--summary", "from a flag",
		"--labels", "search", "--labels", "speed", "--lemnis.estimate.source", "stakeholder", "--lemnis.estimate.value", "8")
	c := e.Content.(events.TicketCreated)
	if c.Summary != "from a flag" || !slices.Equal(c.Labels, []string{"search", "speed"}) || c.Priority != "medium" || c.Creator == "" {
		t.Errorf("%+v", c.Ticket)
	}
	if c.Lemnis.Origin != "end-user" || !slices.Equal(c.Lemnis.Requires, []string{"T-0"}) || c.Lemnis.Estimate == nil || c.Lemnis.Estimate.Value != 8 {
		t.Errorf("%+v", c.Lemnis)
	}
}

func TestPublishTakesEveryKindOfField(t *testing.T) {
	e := draft(t, "", "testsuiterun.finished", "--id", "s1", "--environment.id", "test", "--outcome", "success",
		"--lemnis.values", "p99=0.25", "--lemnis.values", "p50=0.1", "--lemnis.cases", `{"name":"a","passed":true}`, "--lemnis.cases", `{"name":"b","passed":false}`, "--lemnis.artifact.size", "9007199254740993")
	c := e.Content.(events.TestSuiteRunFinished).Lemnis
	if !reflect.DeepEqual(c.Values, map[string]float64{"p99": 0.25, "p50": 0.1}) || len(c.Cases) != 2 || !c.Cases[0].Passed || c.Artifact.Size != 9007199254740993 {
		t.Errorf("%+v", c)
	}
	feedback := draft(t, "", "feedback.received", "--user", "ann", "--text", "slow", "--rating", "2").Content.(events.FeedbackReceived)
	if string(feedback.Text) != "slow" || feedback.Rating != 2 {
		t.Errorf("%+v", feedback)
	}
	verified := draft(t, "", "change.verified", "--id", "42", "--content.id", "42", "--change.repository", "api", "--reason", "reviewed").Content.(events.ChangeVerified)
	if verified.ID != "42" || verified.Change.Repository != "api" {
		t.Errorf("%+v", verified)
	}
	if full := draft(t, "", "dev.cdevents.branch.created.0.3.0", "--id", "b"); full.Type.Short() != "branch.created" {
		t.Errorf("%s", full.Type)
	}
}

// Every type that may be claimed can be published by its required flags alone.
func TestEveryTypeHasItsFlags(t *testing.T) {
	for _, entry := range events.Catalogue() {
		code, out, complaint := lemnis(t.Context(), "events", "publish", entry.Type.Short(), "--help")
		if code != 0 {
			t.Errorf("%s: exit %d: %s", entry.Type.Short(), code, complaint)
		}
		if reflect.TypeOf(entry.Zero()).NumField() > 0 && entry.Claimable && !strings.Contains(out, "Flags:") {
			t.Errorf("%s has no flags: %s", entry.Type.Short(), out)
		}
	}
}

func TestPublishRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "two.json")
	if err := os.WriteFile(file, []byte(`{} {}`), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		line string
		want []string
	}{
		{"change.merged --lemnis.comit x", []string{`--lemnis.comit`, `"--lemnis.commit"`}},
		{"change.merged --commit x", []string{`"--lemnis.commit"`}},
		{"change.reviewed --lemnis.verdict aproved", []string{"--lemnis.verdict", "approved, changes-requested, commented", `"approved"`}},
		{"change.merged --lemnis.round two", []string{"--lemnis.round", `whole number, not "two"`}},
		{"value.estimated --value many", []string{"--value", `number, not "many"`}},
		{"testsuiterun.finished --lemnis.values x", []string{"--lemnis.values", "name=value"}},
		{"testsuiterun.finished --outcome success", []string{"environment.id", "must not be empty"}},
		{"approval.given --link TRIGGER:", []string{"--link", "names no event"}},
		{"change.merged --set repository=x --repository.id y", []string{"--repository.id", "repository has a value"}},
		{"ticket.created --data " + file, []string{"--data", "nothing behind it"}},
		{"tiket.created", []string{`"ticket.created"`}},
		{"dev.cdevents.change.merged.0.1.0", []string{"0.1.0", "dev.cdevents.change.merged.0.3.0"}},
	}
	for _, test := range tests {
		t.Run(test.line, func(t *testing.T) {
			code, _, complaint := lemnis(t.Context(), append([]string{"events", "publish", "--project", "shop", "--dry-run"}, strings.Fields(test.line)...)...)
			if code != 2 || strings.Count(complaint, "\n") != 1 {
				t.Errorf("exit %d: %s", code, complaint)
			}
			for _, want := range test.want {
				if !strings.Contains(complaint, want) {
					t.Errorf("%q does not have %q", complaint, want)
				}
			}
		})
	}
}

// The shell completes types, the fields of a type, and the values of a field.
func TestCompletion(t *testing.T) {
	for _, test := range []struct {
		words []string
		want  string
	}{
		{[]string{"events", "publish", "change.m"}, "change.merged"},
		{[]string{"events", "publish", "change.merged", "--lemnis.com"}, "--lemnis.commit"},
		{[]string{"events", "publish", "change.merged", "--dr"}, "--dry-run"},
		{[]string{"events", "publish", "change.reviewed", "--lemnis.verdict", ""}, "changes-requested"},
		{[]string{"events", "types", "backlog"}, "backlog.ranked"},
		{[]string{"events", "types", "-o", ""}, "schema"},
	} {
		code, out, complaint := lemnis(t.Context(), append([]string{"__complete"}, test.words...)...)
		if code != 0 || !strings.Contains(out, test.want) {
			t.Errorf("%v: exit %d, %q, %s", test.words, code, out, complaint)
		}
	}
}

func TestTypesOfOne(t *testing.T) {
	code, out, _ := lemnis(t.Context(), "events", "types", "change.reviewed", "--output", "schema")
	if code != 0 || !strings.Contains(out, `"const": "dev.cdevents.change.reviewed.0.3.0"`) {
		t.Errorf("exit %d: %s", code, out)
	}
	code, out, _ = lemnis(t.Context(), "events", "types", "change.reviewed")
	if code != 0 || !strings.Contains(out, "lemnis.verdict") {
		t.Errorf("exit %d: %s", code, out)
	}
	code, out, _ = lemnis(t.Context(), "events", "types", "change.reviewed", "-o", "json")
	if code != 0 || strings.Count(out, "\n") != 1 || !strings.Contains(out, `"anybody"`) {
		t.Errorf("exit %d: %s", code, out)
	}
	code, _, complaint := lemnis(t.Context(), "events", "types", "chnge.reviewed")
	if code != 2 || !strings.Contains(complaint, `"change.reviewed"`) {
		t.Errorf("exit %d: %s", code, complaint)
	}
	if code, _, _ = lemnis(t.Context(), "events", "types", "-o", "schema"); code != 2 {
		t.Errorf("exit %d", code)
	}
}
