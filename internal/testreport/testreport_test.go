package testreport_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lemnis/lemnis/internal/testreport"
)

// line is a case in short.
func line(c testreport.Case) string {
	text := fmt.Sprintf("%s %s: %s", c.Suite, c.Name, c.Outcome)
	if c.Flaky {
		text += " flaky"
	}
	if c.Elapsed > 0 {
		text += " " + c.Elapsed.String()
	}
	if c.Reason != "" {
		text += fmt.Sprintf(" %q", c.Reason)
	}
	return strings.TrimSpace(text)
}

func TestRead(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"junit": {`<?xml version="1.0" encoding="UTF-8"?>
<testsuites><testsuite name="outer"><testsuite name="cart" tests="5">
  <properties><property name="a" value="b"/></properties>
  <testcase name="adds" classname="shop.Cart" time="1,234.5"/>
  <testcase name="removes"><failure message="want 1, got 2" type="AssertionError">Cart.java:12</failure></testcase>
  <testcase name="throws"><error>NullPointerException</error></testcase>
  <testcase name="waits"><skipped message="later"/></testcase>
  <testcase name="polls" time="0.5"><flakyFailure message="timed out">timed out after 1 s</flakyFailure></testcase>
</testsuite></testsuite></testsuites>`, []string{
			"shop.Cart adds: pass 20m34.5s", `cart removes: fail "want 1, got 2\nCart.java:12"`, `cart throws: fail "NullPointerException"`,
			`cart waits: skip "later"`, `cart polls: pass flaky 500ms "timed out after 1 s"`,
		}},
		"junit without cases": {`<testsuite name="none"/>`, nil},
		"go": {`{"Action":"start","Package":"m/a"}
{"Action":"run","Package":"m/a","Test":"TestOne"}
{"Action":"output","Package":"m/a","Test":"TestOne","Output":"=== RUN   TestOne\n"}
{"Action":"output","Package":"m/a","Test":"TestOne","Output":"    a_test.go:7: want 1\n"}
{"Action":"output","Package":"m/a","Test":"TestOne","Output":"--- FAIL: TestOne (0.25s)\n"}
{"Action":"fail","Package":"m/a","Test":"TestOne","Elapsed":0.25}
{"Action":"run","Package":"m/a","Test":"TestTwo"}
{"Action":"output","Package":"m/a","Test":"TestTwo","Output":"    a_test.go:9: no network\n"}
{"Action":"skip","Package":"m/a","Test":"TestTwo","Elapsed":0}
{"Action":"fail","Package":"m/a","Elapsed":0.3}
# m/b
{"Action":"output","Package":"m/b","Output":"m/b [build failed]\n"}
{"Action":"fail","Package":"m/b","Elapsed":0}
{"Action":"run","Package":"m/c","Test":"TestPanics"}
{"Action":"output","Package":"m/c","Test":"TestPanics","Output":"panic: oh\n"}
{"Action":"fail","Package":"m/c","Elapsed":0}
`, []string{
			`m/a TestOne: fail 250ms "    a_test.go:7: want 1"`, `m/a TestTwo: skip "    a_test.go:9: no network"`,
			`m/b package: fail "m/b [build failed]"`, `m/c TestPanics: fail "panic: oh"`,
		}},
		"junit of GoogleTest": {`<testsuites><testsuite name="s"><testcase name="DISABLED_a" status="notrun" result="suppressed" time="0."/><testcase name="b" status="run" time="0.5"/></testsuite></testsuites>`, []string{
			"s DISABLED_a: skip", "s b: pass 500ms",
		}},
		"junit of a suite that could not begin": {`<testsuites errors="1"><testsuite name="s" errors="1"><testcase name="a"/></testsuite></testsuites>`, []string{
			"s a: pass", `suite: fail "a suite says that 1 failed, and no case does"`,
		}},
		"junit of a suite that failed as a whole": {`<testsuites><testsuite name="s"><testcase name="a"/><error message="oh"/></testsuite></testsuites>`, []string{
			"s a: pass", `s suite: fail "oh"`,
		}},
		"junit of surefire, of a class that could not begin": {`<testsuite name="s" errors="1"><testcase name="" classname="x.B"><error message="oh"/></testcase></testsuite>`, []string{`x.B suite: fail "oh"`}},
		"junit in Latin-1": {"<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?>\n<testsuite name=\"s\"><testcase name=\"gr\xfcn\"/></testsuite>", []string{"s grün: pass"}},
		"junit with what a terminal shows": {"<testsuite name=\"s\"><testcase name=\"grün\"><failure>\x1b[31mred\x1b[0m \xff</failure></testcase></testsuite>", []string{
			"s grün: fail \"\ufffd[31mred\ufffd[0m \ufffd\"",
		}},
		"junit with what a terminal shows, by numbers": {"<testsuite name=\"&#7;s\"><!-- <![CDATA[ --><testcase name=\"a\"><failure>&#x1b;[31mred&#x0000001B;[0m &#0;&#xD800;&#xFFFF;&#99999999999; &#233;&#xe9;&amp;#27;<![CDATA[&#x1b; ]]&#8;]]]>&#8;</failure></testcase></testsuite>", []string{
			"\ufffds a: fail \"\ufffd[31mred\ufffd[0m \ufffd\ufffd\ufffd\ufffd éé&#27;&#x1b; ]]&#8;]\ufffd\"",
		}},
		"junit in XML 1.1": {"<?xml version='1.1' encoding='ISO-8859-1' ?>\n<testsuite name=\"s\"><testcase name=\"gr\xfcn\"><failure>&#x1;</failure></testcase></testsuite>", []string{"s grün: fail \"\ufffd\""}},
		"go, with benchmarks": {`{"Action":"run","Package":"m","Test":"TestA"}
{"Action":"output","Package":"m","Test":"TestA","Output":"no end of a line--- PASS: TestA (0.00s)\n"}
{"Action":"run","Package":"m","Test":"BenchmarkA"}
{"Action":"output","Package":"m","Test":"BenchmarkA","Output":"BenchmarkA-2 10 98 ns/op\n"}
{"Action":"pass","Package":"m","Elapsed":0.1}
`, []string{"m TestA: pass"}},
		"go, in which a benchmark dies": {`{"Action":"run","Package":"m","Test":"BenchmarkA"}
{"Action":"output","Package":"m","Test":"BenchmarkA","Output":"panic: oh\n"}
{"Action":"fail","Package":"m","Elapsed":0.1}
`, []string{`m BenchmarkA: fail "panic: oh"`}},
		"go, not built": {`{"ImportPath":"m/b [m/b.test]","Action":"build-output","Output":"# m/b [m/b.test]\n"}
{"ImportPath":"m/b [m/b.test]","Action":"build-output","Output":"b_test.go:3:15: undefined: T\n"}
{"ImportPath":"m/b [m/b.test]","Action":"build-fail"}
{"Action":"start","Package":"m/b"}
{"Action":"output","Package":"m/b","Output":"FAIL\tm/b [build failed]\n"}
{"Action":"fail","Package":"m/b","Elapsed":0,"FailedBuild":"m/b [m/b.test]"}
`, []string{`m/b package: fail "# m/b [m/b.test]\nb_test.go:3:15: undefined: T"`}},
		"go, behind a byte order mark": {"\xef\xbb\xbf" + `{"Action":"pass","Package":"m","Test":"TestA","Elapsed":-1}` + "\n" + `{"Action":"pass","Package":"m","Test":"TestA","Elapsed":1e300}`, []string{"m TestA: pass", "m TestA: pass"}},
		"tap of node-tap": {`TAP version 13
ok 1 - test/a.js # time=12.5ms
not ok 2 - test/b.js # time=4s {
    ok 1 - first
    not ok 2 - second
    1..2
}

ok 3 - a {brace}
1..3
`, []string{"test/a.js: pass 12.5ms", "test/b.js: fail 4s", "test/b.js/first: pass", "test/b.js/second: fail", "a {brace}: pass"}},
		"tap of Node": {`TAP version 13
# Subtest: a
    # Subtest: deep
    ok 1 - deep
      ---
      duration_ms: 1.5
      ...
    1..1
ok 1 - a
  ---
  duration_ms: 12.5
  type: 'suite'
  ...
not ok 2 - b
  ---
  duration_ms: .nan
  error: 'Expected 1'
  stack: |-
    not ok 9 - no test
  ...
1..2
`, []string{"a/deep: pass 1.5ms", "a: pass 12.5ms", `b: fail "Expected 1"`}},
		"tap, with lines that a program draws": {"1..3\nok 1 - a\n---\nnot ok 2 - b\n  says\n  ---\nok 3 - c\n", []string{"a: pass", "b: fail", "c: pass"}},
		"tap, a block that never ends":         {"1..2\nnot ok 1 - a\n  ---\n  message: no\nok 2 - b\n", []string{`a: fail "no"`, "b: pass"}},
		"tap, deeper than any":                 {"1..1\n" + strings.Repeat(" ", 1<<19) + "not ok 1 - a\nok 1 - b\n", []string{"b: pass"}},
		"tap 13": {`TAP version 13
# a comment
1..6
ok 1 - adds
not ok 2 removes
  ---
  message: 'want 1'
  severity: fail
  ...
ok 3 waits # SKIP later
not ok 4 - dreams # TODO some day
ok
ok 6 - issue \#12 # of all
`, []string{
			"adds: pass", `removes: fail "want 1"`, `waits: skip "later"`, `dreams: skip "some day"`, "test 5: pass", "issue #12 # of all: pass",
		}},
		"tap 14, within one another": {`TAP version 14
# Subtest: cart
    ok 1 - adds
    # Subtest: removes
        not ok 1 - the last one
        1..1
    not ok 2 - removes
    1..2
not ok 1 - cart
1..1
`, []string{"cart/adds: pass", "cart/removes/the last one: fail", "cart/removes: fail", "cart: fail"}},
		"tap, fewer than planned": {"1..3\nok 1 - a\nok 2 - b\n", []string{"a: pass", "b: pass", `plan: fail "3 planned, 2 came"`}},
		"tap, all skipped":        {"1..0 # SKIP no database\n", nil},
		"tap, cut off":            {"TAP version 13\nok 1 - a\n", []string{"a: pass", `plan: fail "no plan came, as 1..N: the program may have ended before it was done"`}},
		"tap, given up":           {"1..3\nok 1 - a\nBail out! no database\nok 2 - b\n", []string{"a: pass", `Bail out!: fail "no database"`}},
	} {
		cases, err := testreport.Read(strings.NewReader(c.text), nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var got []string
		for _, one := range cases {
			got = append(got, strings.TrimPrefix(line(one), " "))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s:\n%s\nwant\n%s", name, strings.Join(got, "\n"), strings.Join(c.want, "\n"))
		}
	}
}

