package definition

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

const workflowText = `when:
  - event: [push, pull_request]
labels: {size: large}
matrix:
  GO: ["1.25", "1.26"]
steps:
  - name: Unit Tests
    image: golang
    commands:
      - go vet ./...
      - go test ./...
    environment:
      CGO_ENABLED: 0
      TOKEN: {from_secret: proxy_token}
    when:
      - event: pull_request
        path: ["**/*.go", go.mod]
      - event: push
        branch: main
  - name: publish
    image: plugins/docker
    settings: {repo: x}
  - name: notify
    image: alpine
    commands: echo done
    depends_on: [Unit Tests, publish]
    failure: ignore
services:
  - name: db
    image: postgres:16
    environment: {POSTGRES_PASSWORD: test}
`

func TestWoodpecker(t *testing.T) {
	p, told, err := Woodpecker([]byte(workflowText))
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Steps) != 2 {
		t.Fatalf("steps %+v", p.Steps)
	}
	unit, notify := p.Steps[0], p.Steps[1]
	if unit.Name != "unit-tests" || unit.Image != "golang" || unit.Run != "go vet ./...\ngo test ./...\n" || !unit.Network ||
		unit.Environment["CGO_ENABLED"] != "0" || unit.Secrets["TOKEN"] != "secret:proxy_token" || len(unit.Matrix["GO"]) != 2 ||
		len(unit.Services) != 1 || unit.Services[0].Environment["POSTGRES_PASSWORD"] != "test" {
		t.Errorf("unit tests: %+v", unit)
	}
	if unit.Needs == nil || len(*unit.Needs) != 0 || notify.Needs == nil || !slices.Equal(*notify.Needs, []string{"unit-tests"}) {
		t.Errorf("needs %v and %v", unit.Needs, notify.Needs)
	}
	for occasion, want := range map[*Occasion]bool{
		{Branch: "main"}: true, {Branch: "next"}: false,
		{Branch: "main", Change: "7", Paths: []string{"cmd/a/main.go"}}: true,
		{Branch: "main", Change: "7", Paths: []string{"main.go"}}:       true,
		{Branch: "main", Change: "7", Paths: []string{"README.md"}}:     false,
	} {
		if got, err := occasion.meets(t.Context(), unit.When); err != nil || got != want {
			t.Errorf("%+v: %v, %v by %s", *occasion, got, err, unit.When)
		}
	}
	for _, want := range []string{"labels: has no like", "steps.publish: a plugin", "steps.notify.failure: has no like"} {
		if !slices.ContainsFunc(told, func(s string) bool { return strings.Contains(s, want) }) {
			t.Errorf("%q is not told of: %q", want, told)
		}
	}
}

// What realistic files have: anchors, versions that look like numbers, conditions of the whole, what is excluded, escaped dollars.
const workflowAtLarge = `when:
  - event: pull_request
  - event: push
    branch: [main, "release/*"]
variables:
  - &image python:${PYTHON}
  - &docs
    - path: {exclude: ["docs/**", "*.{md,txt}"]}
  - &env {DEBUG: on, LEVEL: 007, EMPTY: null}
matrix:
  PYTHON: [3.9, 3.10]
services:
  - {name: db, image: "postgres:${PYTHON}", ports: ["5432/tcp", 9]}
steps:
  - name: Unit tests
    image: *image
    directory: it's/sub
    environment: {<<: *env, DEBUG: off, PRICE: 5$$}
    commands:
      - echo $${HOME} $$PATH ${PYTHON} $CI_COMMIT_SHA
    when: *docs
  - name: unit-tests
    image: alpine:${OTHER}
    depends_on: [Unit tests]
    commands: [ls]
    secrets: [docker_pw, {source: a, target: b}]
    when:
      - branch: {include: [main, "feature-{a,b}"], exclude: main-old}
        event: {exclude: tag}
      - evaluate: 'true'
        status: [success, failure]
        path: {include: [a], on_empty: false, ignore_message: x}
  - name: publish
    image: plugins/docker
    settings: {repo: x}
    depends_on: unit-tests
  - name: deploy
    image: alpine
    commands: [ls]
    depends_on: [publish, nobody]
  - name: alarm
    image: alpine
    commands: [ls]
    when: {status: failure}
`

