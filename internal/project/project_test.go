package project

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lemnis/lemnis/internal/document"
	"github.com/lemnis/lemnis/pkg/events"
)

var write = flag.Bool("write", false, "write project.schema.json")

const whole = `# The shop.
project: shop
owners: {integrate: builtin}
repositories: [{name: api, url: https://git.example.org/shop/api.git, credentials: "secret:git", forge: {kind: gitea, token: "secret:forge"}}]
review: {approvals: 2}
environments:
  - {name: dev, target: process, gate: {tests: passed}}
  - name: prod
    target: process
    strategy: canary
    canary: {objective: 0.99, tick: 300ms}
    gate:
      tests: passed
      coverage: 70
      approvals: 1
      soak: 1h
      runtime: passed
objectives: [{service: api, availability: 99.9%}]
features: [{name: search, service: api, path: /search}]
on-call: [{name: first, rotation: weekly, people: [ann, bo]}]
capacity: {points: 25.5, every: 2w}
webhooks: {github: {secret: "secret:github"}}
mappings:
  - when: type == "com.acme.build.done"
    type: pipelinerun.finished
    subject: string(data.run)
    fields: {pipelineName: data.job, outcome: 'data.ok ? "success" : "failure"'}
`

func TestParse(t *testing.T) {
	p, err := Parse("project.yaml", []byte(whole))
	if err != nil {
		t.Fatal(err)
	}
	want := events.Project{
		Name:         "shop",
		Owners:       map[events.Phase]string{events.Integrate: events.Builtin},
		Repositories: []events.RepositoryRef{{Name: "api", URL: "https://git.example.org/shop/api.git", Credentials: "secret:git", Forge: &events.Forge{Kind: events.ForgeGitea, Token: "secret:forge"}}},
		Review:       events.ReviewPolicy{Approvals: 2},
		Environments: []events.Environment{
			{Name: "dev", Target: "process", Gate: events.Gate{Tests: "passed"}},
			{Name: "prod", Target: "process", Strategy: "canary", Canary: &events.CanaryPolicy{Objective: 0.99, Tick: events.Duration(300 * time.Millisecond)},
				Gate: events.Gate{Tests: "passed", Coverage: 70, Approvals: 1, Soak: events.Duration(time.Hour), Runtime: "passed"}},
		},
		Objectives: []events.Objective{{Service: "api", Availability: 0.9990000000000001}},
		Features:   []events.Feature{{Name: "search", Service: "api", Path: "/search"}},
		OnCall:     []events.OnCall{{Name: "first", Rotation: "weekly", People: []string{"ann", "bo"}}},
		Capacity:   events.Capacity{Points: 25.5, Every: events.Duration(14 * 24 * time.Hour)},
		Feedback:   events.FeedbackPolicy{Users: 2}, // not in the file: the default
		Webhooks:   map[events.WebhookKind]events.Webhook{events.GitHub: {Secret: "secret:github"}},
		Mappings: []events.Mapping{{
			When: `type == "com.acme.build.done"`, Type: "pipelinerun.finished", Subject: "string(data.run)",
			Fields: map[string]string{"pipelineName": "data.job", "outcome": `data.ok ? "success" : "failure"`},
		}},
	}
	want.Objectives[0].Availability = p.Objectives[0].Availability // 99.9/100 is not 0.999 to the last bit
	if a := float64(p.Objectives[0].Availability); a < 0.99899 || a > 0.99901 {
		t.Errorf("availability %v", a)
	}
	if !reflect.DeepEqual(p, want) {
		t.Errorf("got  %+v\nwant %+v", p, want)
	}
}

func TestParseKeepsDefaults(t *testing.T) {
	p, err := Parse("project.yaml", []byte("project: shop\ncapacity: {every: 14d}\n"))
	want := events.DefaultProject("shop")
	want.Capacity.Every = events.Duration(14 * 24 * time.Hour)
	if err != nil || !reflect.DeepEqual(p, want) {
		t.Errorf("got %+v, %v", p, err)
	}
}

