package events

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

// shop is a configuration that uses every section.
func shop() Project {
	return Project{
		Name:         "shop",
		Owners:       map[Phase]string{Integrate: Builtin},
		Repositories: []RepositoryRef{{Name: "api", URL: "https://git.example.org/shop/api.git", Branch: "main", Main: "./cmd/api", Credentials: "secret:git", Forge: &Forge{Kind: ForgeGitHub, Token: "secret:forge"}}},
		Review:       ReviewPolicy{Approvals: 1},
		Environments: []Environment{
			{Name: "dev", Target: "process", Gate: Gate{Tests: "passed"}},
			{Name: "test", Target: "process", Gate: Gate{Tests: "passed", Coverage: 70, Runtime: "passed"}},
			{Name: "prod", Target: "process", Strategy: "canary", Canary: &CanaryPolicy{Objective: 0.999}, Runtime: &RuntimeTests{Paths: []string{"/healthz"}, Licenses: []string{"MIT"}, Headers: []string{"X-Frame-Options"}},
				Gate: Gate{Tests: "passed", Coverage: 70, Runtime: "passed", Approvals: 1, Soak: Duration(time.Hour)}},
		},
		Objectives: []Objective{{Service: "api", Availability: 0.999}},
		Features:   []Feature{{Name: "search", Service: "api", Path: "/search"}},
		OnCall:     []OnCall{{Name: "first", Rotation: "weekly", People: []string{"ann", "bo"}, Webhook: "https://hooks.example.org/1"}},
		Capacity:   Capacity{Points: 40, Every: Duration(14 * 24 * time.Hour)},
		Feedback:   FeedbackPolicy{Users: 2},
		Webhooks:   map[WebhookKind]Webhook{GitHub: {Secret: "secret:github"}, Alertmanager: {Secret: "secret:alerts"}},
	}
}

// command adds one to a good one.
func command(p *Project, c RuntimeCommand) {
	p.Environments[2].Runtime.Commands = []RuntimeCommand{{Name: "good", Kind: "security", Run: "scan > r.sarif", SARIF: "r.sarif", Level: "error"}, c}
}