func TestWoodpeckerAtLarge(t *testing.T) {
	p, told, err := Woodpecker([]byte(workflowAtLarge))
	if err != nil || len(p.Steps) != 4 {
		t.Fatalf("%+v, %v", p.Steps, err)
	}
	unit, second, deploy, alarm := p.Steps[0], p.Steps[1], p.Steps[2], p.Steps[3]
	if unit.Image != "python:${PYTHON}" || !slices.Equal(unit.Matrix["PYTHON"], []string{"3.9", "3.10"}) || unit.Services[0].Port != 5432 || unit.Services[0].Image != "postgres:${PYTHON}" ||
		unit.Run != "cd 'it'\\''s/sub'\necho ${HOME} $PATH ${PYTHON} $CI_COMMIT_SHA\n" {
		t.Errorf("unit tests: %+v", unit)
	}
	if e := unit.Environment; len(e) != 4 || e["DEBUG"] != "off" || e["LEVEL"] != "007" || e["EMPTY"] != "" || e["PRICE"] != "5$" {
		t.Errorf("environment %v", e)
	}
	if unit.Name != "unit-tests" || second.Name != "unit-tests-2" || !slices.Equal(*second.Needs, []string{"unit-tests"}) || !slices.Equal(*deploy.Needs, []string{"unit-tests-2"}) {
		t.Errorf("%s, %s needs %v, deploy needs %v", unit.Name, second.Name, *second.Needs, *deploy.Needs)
	}
	if second.Secrets["DOCKER_PW"] != "secret:docker_pw" || second.Secrets["B"] != "secret:a" || len(second.Secrets) != 2 {
		t.Errorf("secrets %v", second.Secrets)
	}
	for _, c := range []struct {
		step Step
		on   Occasion
		want bool
	}{
		{unit, Occasion{Branch: "main"}, true},
		{unit, Occasion{Branch: "release/1"}, true},
		{unit, Occasion{Branch: "next"}, false}, // of the whole workflow
		{unit, Occasion{Branch: "next", Change: "7", Paths: []string{"docs/a", "a.py"}}, true},
		{unit, Occasion{Branch: "next", Change: "7", Paths: []string{"docs/a", "README.md"}}, false},
		{second, Occasion{Branch: "main"}, true},
		{second, Occasion{Branch: "feature-b", Change: "7"}, true},
		{second, Occasion{Branch: "feature-c", Change: "7"}, false},
		{second, Occasion{Branch: "feature-c", Change: "7", Paths: []string{"a"}}, true},
		{deploy, Occasion{Branch: "main"}, true},
		{alarm, Occasion{Branch: "main"}, false},
	} {
		if got, err := c.on.meets(t.Context(), c.step.When); err != nil || got != c.want {
			t.Errorf("%s on %+v: %v, %v by %s", c.step.Name, c.on, got, err, c.step.When)
		}
	}
	want := []string{
		"steps.unit-tests.image: alpine:${OTHER}: only variables of the matrix are replaced here; the file is refused until you write what ${OTHER} stands for",
		"steps.unit-tests.when.event: tag does not happen here",
		"steps.unit-tests.when.evaluate: has no like here, and is left out",
		"steps.unit-tests.when.path.ignore_message: has no like here, and is left out",
		"steps.unit-tests.when.status: what is run after failures too has no like here: it is run after success",
		"steps.publish: a plugin (plugins/docker) has no like here; write its commands",
		"steps.deploy.depends_on: there is no step nobody",
		"steps.alarm.when.status: what is run after failures only has no like here: it is never run",
		"steps.unit-tests: CI_COMMIT_SHA is not set here",
	}
	if !slices.Equal(told, want) {
		t.Errorf("told\n%s\nwant\n%s", strings.Join(told, "\n"), strings.Join(want, "\n"))
	}
}

func TestWoodpeckerIncludes(t *testing.T) {
	const step = "\nsteps: [{name: a, image: 'go:${GO}', commands: x}]\n"
	for matrix, want := range map[string]string{
		"[{GO: 1.20}, {GO: 1.21}]": "map[GO:[1.20 1.21]]",
		"[{GO: 1, OS: a}, {GO: 1, OS: b}, {GO: 2, OS: a}, {GO: 2, OS: b}]": "map[GO:[1 2] OS:[a b]]",
	} {
		p, told, err := Woodpecker([]byte("matrix: {include: " + matrix + "}" + step))
		if err != nil || fmt.Sprint(p.Steps[0].Matrix) != want || (len(told) == 0) != (want != "map[]") {
			t.Errorf("%s: %v, %v, %v", matrix, p.Steps[0].Matrix, told, err)
		}
	}
}

