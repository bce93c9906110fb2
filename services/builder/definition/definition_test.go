package definition

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lemnis/lemnis/internal/document"
)

var write = flag.Bool("write", false, "write lemnis.schema.json")

const whole = `environment: {CI: "true"}
steps:
  - name: compile
    run: go build ./...
  - name: test
    run: |
      set -u
      go test -json ./... > tests.json
    matrix: {GO: ["1.25", "1.26"], RACE: [on, off]}
    secrets: {TOKEN: "secret:npm"}
    services: [{name: db, image: "postgres:16", environment: {POSTGRES_PASSWORD: test}}]
    inputs: ["**/*.go", go.mod]
    cache: [.cache]
    reports: {tests: [tests.json], coverage: [cover.out]}
    timeout: 10m
    retries: 2
    network: true
    limits: {cpu: 1.5, memory: 512MiB, processes: 100, output: 64MiB}
  - name: lint
    run: golangci-lint run
    image: golangci/golangci-lint:v2.15
    needs: []
    when: paths.exists(p, p.endsWith(".go"))
  - name: package
    run: go build -o bin/api ./cmd/api
    needs: [test, lint]
    outputs: [bin/api]
package: {executable: bin/api}
`

func TestParse(t *testing.T) {
	p, err := Parse(File, []byte(whole))
	if err != nil {
		t.Fatal(err)
	}
	test := p.Steps[1]
	if test.Run != "set -u\ngo test -json ./... > tests.json\n" || test.Limits.Memory != 512<<20 || time.Duration(test.Timeout) != 10*time.Minute || !test.Network || test.Needs != nil {
		t.Errorf("test is %+v", test)
	}
	if lint := p.Steps[2]; lint.Needs == nil || len(*lint.Needs) != 0 {
		t.Errorf("lint needs %v", lint.Needs)
	}
	text, err := Encode(p)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse(File, text)
	if err != nil || !reflect.DeepEqual(again, p) {
		t.Errorf("written and read again: %v\n%s", err, text)
	}
}