// Reports are as long as the programs that write them like: reading one does not take for ever.
func TestLargeReports(t *testing.T) {
	const n = 100_000
	var parallel, many strings.Builder
	for _, action := range []string{"run", "pass"} {
		for i := range n {
			fmt.Fprintf(&parallel, "{\"Action\":%q,\"Package\":\"m\",\"Test\":\"TestA/%06d\"}\n", action, n-i)
		}
	}
	began := time.Now()
	if cases, err := testreport.Read(strings.NewReader(parallel.String()), nil); err != nil || len(cases) != n {
		t.Errorf("%d cases, %v", len(cases), err)
	}
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("%d tests that run at once take %v", n, took)
	}
	for range 600_000 {
		many.WriteString("not ok\n")
	}
	if _, err := testreport.Read(strings.NewReader(many.String()), nil); err == nil || !strings.Contains(err.Error(), "more than 500000 test cases") {
		t.Errorf("600,000 cases: %v", err)
	}
}

func TestUnreadable(t *testing.T) {
	for text, want := range map[string]string{
		"":                        "empty",
		"all is well":             "line 1: neither",
		"<coverage/>":             "the root of JUnit's XML is",
		"<!-- nothing -->":        "no <testsuites>",
		"<testsuite>\n<testcase>": "line 2:",
		"<!DOCTYPE t [<!ENTITY a \"b\"><!ENTITY c \"&a;&a;\">]>\n<testsuite><testcase name='&c;'/></testsuite>": "line 2:",
		"<?xml version='1.0' encoding='UTF-16'?><testsuite/>":                                                   `not "UTF-16"`,
		strings.Repeat("<testsuite>", 20_000):                                                                   "line 1:",
		"<testsuite>\n\n<testcase time='1'/></testsuite>":                                                       "line 3: a testcase without name",
		"<testsuite>\n<testcase name='a' time='soon'/></testsuite>":                                             `line 2: testcase "a": time="soon"`,
		"{\"Action\":\"run\"}\n{\"Action\":":                                                                    "line 2: no event",
		"1..2\n1..3\n":                                                                                          "line 2: a second plan",
		"1..99999999999999999999\n":                                                                             "line 1: no plan",
		"1..1\nok " + strings.Repeat("x", 2<<20):                                                                "line 2:",
	} {
		if cases, err := testreport.Read(strings.NewReader(text), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v %v, want %q", text, cases, err, want)
		}
	}
}