// Combinations that are no product of their values are steps of their own, a copy of all for each.
func TestWoodpeckerIncludesThatAreNoProduct(t *testing.T) {
	p, told, err := Woodpecker([]byte("matrix: {include: [{GO: 1.20, OS: a}, {GO: 1.21}], GO: [7]}\n" +
		"steps:\n  - {name: build, image: 'go:${GO}', commands: x, environment: {GO: mine}}\n  - {name: test, image: alpine, commands: 'echo $GO'}\n"))
	var got []string
	for _, s := range p.Steps {
		needs := "after the one before"
		if s.Needs != nil {
			needs = fmt.Sprint(*s.Needs)
		}
		got = append(got, fmt.Sprint(s.Name, " ", s.Image, " ", s.Environment, " ", s.Matrix, " ", needs))
	}
	want := []string{
		"build-1 go:1.20 map[GO:mine OS:a] map[] []", "test-1 alpine map[GO:1.20 OS:a] map[] after the one before",
		"build-2 go:1.21 map[GO:mine] map[] []", "test-2 alpine map[GO:1.21] map[] after the one before",
	}
	if err != nil || !slices.Equal(got, want) || len(told) != 1 || !strings.Contains(told[0], "a copy of all steps for each of the 2 combinations") {
		t.Errorf("%v\n got %s\ntold %s", err, strings.Join(got, "\n     "), strings.Join(told, "\n"))
	}
	p, _, err = Woodpecker([]byte("matrix: {include: [{GO: 1, OS: a}, {GO: 2, OS: b}]}\n" +
		"steps:\n  - {name: a, image: x, commands: x}\n  - {name: b, image: x, commands: x, depends_on: [a]}\n"))
	if err != nil || len(p.Steps) != 4 || fmt.Sprint(*p.Steps[3].Needs, *p.Steps[2].Needs) != "[a-2] []" {
		t.Errorf("%v, %+v", err, p.Steps)
	}
	// What can not be written at all is said, and the name is not taken for a value.
	for text, want := range map[string]string{
		"matrix: {include: x}\nsteps: [{name: a, image: 'go:${GO}', commands: x}]\n": "matrix.include: is no list of combinations",
		"steps: [{name: a, image: 'go:${GO}', commands: x}]\n":                       "steps.a.image: go:${GO}: only variables of the matrix are replaced here",
	} {
		p, told, err := Woodpecker([]byte(text))
		if err != nil || len(told) == 0 || !strings.Contains(told[0], want) || p.Steps[0].Image == "go:GO" {
			t.Errorf("%v: %q, %+v", err, told, p.Steps)
		}
	}
}

func TestWoodpeckerByNames(t *testing.T) {
	p, told, err := Woodpecker([]byte("steps:\n  build:\n    image: alpine\n    commands: [make]\n    environment: [A=b]\n  test:\n    image: alpine\n    commands: [make test]\n    secrets: [token]\n"))
	if err != nil || len(told) != 0 || len(p.Steps) != 2 || p.Steps[0].Name != "build" || p.Steps[0].Environment["A"] != "b" || p.Steps[1].Needs != nil || p.Steps[1].Secrets["TOKEN"] != "secret:token" {
		t.Errorf("got %+v, %v, %v", p.Steps, told, err)
	}
}