func TestParseRefuses(t *testing.T) {
	tests := []struct{ text, want string }{
		{"", "p.yaml:1:1: the file is empty"},
		{"# nothing\n", "p.yaml:1:1: the file is empty"},
		{"project: [", "p.yaml:1:10: no YAML: "},
		{"- a\n", "p.yaml:1:1: has to be fields, not a list"},
		{"review: {approvals: 1}\n", "p.yaml:1:1: project: is missing"},
		{"project: shop\n---\nproject: shop\n", "p.yaml:3:1: the file holds a second document"},
		{"project: shop\nproject: shop\n", "p.yaml:2:1: "},
		{"project: The Shop\n", `p.yaml:1:10: project: project name "The Shop" may hold only`},
		{"project: 12\n", `p.yaml:1:10: project: has to be text, not a number; put it into quotes: "12"`},
		{"project: shop\nenvironment: []\n", `p.yaml:2:1: environment: there is no such field; is "environments" meant?`},
		{"project: shop\nwhatever: []\n", "p.yaml:2:1: whatever: there is no such field; there are project, owners"},
		{"project: shop\nreview:\n  codeowners: true\n", "p.yaml:3:3: review.codeowners: nothing reads it yet"},
		{"project: shop\nreview: {approvals: 1.5}\n", "p.yaml:2:21: review.approvals: has to be a whole number, not a number"},
		{"project: shop\nreview: {approvals: yes}\n", "p.yaml:2:21: review.approvals: has to be a whole number, not text"},
		{"project: shop\nreview:\n", "p.yaml:2:9: review: has no value"},
		{"project: shop\nenvironments:\n  - {name: dev, target: process, gate: {tests: passed, coverage: 70}}\n  - name: prod\n    target: process\n    gate:\n      coverage: 60\n      tests: passed\n", "p.yaml:7:17: environments[1].gate.coverage: is 60, weaker than the 70 of dev before it"},
		{"project: shop\nenvironments:\n  - {name: dev, target: process, gate: {vulnerabilities: {grave: 0}}}\n", "environments[0].gate.vulnerabilities.grave: there is no such severity"},
		{"project: shop\nenvironments:\n  - name: dev\n    target: process\n    gate: {licenses: [MIT]}\n  - name: prod\n    target: process\n    gate: {licenses: [MIT, GPL-3.0]}\n", `p.yaml:8:22: environments[1].gate.licenses: is also GPL-3.0, weaker than the MIT of dev before it`},
		{"project: shop\nenvironments:\n  - name: dev\n    target: process\n    gate: {licenses: [MIT]}\n  - name: prod\n    target: process\n    gate: {tests: passed}\n", `p.yaml:8:11: environments[1].gate.licenses: is any licence, weaker than the MIT of dev before it`},
		{"project: shop\nenvironments:\n  - name: dev\n    target: process\n    gate: {freeze: [{days: [fri, sat, sun]}]}\n  - name: prod\n    target: process\n    gate: {freeze: [{days: [sat, sun]}]}\n", `p.yaml:8:20: environments[1].gate.freeze: is open, weaker than the freeze on fri, sat, sun of dev before it`},
		{"project: shop\nenvironments:\n  - name: dev\n    target: process\n    gate: {tests: passed}\n  - name: prod\n    target: process\n    gate: {freeze: [{days: [friday]}]}\n", `p.yaml:8:21: environments[1].gate.freeze[0]: "friday" is no day`},
		{"project: shop\nenvironments:\n  - name: dev\n    target: process\n    gate: {before: {errors: 1%}}\n  - name: prod\n    target: process\n    gate: {tests: passed}\n", `p.yaml:5:20: environments[0].gate.before: nothing produces evidence for it: there is no environment before the first`},
		{"project: shop\nenvironments:\n  - name: dev\n    target: process\n    gate: {tests: passed}\n  - name: prod\n    target: process\n    gate: {tests: passed, before: {errors: 1%, uptime: 99}}\n", `p.yaml:8:48: environments[1].gate.before.uptime: there is no such field; there are requests, errors, p99`},
		{"project: shop\nenvironments:\n  - name: dev\n    target: process\n    gate: {tests: passed, coverage-changed: 80}\n  - name: prod\n    target: process\n    gate: {tests: passed, coverage-changed: 70}\n", `p.yaml:8:45: environments[1].gate.coverage-changed: is 70, weaker than the 80 of dev before it`},
		{"project: shop\nenvironments:\n  - name: dev\n    target: process\n    gate: {tests: passed}\n  - name: prod\n    target: process\n    gate: {mutation-score: 80}\n", `p.yaml:8:12: environments[1].gate.mutation-score: there is no such field; there are tests, coverage`},
		{"project: shop\nenvironments:\n  - name: dev\n    target: process\n    gate: {tests: passed}\n  - name: prod\n    target: process\n    gate: {tests: passed, conditions: [{name: calm, that: \"before.errors < 0.01 && tests.flaky == 0\"}]}\n", `p.yaml:8:59: environments[1].gate.conditions[0].that: at 1:30 of the expression: undefined field 'flaky'`},
		{"project: shop\nenvironments:\n  - name: dev\n    target: process\n    gate: {conditions: [{name: calm, that: 'true'}]}\n  - name: prod\n    target: process\n    gate: {conditions: [{name: calm, that: 'true'}]}\n", `p.yaml:8:32: environments[1].gate.conditions[0].name: "calm" is a condition of dev already`},
		{"project: shop\nenvironments:\n  - {name: dev, gate: {}}\n", "p.yaml:3:5: environments[0].target: "},
		{"project: shop\ncapacity: {every: 3}\n", `p.yaml:2:19: capacity.every: "3" is no duration`},
		{"project: shop\nobjectives: [{service: api, availability: 0.999}]\n", `objectives[0].availability: "0.999" is no percentage`},
		{"project: shop\nowners: {ship: builtin}\n", "p.yaml:2:16: owners.ship: there is no phase"},
		{"project: shop\nwebhooks:\n  svn: {secret: \"secret:a\"}\n", "p.yaml:3:8: webhooks.svn: there is no such sender"},
		{"project: shop\nwebhooks:\n  github: {secret: hunter2}\n", "p.yaml:3:20: webhooks.github.secret: has to name a secret"},
		{"project: shop\nwebhooks:\n  github: {}\n", "p.yaml:3:11: webhooks.github.secret: is missing"},
		{"project: shop\nwebhooks:\n  github: {token: a}\n", "p.yaml:3:12: webhooks.github.token: there is no such field"},
		{"project: shop\nmappings:\n  - {when: type ==, type: ticket.created, subject: id}\n", "p.yaml:3:12: mappings[0].when: at 1:"},
		{"project: shop\nmappings:\n  - when: id\n    type: ticket.created\n    subject: id\n", "p.yaml:3:11: mappings[0].when: the expression makes string, not bool"},
		{"project: shop\nmappings:\n  - when: \"true\"\n    type: ticket.eaten\n    subject: id\n", "p.yaml:4:11: mappings[0].type: "},
		{"project: shop\nmappings:\n  - when: \"true\"\n    type: ticket.created\n    subject: id\n    fields:\n      colour: id\n", "p.yaml:7:15: mappings[0].fields.colour: ticket.created has no such field"},
		{"project: &a shop\n", "project: anchors, aliases"},
		{"project: shop\nreview: &a {approvals: 1}\ncapacity: *a\n", "capacity: anchors, aliases"},
	}
	for _, test := range tests {
		_, err := Parse("p.yaml", []byte(test.text))
		var all document.Errors
		if !errors.As(err, &all) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q:\n got %v\nwant %s", test.text, err, test.want)
		}
	}
}