func TestParseRefuses(t *testing.T) {
	step := "steps:\n  - {name: a, run: x}\n"
	for _, c := range []struct{ text, want string }{
		{"", `f:1:1: the file is empty; it has to begin with "steps:"`},
		{"steps: []\n", "f:1:8: steps: there are none"},
		{"step: []\n", `f:1:1: step: there is no such field; is "steps" meant?`},
		{"steps:\n  - name: a\n", "f:2:5: steps[0].run: is missing"},
		{"steps:\n  - run: x\n", "f:2:5: steps[0].name: is missing"},
		{"steps:\n  - {name: A b, run: x}\n", `f:2:12: steps[0].name: "A b" has to be 1 to 40`},
		{step + "  - {name: a, run: x}\n", "f:3:12: steps[1].name: steps[0] has this name already"},
		{step + "  - {name: b, run: x, needs: [c]}\n", `steps[1].needs[0]: there is no step "c"; is "a" meant?`},
		{"steps:\n  - {name: a, run: x, needs: [c]}\n  - {name: b, run: x}\n  - {name: c, run: x}\n", "f:2:30: steps[0].needs: goes in a circle: a needs c needs b needs a"},
		{"steps:\n  - {name: a, run: x, needs: [a]}\n", "goes in a circle: a needs a"},
		{"steps:\n  - {name: a, run: x, when: branch}\n", "f:2:29: steps[0].when: the expression makes string, not bool"},
		{"steps:\n  - {name: a, run: x, when: brunch == \"main\"}\n", "steps[0].when: at 1:1 of the expression: undeclared reference to 'brunch'"},
		{"steps:\n  - {name: a, run: x, timeout: soon}\n", `f:2:32: steps[0].timeout: "soon" is no duration`},
		{"steps:\n  - {name: a, run: x, timeout: 3d}\n", "steps[0].timeout: is 72h0m0s; 24h0m0s at most"},
		{"steps:\n  - {name: a, run: x, network: maybe}\n", "f:2:32: steps[0].network: has to be true or false, not text"},
		{"steps:\n  - {name: a, run: x, limits: {memory: 12}}\n", `steps[0].limits.memory: "12" is no size`},
		{"steps:\n  - {name: a, run: x, limits: {memory: 99999999999GiB}}\n", `is no size`},
		{"steps:\n  - {name: a, run: x, retries: 11}\n", "steps[0].retries: has to be 0 to 10"},
		{"steps:\n  - {name: a, run: x, secrets: {TOKEN: hunter2}}\n", "steps[0].secrets.TOKEN: has to name a secret"},
		{"steps:\n  - {name: a, run: x, environment: {TOKEN: \"secret:npm\"}}\n", "a secret is given under secrets"},
		{"steps:\n  - {name: a, run: x, environment: {A-B: c}}\n", `"A-B" can not be the name of a variable`},
		{"steps:\n  - {name: a, run: x, matrix: {V: []}}\n", "steps[0].matrix.V: has no values"},
		{"steps:\n  - {name: a, run: x, matrix: {V: [\"1\", \"2\", \"1\"]}}\n", `f:2:46: steps[0].matrix.V[2]: "1" is there already`},
		{"steps:\n  - {name: a, run: x, matrix: {V: [\"a\\0b\"]}}\n", "steps[0].matrix.V[0]: holds a NUL"},
		{"steps:\n  - {name: a, run: \"a\\0b\"}\n", "f:2:20: steps[0].run: holds a NUL"},
		{"steps:\n  - {name: a, run: x, image: \"a\\0b\"}\n", "is no image"},
		{"steps:\n  - {name: a, run: x, image: \"golang:${G}\", matrix: {GO: [\"1\"]}}\n", `steps[0].image: "G" is no variable of the matrix; is "GO" meant?`},
		{"steps:\n  - {name: a, run: x, services: [{name: db, image: \"pg:${V}\"}]}\n", `steps[0].services[0].image: "V" is no variable of the matrix`},
		{"steps:\n  - {name: a, run: x, cache: [./]}\n", "steps[0].cache[0]: is the checkout itself"},
		{"steps:\n  - {name: a, run: x, cache: [~/.npm]}\n", `steps[0].cache[0]: "~/.npm" leads out of the checkout`},
		{"steps:\n  - {name: a, run: x, cache: [\"**/node_modules\"]}\n", "is a pattern; caches are folders"},
		{"steps:\n  - {name: a, run: x, outputs: [../out]}\n", `f:2:33: steps[0].outputs[0]: "../out" leads out of the checkout`},
		{"steps:\n  - {name: a, run: x, cache: [/root]}\n", `"/root" leads out of the checkout`},
		{"steps:\n  - {name: a, run: x, inputs: [\"[a\"]}\n", `"[a" is no pattern`},
		{"steps:\n  - {name: a, run: x, services: [{name: db}]}\n", "steps[0].services[0].image: has to name an image"},
		{step + "package: {}\n", "f:3:10: package: has to say one of executable and dockerfile"},
		{step + "package: {executable: a, dockerfile: b}\n", "package: has to say one of"},
		{step + "package: {executable: a, target: b}\n", "package: says what holds for a dockerfile only"},
		{step + "package: {dockerfile: ../a}\n", `package.dockerfile: "../a" leads out of the checkout`},
		{step + "package: {dockerfile: a, context: /etc}\n", `package.context: "/etc" leads out of the checkout`},
		{step + "package: {dockerfile: a, args: {TOKEN: \"secret:npm\"}}\n", "package.args.TOKEN: is a secret, which would stand in the image"},
		{step + "package: {dockerfile: a, timeout: 3d}\n", "package.timeout: is 72h0m0s; 24h0m0s at most"},
		{step + "package: {dockerfile: a, limits: {cpu: -1}}\n", "package.limits.cpu: is negative"},
		{"steps:\n  - {name: a, run: x, matrix: {A: [" + strings.Repeat("x, ", 30) + "x], B: [" + strings.Repeat("x, ", 30) + "x]}}\n", "make 501 tasks with their matrices; 500 at most"},
	} {
		_, err := Parse("f", []byte(c.text))
		var all document.Errors
		if !errors.As(err, &all) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s\n got %v\nwant %s", c.text, err, c.want)
		}
	}
}

