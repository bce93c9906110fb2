package pipeline

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/lemnis/lemnis/internal/testreport"
)

// What had a secret may have written it into its reports: nothing that a run says of them holds it, whole or its beginning.
func TestSecretsInReportsAreMasked(t *testing.T) {
	t.Parallel()
	const secret = `hunter2"&<hunter3>`
	event := func(action, test, output string) string {
		text, err := json.Marshal(map[string]string{"Action": action, "Package": "p", "Test": test, "Output": output})
		if err != nil {
			t.Fatal(err)
		}
		return string(text) + "\n"
	}
	for name, c := range map[string]struct {
		report   string
		succeeds bool // the script
		says     string
	}{
		"output of a test": {event("run", "TestA", "") + event("output", "TestA", "token is "+secret+"\n") + event("skip", "TestA", ""), true, "token is ***"},
		"in pieces": {event("run", "TestA", "") + event("output", "TestA", "token is "+secret[:9]) + event("output", "TestA", secret[9:]+"\n") + event("skip", "TestA", ""),
			true, "token is ***"},
		"name of a test":      {event("run", "Test/"+secret, "") + event("fail", "Test/"+secret, ""), false, "1 failed: Test/***"},
		"reason that is cut":  {event("run", "TestA", "") + event("output", "TestA", strings.Repeat("x", 1990)+secret+"\n") + event("fail", "TestA", ""), false, "xxx***"},
		"no report":           {"the token is " + secret + "\n", true, "the token is ***"},
		"no report, cut":      {strings.Repeat("x", 31) + secret + "\n", true, "xxx***"},
		"message of compiler": {"# " + secret + "\n" + event("run", "TestA", "") + event("pass", "TestA", ""), true, "# ***"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			kept, files := filepath.Join(t.TempDir(), "steps"), map[string]string{
				".lemnis.yaml": "steps: [{name: test, run: 'cat in >out; " + map[bool]string{true: "exit 0", false: "exit 1"}[c.succeeds] +
					"', secrets: {TOKEN: 'secret:t'}, reports: {tests: [out]}}]\n", "in": c.report}
			if !strings.HasPrefix(c.report, "{") && strings.HasPrefix(c.report, "#") { // a report begins with an event
				files["in"] = event("start", "", "") + c.report
			}
			b := &builds{t: t, kept: kept, secret: secret}
			for _, again := range []bool{false, true} {
				r := b.run(files)
				said := fmt.Sprintf("%+v\n%+v\n%s", r.Steps, r.Tests, r.LogTail)
				if strings.Contains(said, "hunter") {
					t.Errorf("said: %s", said)
				}
				if !strings.Contains(said, c.says) {
					t.Errorf("want %s in %s", c.says, said)
				}
				if again && c.succeeds && r.Succeeded() && len(r.Reused()) == 0 {
					t.Errorf("run again: %s", said)
				}
				if log, err := os.ReadFile(r.LogFile); err != nil || strings.Contains(string(log), "hunter") {
					t.Errorf("log: %v %s", err, log)
				}
			}
		})
	}
}

// A suite's name is as long as a report says: its cases share it masked, too, also where they take turns with another's.
func TestASuiteIsMaskedOnce(t *testing.T) {
	const cases = 500
	long := strings.Repeat("x", 1<<20) + "hunter2"
	var all []testreport.Case
	for range cases {
		all = append(all, testreport.Case{Suite: long, Name: "hunter2"}, testreport.Case{Suite: long, Name: "b"}, testreport.Case{Suite: "hunter2", Name: "c"})
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	maskCases(all, []string{"hunter2"})
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 64<<20 {
		t.Errorf("%d MiB for a name of 1 MiB", took>>20)
	}
	for i, c := range all {
		if strings.Contains(c.Suite+c.Name, "hunter") || !strings.HasSuffix(c.Suite, "***") {
			t.Fatalf("%d: %q of %d bytes", i, c.Name, len(c.Suite))
		}
	}
}