func TestParseTellsEverything(t *testing.T) {
	_, err := Parse("p.yaml", []byte("project: shop\nreviw: {}\ncapacity: {points: -1}\nfeedback: {users: many}\n"))
	if lines := strings.Split(err.Error(), "\n"); len(lines) != 3 || !strings.HasPrefix(lines[0], "p.yaml:2:1: reviw") || !strings.HasPrefix(lines[2], "p.yaml:4:19: feedback.users") {
		t.Errorf("got %v", err)
	}
}

func TestEncode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, err := Parse("project.yaml", []byte(whole))
		if err != nil {
			t.Fatal(err)
		}
		text := rapid.StringMatching(`[ -~äß\n]{0,12}`)
		p.Review.Approvals = rapid.IntRange(0, 20).Draw(t, "approvals")
		p.Capacity.Points = rapid.Float64Range(1e-3, 1e6).Draw(t, "points")
		p.Capacity.Every = events.Duration(time.Duration(rapid.Int64Range(1e9, 1e17).Draw(t, "every")))
		p.Environments[1].Runtime = &events.RuntimeTests{Licenses: []string{"MIT", rapid.StringMatching(`[A-Z0-9.]{1,8}`).Draw(t, "license")}}
		p.OnCall[0].People[1] = "x" + text.Draw(t, "person")
		encoded, err := Encode(p)
		if err != nil {
			t.Fatal(err)
		}
		back, err := Parse("project.yaml", encoded)
		if err != nil {
			t.Fatalf("%v\n%s", err, encoded)
		}
		if !reflect.DeepEqual(back, p) {
			t.Fatalf("%s\n got %+v\nwant %+v", encoded, back, p)
		}
	})
}

func TestSchemaIsUpToDate(t *testing.T) {
	made, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	const file = "project.schema.json"
	if *write {
		if err = os.WriteFile(file, made, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if stored, err := os.ReadFile(file); err != nil || !bytes.Equal(stored, made) {
		t.Errorf("%s is not what the Go types say: run go generate (%v)", file, err)
	}
}

// TestEveryFieldIsDescribed keeps the notes and the types together.
func TestEveryFieldIsDescribed(t *testing.T) {
	for _, amiss := range schema.Amiss(reflect.TypeFor[events.Project]()) {
		t.Error(amiss)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(whole))
	f.Add([]byte("project: &a [*a]"))
	f.Add([]byte("? {a: b}\n: c"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := Parse("p.yaml", text)
		var all document.Errors
		switch {
		case err == nil && p.Validate() != nil:
			t.Errorf("accepts what is not valid: %v", p.Validate())
		case err != nil && (!errors.As(err, &all) || len(all) == 0 || all[0].Line < 1):
			t.Errorf("error %#v", err)
		}
	})
}