func TestTasks(t *testing.T) {
	p, err := Parse(File, []byte(whole))
	if err != nil {
		t.Fatal(err)
	}
	names := func(tasks []Task) (all []string) {
		for _, task := range tasks {
			all = append(all, task.Name+" <- "+strings.Join(task.Needs, ", "))
		}
		return all
	}
	tasks, err := p.Tasks(t.Context(), Occasion{Branch: "main", Paths: []string{"README.md", "cmd/api/main.go"}})
	if err != nil {
		t.Fatal(err)
	}
	four := []string{"test (GO=1.25, RACE=on)", "test (GO=1.25, RACE=off)", "test (GO=1.26, RACE=on)", "test (GO=1.26, RACE=off)"}
	want := []string{"compile <- "}
	for _, one := range four {
		want = append(want, one+" <- compile")
	}
	want = append(want, "lint <- ", "package <- "+strings.Join(four, ", ")+", lint")
	if got := names(tasks); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if env := tasks[2].Step.Environment; env["GO"] != "1.25" || env["RACE"] != "off" || env["CI"] != "true" {
		t.Errorf("the environment is %v", env)
	}
	if len(p.Environment) != 1 {
		t.Errorf("the pipeline's own environment was changed: %v", p.Environment)
	}

	left, err := p.Tasks(t.Context(), Occasion{Branch: "main", Paths: []string{"README.md"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := names(left); got[len(got)-1] != "package <- "+strings.Join(four, ", ") {
		t.Errorf("without lint: %v", got)
	}
}

// Images may differ by the matrix, those of services too.
func TestImagesOfAMatrix(t *testing.T) {
	p, err := Parse(File, []byte("steps:\n  - {name: a, run: x, image: \"go:${GO}-${OS}\", services: [{name: db, image: \"pg:${GO}\"}], matrix: {GO: [\"1\", \"2\"], OS: [a]}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	tasks, err := p.Tasks(t.Context(), Occasion{})
	if err != nil || len(tasks) != 2 || tasks[0].Step.Image != "go:1-a" || tasks[1].Step.Image != "go:2-a" || tasks[0].Step.Services[0].Image != "pg:1" || tasks[1].Step.Services[0].Image != "pg:2" {
		t.Errorf("%+v, %v", tasks, err)
	}
}

// A step that comes before what it needs, and one behind a step that is left out.
func TestTasksKeepTheOrderOfNeeds(t *testing.T) {
	p, err := Parse(File, []byte("steps:\n  - {name: last, run: x, needs: [middle]}\n  - {name: first, run: x, needs: []}\n  - {name: middle, run: x, when: \"false\"}\n"))
	if err != nil {
		t.Fatal(err)
	}
	tasks, err := p.Tasks(t.Context(), Occasion{})
	if err != nil || len(tasks) != 2 || tasks[0].Name != "first" || !slices.Equal(tasks[1].Needs, []string{"first"}) {
		t.Errorf("got %+v, %v", tasks, err)
	}
}

// What a change touches is asked for by conditions about it only; a change of many files is no fault of the condition.
func TestPathsAreAskedFor(t *testing.T) {
	p, err := Parse(File, []byte("steps:\n  - {name: a, run: x, when: branch == \"main\"}\n  - {name: b, run: x, when: 'paths.exists(p, p.endsWith(\".go\") && !p.startsWith(\"vendor/\"))'}\n"))
	if err != nil {
		t.Fatal(err)
	}
	many := make([]string, 50_000)
	for i := range many {
		many[i] = fmt.Sprintf("vendor/example.org/a/b/c/%d.go", i)
	}
	on := Occasion{Branch: "main", Change: "7", Touched: func() ([]string, error) { return slices.Concat(many, []string{"main.go"}), nil }}
	if tasks, err := p.Tasks(t.Context(), on); err != nil || len(tasks) != 2 {
		t.Errorf("%+v, %v", tasks, err)
	}
	on.Touched = func() ([]string, error) { return nil, io.ErrUnexpectedEOF }
	if _, err := p.Tasks(t.Context(), on); !errors.Is(err, ErrPaths) || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%v", err)
	}
	on.Touched = func() ([]string, error) { return nil, fmt.Errorf("%w: of git", ErrTooMany) }
	if _, err := p.Tasks(t.Context(), on); errors.Is(err, ErrPaths) || !errors.Is(err, ErrTooMany) {
		t.Errorf("more than can be listed: %v", err)
	}
	p.Steps = p.Steps[:1]
	if tasks, err := p.Tasks(t.Context(), on); err != nil || len(tasks) != 1 {
		t.Errorf("asked without need: %+v, %v", tasks, err)
	}
}

// A pattern is compiled once, not for each path: that took most of the time that conditions have.
func TestPatternsAreCompiledOnce(t *testing.T) {
	when := `paths.exists(p, p.matches("^([a-z]{2,9}/){1,40}x$"))`
	allocated := func(paths int) float64 {
		on := Occasion{Paths: make([]string, paths)}
		for i := range on.Paths {
			on.Paths[i] = fmt.Sprintf("Vendor/%d.go", i)
		}
		return testing.AllocsPerRun(3, func() {
			if met, err := on.meets(t.Context(), when); met || err != nil {
				t.Error(met, err)
			}
		})
	}
	if each := (allocated(110) - allocated(10)) / 100; each > 50 {
		t.Errorf("%.0f allocations for each path", each)
	}
}

// The time of conditions is looked at often: a round of a macro may match a long path with a long pattern.
func TestConditionsAreEnded(t *testing.T) {
	over, end := context.WithCancel(t.Context())
	end()
	p, err := program(`paths.all(p, p == "")`)
	if err != nil {
		t.Fatal(err)
	}
	if out, _, err := p.ContextEval(over, map[string]any{"branch": "", "change": "", "paths": make([]string, 20)}); err == nil {
		t.Errorf("20 rounds are not ended: %v", out)
	}
}

// A few bytes of a condition make no GiB, and patterns stay small.
func TestConditionsAreBounded(t *testing.T) {
	for when, want := range map[string]string{
		`["aaaaaaaaaaaaaaaa"]` + strings.Repeat(".map(x,x+x)", 30) + ".size()>0":          "undeclared reference to 'map'",
		`["a"].exists(x, x + x == "aa")`:                                                  "at 1:19 of the expression: only numbers",
		`dyn("a") + dyn("b") == "ab"`:                                                     "only numbers",
		`[1] + [2] == [1, 2]`:                                                             "only numbers",
		`b"a" + b"b" == b"ab"`:                                                            "only numbers",
		`"aaaa"` + strings.Repeat(`.replace("a", "aaaaaaaa")`, 20) + ` == ""`:             "replace can not",
		`["a", "a"].join("aaaa") == ""`:                                                   "join can not",
		`"%s%s".format(["a", "a"]) == ""`:                                                 "format can not",
		`strings.quote("\"") == ""`:                                                       "quote can not",
		`[1].exists(a, [a].exists(b, [b].exists(c, [c, c].exists(d, d == d))))`:           "more than 3 macros",
		`branch.matches("` + strings.Repeat("(ab){999}", 9) + `")`:                        "repeat too much",
		`branch.matches(change)`:                                                          "the pattern has to stand",
		`branch == "` + strings.Repeat("a", mostWhen) + `"`:                               "bytes; 4096 at most",
		`paths.filter(p, p.endsWith(".go")).size() + 1 > 2 && branch.matches("^a{1,9}$")`: "",
	} {
		_, err := Parse("f", fmt.Appendf(nil, "steps:\n  - {name: a, run: x, when: %q}\n", when))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "f:2:")) {
			t.Errorf("%.80s: %.300v, want %q", when, err, want)
		}
	}
}

// All conditions of a run have one time, and who breaks the run off breaks them off.
func TestConditionsEndWithTheRun(t *testing.T) {
	slow := `paths.all(p, paths.all(q, paths.all(r, p != "x")))`
	p := Pipeline{Steps: []Step{{Name: "a", Run: "x", When: slow}, {Name: "b", Run: "x", When: slow}}}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	begun := time.Now()
	if _, err := p.Tasks(ctx, Occasion{Paths: make([]string, 50_000)}); !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) > 5*time.Second {
		t.Errorf("%v after %s", err, time.Since(begun))
	}
}

func TestSchemaIsUpToDate(t *testing.T) {
	made, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	const file = "lemnis.schema.json"
	if *write {
		if err := os.WriteFile(file, made, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if stored, err := os.ReadFile(file); err != nil || !bytes.Equal(stored, made) {
		t.Errorf("%s is not what the Go types say: run go generate (%v)", file, err)
	}
	for _, amiss := range schema.Amiss(reflect.TypeFor[Pipeline]()) {
		t.Error(amiss)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(whole))
	f.Add([]byte("steps: &a [*a]"))
	f.Add([]byte("steps:\n  - {name: a, run: x, needs: [a]}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := Parse("f", text)
		var all document.Errors
		if err != nil {
			if !errors.As(err, &all) || len(all) == 0 || all[0].Line < 1 {
				t.Errorf("error %#v", err)
			}
			return
		}
		if _, err := p.Tasks(t.Context(), Occasion{Branch: "main"}); err != nil && !strings.Contains(err.Error(), "when") {
			t.Errorf("what was accepted has no tasks: %v", err)
		}
	})
}

func TestBytes(t *testing.T) {
	for text, want := range map[string]Bytes{`"64KiB"`: 64 << 10, `"2GiB"`: 2 << 30, `"100B"`: 100, `"0B"`: 0} {
		var b Bytes
		if err := b.UnmarshalJSON([]byte(text)); err != nil || b != want || `"`+b.String()+`"` != text {
			t.Errorf("%s is %s, %v", text, b, err)
		}
	}
	for _, text := range []string{`"5"`, `"-1KiB"`, `"1.5GiB"`, `"9223372036854775807GiB"`, `12`, `"KiB"`} {
		var b Bytes
		if err := b.UnmarshalJSON([]byte(text)); err == nil {
			t.Errorf("%s is accepted as %s", text, b)
		}
	}
}
