package definition

import (
	"slices"
	"strings"
	"testing"
)

const workflowText = `when:
  - event: push
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
	for _, want := range []string{"when: has no like", "steps.publish: a plugin", "steps.notify.failure: has no like"} {
		if !slices.ContainsFunc(told, func(s string) bool { return strings.Contains(s, want) }) {
			t.Errorf("%q is not told of: %q", want, told)
		}
	}
}

func TestWoodpeckerByNames(t *testing.T) {
	p, told, err := Woodpecker([]byte("steps:\n  build:\n    image: alpine\n    commands: [make]\n    environment: [A=b]\n  test:\n    image: alpine\n    commands: [make test]\n    secrets: [token]\n"))
	if err != nil || len(told) != 0 || len(p.Steps) != 2 || p.Steps[0].Name != "build" || p.Steps[0].Environment["A"] != "b" || p.Steps[1].Needs != nil || p.Steps[1].Secrets["TOKEN"] != "secret:token" {
		t.Errorf("got %+v, %v, %v", p.Steps, told, err)
	}
}

func TestWoodpeckerRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                          "no step",
		"steps: [":                  "read the workflow",
		"steps: [{name: a}]":        "no step with commands",
		"steps:\n  - commands: x\n": "name",
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
