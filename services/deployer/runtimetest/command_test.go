//go:build linux

package runtimetest

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestCommandsOfTheProject(t *testing.T) {
	t.Setenv("LEMNIS_SECRET", "hunter2")
	write := func(file, text string) string { return "cat > " + file + " <<'END'\n" + text + "\nEND\n" }
	const passes = `<testsuites><testsuite tests="2"><testcase classname="a" name="b"/><testcase name="c"><skipped/></testcase></testsuite></testsuites>`
	const fails = `<testsuite failures="1"><testcase classname="a" name="b"><failure message="want 3, got 4">at line 7</failure></testcase><testcase name="c"/></testsuite>`
	elsewhere := t.TempDir()
	if err := os.WriteFile(filepath.Join(elsewhere, "r.xml"), []byte(passes), 0o600); err != nil {
		t.Fatal(err)
	}
	finding := func(result string) string {
		return `{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"scan","rules":[{"id":"R1","defaultConfiguration":{"level":"note"}},{"id":"R2","defaultConfiguration":{"level":"error"}}]}},"results":[` + result + `]}]}`
	}
	for _, test := range []struct {
		name    string
		command Command
		reason  string
		passed  bool
	}{
		{"passes", Command{Run: write("r.xml", passes), JUnit: "r.xml"}, "1 tests passed, 1 skipped", true},
		{"a case failed", Command{Run: write("r.xml", fails) + "exit 1", JUnit: "r.xml"}, "1 of 2 tests failed: a.b: want 3, got 4", false},
		{"a case failed, and it ended well", Command{Run: write("r.xml", fails), JUnit: "r.xml"}, "1 of 2 tests failed", false},
		{"ended badly", Command{Run: write("r.xml", passes) + "echo no disk >&2; exit 3", JUnit: "r.xml"}, "but it ended with exit status 3: no disk", false},
		{"no report", Command{Run: "echo what; true", JUnit: "r.xml"}, "it wrote no report r.xml", false},
		{"no such program", Command{Run: "no-such-scanner", SARIF: "r.sarif"}, "no-such-scanner: not found", false},
		{"none ran", Command{Run: write("r.xml", `<testsuite><testcase name="c"><skipped/></testcase></testsuite>`), JUnit: "r.xml"}, "no test ran", false},
		{"a suite that could not begin", Command{Run: write("r.xml", `<testsuite errors="1"><testcase name="c"/></testsuite>`), JUnit: "r.xml"}, "a suite says that 1 failed, and no case does", false},
		{"cut short", Command{Run: write("r.xml", fails[:60]), JUnit: "r.xml"}, "unexpected EOF", false},
		{"another XML", Command{Run: write("r.xml", "<html/>"), JUnit: "r.xml"}, "not <html>", false},
		{"a pipe", Command{Run: "mkfifo r.xml", JUnit: "r.xml"}, "is no file", false},
		{"nothing found", Command{Run: write("r.json", finding("")), SARIF: "r.json"}, "0 errors", true},
		{"a warning", Command{Run: write("r.json", finding(`{"ruleId":"X","message":{"text":"open door"}}`)), SARIF: "r.json"}, "1 found: X (warning): open door", false},
		{"a warning that may be", Command{Run: write("r.json", finding(`{"ruleId":"X"}`)), SARIF: "r.json", Level: "error"}, "0 errors, 1 warnings", true},
		{"as grave as its rule", Command{Run: write("r.json", finding(`{"ruleIndex":1},{"ruleId":"R1"}`)), SARIF: "r.json", Level: "error"}, "1 found: R2 (error)", false},
		{"what passed", Command{Run: write("r.json", finding(`{"ruleId":"X","kind":"pass"},{"ruleId":"R2","suppressions":[{"kind":"inSource"}]}`)), SARIF: "r.json"}, "0 errors", true},
		{"a suppression that was refused", Command{Run: write("r.json", finding(`{"ruleId":"R2","suppressions":[{"kind":"external","status":"rejected"}]}`)), SARIF: "r.json"}, "1 found: R2", false},
		{"a scan that broke off", Command{Run: write("r.json", `{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"scan"}},"invocations":[{"executionSuccessful":false}],"results":[]}]}`), SARIF: "r.json"}, "scan did not come to its end", false},
		{"an extension's rule", Command{Run: write("r.json", `{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"scan"},"extensions":[{"name":"e"},{"name":"f","rules":[{"id":"Q","defaultConfiguration":{"level":"error"}}]}]},"results":[{"ruleId":"Q","rule":{"id":"Q","index":0,"toolComponent":{"index":1}}}]}]}`), SARIF: "r.json", Level: "error"}, "1 found: Q (error)", false},
		{"what was there once", Command{Run: write("r.json", finding(`{"ruleId":"R2","baselineState":"absent"}`)), SARIF: "r.json"}, "0 errors", true},
		{"an index that is none", Command{Run: write("r.json", finding(`{"ruleId":"R2","ruleIndex":-1}`)), SARIF: "r.json", Level: "error"}, "1 found: R2", false},
		{"a rule's index that is none", Command{Run: write("r.json", finding(`{"rule":{"id":"R2","index":-1}}`)), SARIF: "r.json", Level: "error"}, "1 found: R2", false},
		{"an index beyond all", Command{Run: write("r.json", finding(`{"ruleId":"R2","ruleIndex":7}`)), SARIF: "r.json", Level: "error"}, "1 found: R2", false},
		{"an index of another rule", Command{Run: write("r.json", finding(`{"ruleId":"R2","ruleIndex":0}`)), SARIF: "r.json", Level: "error"}, "1 found: R2", false},
		{"an id with an end of its own", Command{Run: write("r.json", finding(`{"ruleId":"R2/1"}`)), SARIF: "r.json", Level: "error"}, "1 found: R2", false},
		{"an index and an id with an end of its own", Command{Run: write("r.json", finding(`{"ruleId":"R2/1/a","ruleIndex":1}`)), SARIF: "r.json", Level: "error"}, "1 found: R2", false},
		{"a rule that only an extension has", Command{Run: write("r.json", `{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"scan"},"extensions":[{"name":"e","rules":[{"id":"E","defaultConfiguration":{"level":"error"}}]}]},"results":[{"ruleId":"E/2","rule":{"id":"E/2","toolComponent":{"index":-1}}}]}]}`), SARIF: "r.json", Level: "error"}, "1 found: E/2 (error)", false},
		{"behind a byte order mark", Command{Run: "printf '\\357\\273\\277' > r.json; " + strings.Replace(write("r.json", finding("")), ">", ">>", 1), SARIF: "r.json"}, "0 errors", true},
		{"a scan that did not look", Command{Run: write("r.json", `{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"scan"}},"results":null}]}`), SARIF: "r.json"}, "no results of scan", false},
		{"a report elsewhere", Command{Run: "ln -s " + elsewhere + " out", JUnit: "out/r.xml"}, "its report: ", false},
		{"no SARIF", Command{Run: write("r.json", `{"results":[]}`), SARIF: "r.json"}, "no SARIF 2", false},
		{"too slow", Command{Run: "echo begun; sleep 60", JUnit: "r.xml", Timeout: 300 * time.Millisecond}, "longer than 300ms: begun", false},
		{"what it is told", Command{Run: `[ "$URL $PORT $DIGEST$LEMNIS_SECRET" = "http://127.0.0.1:7 7 sha256:1" ] && ` + write("r.xml", passes), JUnit: "r.xml"}, "1 tests passed", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.command.Name, test.command.Kind = "own", Security
			start := time.Now()
			all := Run(t.Context(), Instance{URL: "http://127.0.0.1:7", Port: 7, Digest: "sha256:1"}, Suite{Commands: []Command{test.command}})
			if len(all) != 1 || all[0].Name != "commands.own" || all[0].Kind != Security || all[0].Passed != test.passed || !strings.Contains(all[0].Reason, test.reason) {
				t.Errorf("%+v", all)
			}
			if time.Since(start) > 20*time.Second {
				t.Errorf("it took %s", time.Since(start))
			}
		})
	}
}

// TestACommandLeavesNothing: neither what it started in the background nor its folder.
func TestACommandLeavesNothing(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	held := filepath.Join(t.TempDir(), "held")
	if err := syscall.Mkfifo(held, 0o600); err != nil {
		t.Fatal(err)
	}
	holders, err := os.OpenFile(held, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer holders.Close()
	run := `exec 3> ` + held + `; sleep 60 & echo '<testsuite><testcase name="a"/></testsuite>' > r.xml`
	all := Run(t.Context(), Instance{}, Suite{Commands: []Command{{Name: "own", Kind: Quality, Run: run, JUnit: "r.xml"}}})
	if err := holders.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := holders.Read(make([]byte, 1)); !errors.Is(err, io.EOF) || !all[0].Passed {
		t.Errorf("what it started outlived it: %v, %+v", err, all)
	}
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) > 0 {
		t.Errorf("%v %v", left, err)
	}
}