// What files of before version 1 and of matrices have. Whatever has no like here is told of.
func TestWoodpeckerOfAllKinds(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want string // in the pipeline
		told string
	}{
		"before version 1":       {"pipeline: {a: {image: x, commands: make}}\n", "name: a\n", ""},
		"steps without names":    {"steps: [{commands: x}, {name: 测试, commands: y}]\n", "name: step-2\n", ""},
		"several documents":      {"steps: [{name: a, commands: x}]\n---\nsteps: [{name: b, commands: x}]\n", "name: a\n", "only the first of the file's documents is read"},
		"a name that is no host": {"services: [{name: my_db, image: x}]\nsteps: [{name: a, image: x, commands: x}]\n", "name: my-db\n", "services.my_db: is reached as my-db here"},
		"services of combinations": {"matrix: {include: [{DB: 'a:1', N: 1}, {DB: 'b:1', N: 2}]}\nservices: [{name: db, image: '${DB}', environment: {A: 'n${N}'}}]\nsteps: [{name: a, image: x, environment: {V: 'v${N}'}, commands: x}]\n",
			"      V: v2\n    services:\n      - name: db\n        image: b:1\n        environment:\n          A: n2\n", "a copy of all steps"},
		"a service of this run":   {"services: [{name: db, image: 'db:${CI_PIPELINE_NUMBER}'}]\nsteps: [{name: a, image: x, commands: x}]\n", "db:${CI_PIPELINE_NUMBER}", "services.db.image: db:${CI_PIPELINE_NUMBER}: only variables"},
		"variables in values":     {"matrix: {GO: [1, 2]}\nsteps: [{name: a, image: 'go:${GO}', environment: {V: 'v${GO}'}, commands: x}]\n", "V: v${GO}\n", "steps.a.environment.V: ${GO} is not replaced here"},
		"variables in folders":    {"matrix: {GO: [1, 2]}\nsteps: [{name: a, directory: 'go/${GO}', commands: x}]\n", `cd "go/${GO}"`, ""},
		"variables in conditions": {"steps: [{name: a, commands: x, when: {event: push, branch: '${CI_REPO_DEFAULT_BRANCH}'}}]\n", "when: change == \"\"\n", "steps.a.when.branch: ${CI_REPO_DEFAULT_BRANCH} is what all is built for here"},
		"the default branch":      {"steps: [{name: a, commands: x, when: {branch: '${CI_REPO_DEFAULT_BRANCH}'}}]\n", "name: a\n    run:", "steps.a.when.branch: ${CI_REPO_DEFAULT_BRANCH} is what all is built for here, and is left out"},
		"the default and others":  {"steps: [{name: a, commands: x, when: {branch: ['${CI_REPO_DEFAULT_BRANCH}', 'release/*']}}]\n", "name: a\n    run:", "is left out"},
		"all but the default":     {"steps: [{name: a, commands: x, when: {branch: {exclude: ['${CI_REPO_DEFAULT_BRANCH}']}}}]\n", "when: \"!(branch.matches(\\\"^.*$\\\"))\"\n", ""},
		"variables alone":         {"steps: [{name: a, commands: x, when: {branch: '${LIVE}'}}]\n", "when: \"false\"\n", "steps.a.when.branch: ${LIVE} is not known here, and nothing else is included: it is never met"},
		"variables for paths":     {"steps: [{name: a, commands: x, when: {path: {include: ['${DOCS}/**'], on_empty: false}}}]\n", "paths.exists(p, false)", "it is never met"},
		"variables among others":  {"steps: [{name: a, commands: x, when: {branch: ['${LIVE}', next]}}]\n", "when: branch == \"next\"\n", "${LIVE} is not known here, and is left out"},
		"variables in exceptions": {"steps: [{name: a, commands: x, when: {branch: {exclude: ['${X}', next]}}}]\n", "when: \"!(branch == \\\"next\\\")\"\n", "steps.a.when.branch: ${X} is not known here"},
	} {
		p, told, err := Woodpecker([]byte(c.text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		made, err := Encode(p)
		if err != nil || !strings.Contains(string(made), c.want) {
			t.Errorf("%s: %v\n%s\nwant %s", name, err, made, c.want)
		}
		if all := strings.Join(told, "\n"); !strings.Contains(all, c.told) || c.told == "" && all != "" {
			t.Errorf("%s: told %q, want %q", name, told, c.told)
		}
	}
}

func TestWoodpeckerClasses(t *testing.T) {
	p, _, err := Woodpecker([]byte("steps: [{name: a, commands: x, when: {path: ['v[0-9].txt', '[!a]/x', 'b[', '[z-a]']}}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{"v1.txt": true, "va.txt": false, "b/x": true, "a/x": false, "//x": false, "b[": true, "[z-a]": true} {
		occasion := Occasion{Change: "7", Paths: []string{path}}
		if got, err := occasion.meets(t.Context(), p.Steps[0].When); err != nil || got != want {
			t.Errorf("%s: %v, %v by %s", path, got, err, p.Steps[0].When)
		}
	}
}

func TestWoodpeckerRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                   "no step",
		"steps: [":           "read the workflow",
		"steps: [{name: a}]": "no step with commands",
	} {
		if _, _, err := Woodpecker([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzWoodpecker(f *testing.F) {
	f.Add([]byte(workflowText))
	f.Fuzz(func(t *testing.T, text []byte) {
		if p, _, err := Woodpecker(text); err == nil {
			if _, err := p.Tasks(t.Context(), Occasion{}); err != nil && !strings.Contains(err.Error(), "when") {
				t.Error(err)
			}
		}
	})
}