// What the go command writes.
func TestReportOfTheGoCommand(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":           "module example.com/m\n\ngo 1.25\n",
		"a/a_test.go":      "package a\n\nimport \"testing\"\n\nfunc TestGood(t *testing.T) { t.Run(\"inner\", func(t *testing.T) {}) }\n\nfunc TestBad(t *testing.T) { t.Error(\"on purpose\") }\n",
		"b/broken_test.go": "package b\n\nfunc TestX(t *T) {}\n",
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("go", "test", "-json", "./...")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOWORK=off")
	out, err := cmd.Output()
	if err == nil {
		t.Fatal("the tests passed")
	}
	cases, err := testreport.Read(strings.NewReader(string(out)), nil)
	if err != nil {
		t.Fatal(err)
	}
	outcomes := map[string]testreport.Outcome{}
	for _, c := range cases {
		outcomes[c.Suite+" "+c.Name] = c.Outcome
		if c.Name == "TestBad" && !strings.Contains(c.Reason, "on purpose") {
			t.Errorf("the reason is %q", c.Reason)
		}
	}
	want := map[string]testreport.Outcome{
		"example.com/m/a TestGood": testreport.Passed, "example.com/m/a TestGood/inner": testreport.Passed,
		"example.com/m/a TestBad": testreport.Failed, "example.com/m/b package": testreport.Failed,
	}
	for name, outcome := range want {
		if outcomes[name] != outcome {
			t.Errorf("%s: %q, want %q (all: %v)", name, outcomes[name], outcome, outcomes)
		}
	}
	if len(outcomes) != len(want) {
		t.Errorf("%v", outcomes)
	}
}

func FuzzRead(f *testing.F) {
	for _, text := range []string{
		`<testsuite><testcase name="a"><failure/></testcase></testsuite>`, `{"Action":"run","Package":"a","Test":"b"}`, "TAP version 14\n    ok 1\nok 1\n1..1\n",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		cases, err := testreport.Read(strings.NewReader(text), nil)
		if err != nil {
			return
		}
		for _, c := range cases {
			if c.Outcome != testreport.Passed && c.Outcome != testreport.Failed && c.Outcome != testreport.Skipped || c.Elapsed < 0 || c.Elapsed > 1e9*time.Second {
				t.Errorf("%+v", c)
			}
		}
	})
}

// A long name around many cases is not written out for each of them.
func TestNamesOfTAPHaveABound(t *testing.T) {
	t.Parallel()
	text := "TAP version 14\n" + strings.Repeat("    ok 1\n", 2000) + "ok 1 - " + strings.Repeat("a", 1<<19) + "\n1..1\n"
	if _, err := testreport.Read(strings.NewReader(text), nil); err == nil || !strings.Contains(err.Error(), "names of its test cases") {
		t.Error(err)
	}
}