func TestValidateAccepts(t *testing.T) {
	for name, p := range map[string]Project{"whole": shop(), "default": DefaultProject("shop"), "least": {Name: "a"}} {
		if err := p.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, address := range []string{"/srv/git/api", "file:///srv/git/api", "git@example.org:shop/api.git", "ssh://git@example.org/shop/api.git"} {
		p := shop()
		p.Repositories[0].URL = address
		if !strings.Contains(address, "example.org") {
			p.Repositories[0].Forge = nil
		}
		if err := p.Validate(); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
	p := shop()
	p.Owners[Integrate], p.Repositories = "jenkins", nil
	if err := p.Validate(); err != nil {
		t.Errorf("services that an outside tool builds: %v", err)
	}
}

// outside has another tool deploy to an environment.
func outside(p *Project, i int) {
	e := &p.Environments[i]
	e.Target, e.Strategy, e.Canary, e.Runtime = OutsideTarget, "", nil, nil
	e.Outside = &Outside{Owner: "argocd", Deadline: Duration(time.Minute)}
}

func TestEnvironmentsOfAnotherTool(t *testing.T) {
	p := shop()
	outside(&p, 2)
	if err := p.Validate(); err != nil {
		t.Errorf("the last: %v", err)
	}
	outside(&p, 1) // what nobody knows of it is not asked for behind it
	p.Environments[2].Gate.Runtime = ""
	if err := p.Validate(); err != nil {
		t.Errorf("two: %v", err)
	}
	if !p.Deploys("argocd") || p.Deploys("jenkins") || p.Deploys("") {
		t.Error("who deploys")
	}
}

func TestBytes(t *testing.T) {
	for text, want := range map[string]Bytes{"512MiB": 512 << 20, "2GiB": 2 << 30, "3KiB": 3 << 10, "7B": 7, "0B": 0} {
		var b Bytes
		if err := b.UnmarshalJSON([]byte(`"` + text + `"`)); err != nil || b != want || b.String() != text {
			t.Errorf("%s is %d, written %s, %v", text, b, b, err)
		}
	}
	for _, text := range []string{`512`, `"512"`, `"512MB"`, `"-1MiB"`, `"MiB"`, `"1.5GiB"`, `"9999999999GiB"`, `""`} {
		var b Bytes
		if err := b.UnmarshalJSON([]byte(text)); err == nil {
			t.Errorf("%s is %s", text, b)
		}
	}
}

func TestValidateRefuses(t *testing.T) {
	tests := []struct {
		field  string
		change func(*Project)
	}{
		{"project", func(p *Project) { p.Name = "The Shop" }},
		{"owners.ship", func(p *Project) { p.Owners["ship"] = "jenkins" }},
		{"owners.deploy", func(p *Project) { p.Owners[Deploy] = "a.b" }},
		{"repositories[0].name", func(p *Project) { p.Repositories[0].Name = "../api"; p.Objectives, p.Features = nil, nil }},
		{"repositories[1].name", func(p *Project) { p.Repositories = append(p.Repositories, p.Repositories[0]) }},
		{"repositories[0].url", func(p *Project) { p.Repositories[0].URL = "" }},
		{"repositories[0].url", func(p *Project) { p.Repositories[0].URL = "https://ann:pw@example.org/api" }},
		{"repositories[0].url", func(p *Project) { p.Repositories[0].URL = "--upload-pack=x" }},
		{"repositories[0].url", func(p *Project) { p.Repositories[0].URL = "ext::sh -c x" }},
		{"repositories[0].url", func(p *Project) { p.Repositories[0].URL = "api" }},
		{"repositories[0].branch", func(p *Project) { p.Repositories[0].Branch = "--force" }},
		{"repositories[0].main", func(p *Project) { p.Repositories[0].Main = "../other" }},
		{"repositories[0].needs[0]", func(p *Project) { p.Repositories[0].Needs = []string{"web"} }},
		{"repositories[0].needs[0]", func(p *Project) { p.Repositories[0].Needs = []string{"api"} }},
		{"repositories[0].credentials", func(p *Project) { p.Repositories[0].Credentials = "hunter2" }},
		{"repositories[0].forge", func(p *Project) { p.Repositories[0].URL = "/srv/git/api.git" }},
		{"repositories[0].forge", func(p *Project) { p.Repositories[0].URL = "https://git.example.org/api.git" }},
		{"repositories[0].forge.kind", func(p *Project) { p.Repositories[0].Forge.Kind = "svn" }},
		{"repositories[0].forge.kind", func(p *Project) { p.Repositories[0].Forge.Kind = "" }},
		{"repositories[0].forge.api", func(p *Project) { p.Repositories[0].Forge.API = "git.example.org/api" }},
		{"repositories[0].forge.api", func(p *Project) { p.Repositories[0].Forge.API = "https://ann:pw@git.example.org/api/v1" }},
		{"repositories[0].forge.token", func(p *Project) { p.Repositories[0].Forge.Token = "hunter2" }},
		{"repositories[0].forge.token", func(p *Project) { p.Repositories[0].Forge.Token = "" }},
		{"review.approvals", func(p *Project) { p.Review.Approvals = -1 }},
		{"quarantine[0].test", func(p *Project) { p.Quarantine = []Quarantined{{Owner: "bo", Until: "2026-12-24"}} }},
		{"quarantine[0].owner", func(p *Project) { p.Quarantine = []Quarantined{{Test: "web.TestOnce", Until: "2026-12-24"}} }},
		{"quarantine[0].until", func(p *Project) { p.Quarantine = []Quarantined{{Test: "web.TestOnce", Owner: "bo", Until: "soon"}} }},
		{"queue.slots", func(p *Project) { p.Queue = &QueuePolicy{Slots: 65} }},
		{"queue.lanes[1]", func(p *Project) { p.Queue = &QueuePolicy{Slots: 2, Lanes: []string{"web", "docs/"}} }},
		{"queue.lanes[0]", func(p *Project) { p.Queue = &QueuePolicy{Lanes: []string{"../api"}} }},
		{"webhooks.svn", func(p *Project) { p.Webhooks = map[WebhookKind]Webhook{"svn": {Secret: "secret:svn"}} }},
		{"webhooks.github.secret", func(p *Project) { p.Webhooks = map[WebhookKind]Webhook{GitHub: {Secret: "hunter2"}} }},
		{"webhooks.gitlab.secret", func(p *Project) { p.Webhooks = map[WebhookKind]Webhook{GitLab: {}} }},
		{"environments[1].name", func(p *Project) { p.Environments[1].Name = "dev" }},
		{"environments[0].target", func(p *Project) { p.Environments[0].Target = "mainframe" }},
		{"environments[0].outside", func(p *Project) { p.Environments[0].Target = OutsideTarget }},
		{"environments[0].outside", func(p *Project) { p.Environments[0].Outside = &Outside{Owner: "argocd"} }},
		{"environments[2].outside.owner", func(p *Project) { outside(p, 2); p.Environments[2].Outside.Owner = Builtin }},
		{"environments[2].outside.owner", func(p *Project) { outside(p, 2); p.Environments[2].Outside.Owner = "a.b" }},
		{"environments[2].outside.deadline", func(p *Project) { outside(p, 2); p.Environments[2].Outside.Deadline = Duration(time.Millisecond) }},
		{"environments[2].strategy", func(p *Project) { outside(p, 2); p.Environments[2].Strategy = "canary" }},
		{"environments[2].runtime", func(p *Project) { outside(p, 2); p.Environments[2].Runtime = &RuntimeTests{} }},
		{"environments[2].gate.runtime", func(p *Project) { outside(p, 1) }},
		{"environments[0].limits.memory", func(p *Project) { p.Environments[0].Limits = &Limits{Memory: 1 << 20} }},
		{"environments[0].limits.processes", func(p *Project) { p.Environments[0].Limits = &Limits{Processes: -1} }},
		{"environments[2].limits", func(p *Project) { outside(p, 2); p.Environments[2].Limits = &Limits{} }},
		{"environments[2].trial", func(p *Project) { outside(p, 2); p.Environments[2].Trial = new(Duration) }},
		{"environments[0].trial", func(p *Project) { d := Duration(-1); p.Environments[0].Trial = &d }},
		{"metrics[0].name", func(p *Project) { p.Metrics = []Metric{{Name: "search", Service: "api", Total: "a", Bad: "b"}} }}, // a feature's
		{"metrics[0].service", func(p *Project) { p.Metrics = []Metric{{Name: "orders", Service: "nobody", Total: "a", Bad: "b"}} }},
		{"metrics[0].total", func(p *Project) { p.Metrics = []Metric{{Name: "orders", Service: "api", Total: "a{", Bad: "b"}} }},
		{"metrics[0].bad", func(p *Project) { p.Metrics = []Metric{{Name: "orders", Service: "api", Total: "a", Bad: "b{c=d}"}} }},
		{"metrics[0].path", func(p *Project) {
			p.Metrics = []Metric{{Name: "orders", Service: "api", Total: "a", Bad: "b", Path: "metrics"}}
		}},
		{"environments[2].canary.guards[0]", func(p *Project) { p.Environments[2].Canary.Guards = []string{"checkout"} }},
		{"environments[2].canary.guards[1]", func(p *Project) { p.Environments[2].Canary.Guards = []string{"search", "search"} }},
		{"environments[2].canary.guards", func(p *Project) { p.Environments[2].Canary.Guards = make([]string, 9) }},
		{"environments[2].canary.baseline", func(p *Project) { p.Environments[2].Canary.Baseline = "stale" }},
		{"environments[0].blue-green", func(p *Project) { p.Environments[0].Blue = &BlueGreen{} }},
		{"environments[0].blue-green.keep", func(p *Project) {
			p.Environments[0].Strategy, p.Environments[0].Blue = BlueGreenStrategy, &BlueGreen{Keep: Duration(time.Millisecond)}
		}},
		{"environments[0].strategy", func(p *Project) { p.Environments[0].Strategy = "hope" }},
		{"environments[0].canary", func(p *Project) { p.Environments[0].Canary = &CanaryPolicy{} }},
		{"environments[2].canary.objective", func(p *Project) { p.Environments[2].Canary.Objective = 99.9 }},
		{"environments[2].canary.deadline", func(p *Project) {
			p.Environments[2].Canary = &CanaryPolicy{Tick: Duration(time.Minute), Deadline: Duration(time.Second)}
		}},
		{"environments[2].runtime.paths[0]", func(p *Project) { p.Environments[2].Runtime.Paths[0] = "http://elsewhere/" }},
		{"environments[2].runtime.headers[0]", func(p *Project) { p.Environments[2].Runtime.Headers[0] = "X: y" }},
		{"environments[2].runtime.harmless[0]", func(p *Project) { p.Environments[2].Runtime.Harmless = []string{"a private key"} }},
		{"environments[2].runtime.contract", func(p *Project) { p.Environments[2].Runtime.Contract = "openapi.json" }},
		{"environments[2].runtime.tls[1]", func(p *Project) {
			p.Environments[2].Runtime.TLS = []string{"shop.example.org:8443", "https://shop.example.org"}
		}},
		{"environments[2].runtime.policy[1].name", func(p *Project) {
			p.Environments[2].Runtime.Policy = []Condition{{"one", "true"}, {"one", "true"}}
		}},
		{"environments[2].runtime.policy[0].that", func(p *Project) { p.Environments[2].Runtime.Policy = []Condition{{"one", " "}} }},
		{"environments[2].runtime.commands[1].name", func(p *Project) { command(p, RuntimeCommand{Name: "good", Kind: "quality", Run: "x", JUnit: "r.xml"}) }},
		{"environments[2].runtime.commands[1].kind", func(p *Project) { command(p, RuntimeCommand{Name: "a", Kind: "speed", Run: "x", JUnit: "r.xml"}) }},
		{"environments[2].runtime.commands[1].run", func(p *Project) { command(p, RuntimeCommand{Name: "a", Kind: "quality", JUnit: "r.xml"}) }},
		{"environments[2].runtime.commands[1]", func(p *Project) { command(p, RuntimeCommand{Name: "a", Kind: "quality", Run: "x"}) }},
		{"environments[2].runtime.commands[1]", func(p *Project) {
			command(p, RuntimeCommand{Name: "a", Kind: "quality", Run: "x", JUnit: "a", SARIF: "b"})
		}},
		{"environments[2].runtime.commands[1].junit", func(p *Project) { command(p, RuntimeCommand{Name: "a", Kind: "quality", Run: "x", JUnit: "../r.xml"}) }},
		{"environments[2].runtime.commands[1].sarif", func(p *Project) { command(p, RuntimeCommand{Name: "a", Kind: "quality", Run: "x", SARIF: "/r.sarif"}) }},
		{"environments[2].runtime.commands[1].level", func(p *Project) {
			command(p, RuntimeCommand{Name: "a", Kind: "quality", Run: "x", SARIF: "r", Level: "grave"})
		}},
		{"environments[2].runtime.commands[1].level", func(p *Project) {
			command(p, RuntimeCommand{Name: "a", Kind: "quality", Run: "x", JUnit: "r", Level: "note"})
		}},
		{"environments[2].runtime.commands[1].timeout", func(p *Project) {
			command(p, RuntimeCommand{Name: "a", Kind: "quality", Run: "x", JUnit: "r", Timeout: Duration(2 * time.Hour)})
		}},
		{"environments[2].runtime.requests", func(p *Project) { p.Environments[2].Runtime.Requests = -1 }},
		{"environments[2].gate.tests", func(p *Project) { p.Environments[2].Gate.Tests = "maybe" }},
		{"environments[2].gate.coverage", func(p *Project) { p.Environments[2].Gate.Coverage = 700 }},
		{"environments[0].gate.soak", func(p *Project) {
			for i := range p.Environments {
				p.Environments[i].Gate.Soak = Duration(time.Hour)
			}
		}},
		{"environments[0].gate.runtime", func(p *Project) { p.Environments[0].Gate.Runtime = "passed" }},
		{"environments[1].gate.tests", func(p *Project) { p.Environments[1].Gate.Tests = "" }},
		{"environments[2].gate.coverage", func(p *Project) { p.Environments[2].Gate.Coverage = 69.9 }},
		{"environments[2].gate.runtime", func(p *Project) { p.Environments[2].Gate.Runtime = "" }},
		{"environments[2].gate.approvals", func(p *Project) { p.Environments[1].Gate.Approvals = 2 }},
		{"environments[2].gate.before.errors", func(p *Project) {
			half, all := Percent(0.5), Percent(1)
			p.Environments[1].Gate.Before, p.Environments[2].Gate.Before = &Before{Errors: &half}, &Before{Errors: &all}
		}},
		{"environments[2].gate.before.p99", func(p *Project) {
			p.Environments[1].Gate.Before, p.Environments[2].Gate.Before = &Before{P99: 1}, &Before{Requests: 1000}
		}},
		{"environments[2].gate.before.requests", func(p *Project) {
			p.Environments[1].Gate.Before, p.Environments[2].Gate.Before = &Before{P99: 1}, &Before{P99: 1, Requests: 99}
		}},
		{"environments[2].gate.before", func(p *Project) { p.Environments[2].Gate.Before = &Before{} }},
		{"environments[2].gate.freeze", func(p *Project) {
			p.Environments[1].Gate.Freeze = []Freeze{{From: "2026-12-20", Until: "2027-01-02"}}
			p.Environments[2].Gate.Freeze = []Freeze{{From: "2026-12-21", Until: "2027-01-02"}}
		}},
		{"environments[2].gate.freeze[0]", func(p *Project) { p.Environments[2].Gate.Freeze = []Freeze{{From: "2027-01-02", Until: "2026-12-20"}} }},
		{"environments[2].gate.freeze[0]", func(p *Project) { p.Environments[2].Gate.Freeze = []Freeze{{Days: []string{"mon"}, From: "noon"}} }},
		{"environments[2].gate.conditions[0].that", func(p *Project) { p.Environments[2].Gate.Conditions = []Condition{{Name: "a", That: " "}} }},
		{"environments[2].gate.soak", func(p *Project) { p.Environments[1].Gate.Soak = Duration(2 * time.Hour) }},
		{"objectives[0].service", func(p *Project) { p.Objectives[0].Service = "web" }},
		{"objectives[1].service", func(p *Project) { p.Objectives = append(p.Objectives, p.Objectives[0]) }},
		{"objectives[0].availability", func(p *Project) { p.Objectives[0].Availability = 1 }},
		{"features[0].service", func(p *Project) { p.Features[0].Service = "web" }},
		{"features[0].path", func(p *Project) { p.Features[0].Path = "search" }},
		{"on-call[0].rotation", func(p *Project) { p.OnCall[0].Rotation = "hourly" }},
		{"on-call[0].people", func(p *Project) { p.OnCall[0].People = nil }},
		{"on-call[0].people[1]", func(p *Project) { p.OnCall[0].People[1] = "ann" }},
		{"on-call[0].webhook", func(p *Project) { p.OnCall[0].Webhook = "mailto:x" }},
		{"on-call[0].webhook", func(p *Project) { p.OnCall[0].Webhook = "https://a:b@example.org" }},
		{"capacity.points", func(p *Project) { p.Capacity.Points = math.NaN() }},
		{"capacity.every", func(p *Project) { p.Capacity.Every = Duration(time.Millisecond) }},
		{"feedback.users", func(p *Project) { p.Feedback.Users = -2 }},
	}
	for _, test := range tests {
		p := shop()
		test.change(&p)
		var invalid InvalidProject
		if !errors.As(p.Validate(), &invalid) {
			t.Errorf("%s: accepted", test.field)
			continue
		}
		if !slices.ContainsFunc(invalid, func(e FieldError) bool { return e.Field == test.field && e.Reason != "" }) {
			t.Errorf("%s: got %v", test.field, invalid)
		}
	}
}

func TestFreezeEnds(t *testing.T) {
	at := func(s string) time.Time {
		x, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	night := Freeze{Days: []string{"fri", "sun"}, From: "16:00", Until: "08:00"}
	for _, test := range []struct {
		freeze Freeze
		at     string
		end    string // empty: not within
	}{
		{Freeze{From: "2026-12-23", Until: "2027-01-02"}, "2026-12-22T23:59:59Z", ""},
		{Freeze{From: "2026-12-23", Until: "2027-01-02"}, "2026-12-23T00:00:00Z", "2027-01-02T00:00:00Z"},
		{Freeze{From: "2026-12-23", Until: "2027-01-02"}, "2027-01-02T00:00:00Z", ""},
		{Freeze{From: "2026-12-23T16:00:00+01:00", Until: "2026-12-24"}, "2026-12-23T15:00:00Z", "2026-12-24T00:00:00Z"},
		{Freeze{Days: []string{"sat"}}, "2026-02-28T12:00:00Z", "2026-03-01T00:00:00Z"},
		{Freeze{Days: []string{"sat"}}, "2026-03-01T00:00:00Z", ""},
		{night, "2026-02-27T15:59:00Z", ""},
		{night, "2026-02-27T17:00:00+01:00", "2026-02-28T08:00:00Z"},
		{night, "2026-02-28T07:59:00Z", "2026-02-28T08:00:00Z"},
		{night, "2026-03-02T07:59:00Z", "2026-03-02T08:00:00Z"}, // Sunday's night goes into the next week
		{night, "2026-03-02T16:00:00Z", ""},
		{Freeze{}, "2026-03-02T16:00:00Z", ""},
	} {
		end, in := test.freeze.Ends(at(test.at))
		if in != (test.end != "") || in && !end.Equal(at(test.end)) {
			t.Errorf("%s at %s: %s, %v", test.freeze, test.at, end, in)
		}
	}
	holidays, days := Freeze{From: "2026-12-23", Until: "2027-01-02"}, []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}
	for _, test := range []struct {
		later []Freeze
		want  bool
	}{
		{[]Freeze{{From: "2026-12-20", Until: "2027-01-02"}}, true},
		{[]Freeze{{From: "2026-12-28", Until: "2027-02-01"}, {From: "2026-12-01", Until: "2026-12-28"}}, true},
		{[]Freeze{{From: "2026-12-29", Until: "2027-02-01"}, {From: "2026-12-01", Until: "2026-12-28"}}, false},
		{[]Freeze{{Days: days}}, true},
		{[]Freeze{{Days: days[:6]}, {From: "2026-12-27", Until: "2026-12-28"}}, true},
		{[]Freeze{{Days: days, Until: "23:59"}}, false},
		{nil, false},
	} {
		if covers(test.later, holidays) != test.want {
			t.Errorf("%s covers %s: %v", test.later, holidays, !test.want)
		}
	}
	if covers([]Freeze{{Days: days}}, Freeze{From: "0001-01-01", Until: "9999-01-01"}) {
		t.Error("all weeks until the end of time are not looked at one by one")
	}
	if !covers([]Freeze{{Days: []string{"fri", "sat", "sun"}}, {Days: []string{"mon"}, Until: "09:00"}}, night) || covers([]Freeze{{Days: []string{"fri", "sat", "sun"}}}, night) {
		t.Error("Sunday's night lasts until Monday")
	}
}

func TestQuarantineEnds(t *testing.T) {
	q := Quarantined{Test: "web.TestOnce", Owner: "bo", Until: "2026-12-24"}
	if last := time.Date(2026, 12, 23, 23, 59, 59, 0, time.UTC); !q.Holds(last) || q.Holds(last.Add(time.Second)) {
		t.Errorf("held on the day before %v, on the day %v", q.Holds(last), q.Holds(last.Add(time.Second)))
	}
}
