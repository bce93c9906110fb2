package judge

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lemnis/lemnis/services/deployer/canary"
	"github.com/lemnis/lemnis/services/deployer/canary/sample"
)

func rows(ticks int, canaryRow, baselineRow string) string {
	var b strings.Builder
	for i := range ticks {
		fmt.Fprintf(&b, "%d,canary,%s\n%d,baseline,%s\n", i+1, canaryRow, i+1, baselineRow)
	}
	return b.String()
}

const (
	head        = "tick,version,requests,errors\n"
	latencyHead = "tick,version,requests,errors,le_0.05,le_0.1,le_0.2,le_0.4,le_0.8\n"
)

func TestCounts(t *testing.T) {
	quick := "1000,1,100,500,900,980,998"
	for _, test := range []struct {
		name, file string
		options    Options
		want       canary.Outcome
		tick       int64
		reason     string
	}{
		{"every request fails", head + rows(10, "100,100", "100,0"), Options{}, canary.Rollback, 1, "is worse"},
		{"ten times the errors", head + rows(30, "1000,50", "1000,5"), Options{}, canary.Rollback, 1, ""},
		{"the same", head + rows(60, "3000,3", "3000,3"), Options{}, canary.Promote, 19, "not twice as bad"},
		{"the same at a low weight", head + rows(70, "300,0", "2700,3"), Options{}, canary.Promote, 60, "at the deadline"},
		{"an outage of both", head + rows(20, "1000,300", "1000,300"), Options{}, canary.Promote, 1, ""},
		{"too little traffic", head + rows(90, "2,0", "2,0"), Options{}, canary.Hold, 90, "too little traffic"},
		{"nothing reaches the canary", head + rows(90, "0,0", "1000,1"), Options{}, canary.Hold, 90, "too little traffic"},
		{"nothing reaches the baseline", head + rows(90, "1000,1", "0,0"), Options{}, canary.Hold, 90, "nothing to compare"},
		{"nothing at all", head + rows(90, "0,0", "0,0"), Options{}, canary.Hold, 90, ""},
		{"no rows", head, Options{}, canary.Hold, 0, ""},
		{"the canary only", head + "1,canary,100,50\n", Options{}, canary.Hold, 1, "nothing to compare"},
		{"huge counts", head + rows(90, "9007199254740992,0", "9007199254740992,0"), Options{}, canary.Promote, 1, ""},
		{"huge counts, worse", head + rows(9, "9007199254740992,9007199254740992", "9007199254740992,1"), Options{}, canary.Rollback, 1, ""},
		{"huge ticks", head + "1,canary,10,0\n1,baseline,10,0\n9007199254740992,canary,10,0\n9007199254740992,baseline,10,0\n", Options{}, canary.Hold, 1 << 53, "too little traffic"},
		{"slower", latencyHead + rows(60, "1000,1,50,350,800,950,990", quick), Options{}, canary.Rollback, 1, "slower"},
		{"slower, and that is tolerated", latencyHead + rows(60, "1000,1,85,470,890,978,997", quick), Options{Policy: canary.Policy{Tolerance: 0.1}}, canary.Promote, 42, ""},
		{"as quick", latencyHead + rows(60, quick, quick), Options{}, canary.Promote, 42, "10 % slower"},
		{"slow requests only in one bucket", "tick,version,requests,errors,le_1\n" + rows(60, "1000,1,1000", "1000,1,1000"), Options{}, canary.Promote, 42, ""},
		{"an infinite bucket", "tick,version,requests,errors,le_0.1,le_+Inf\n" + rows(3, "1000,1,500,1000", "1000,1,500,1000"), Options{}, canary.Hold, 3, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := test.options
			o.Tick = time.Minute
			j, err := Counts("f.csv", strings.NewReader(test.file), o)
			if err != nil {
				t.Fatal(err)
			}
			if j.Verdict != test.want || j.Tick != test.tick || !strings.Contains(j.Reason, test.reason) {
				t.Errorf("%s at %d, want %s at %d: %s (%v, %v)", j.Verdict, j.Tick, test.want, test.tick, j.Reason, j.Evidence, j.Needed)
			}
			var out bytes.Buffer
			if err := j.Print(&out); err != nil {
				t.Error(err)
			}
			if body, err := json.Marshal(j); err != nil || !strings.Contains(string(body), fmt.Sprintf(`"verdict":%q,"tick":%d,"evidence":`, test.want, test.tick)) {
				t.Errorf("%v: %.300s", err, body)
			}
		})
	}
}

// Rows in another order are the same recording, and ticks without a canary are the past of its baseline.
func TestOrderAndPast(t *testing.T) {
	file := head + rows(5, "1000,50", "1000,5")
	lines := strings.SplitAfter(strings.TrimSuffix(file, "\n"), "\n")
	last := lines[len(lines)-1] + "\n"
	turned := lines[0] + last
	for i := len(lines) - 2; i > 0; i-- {
		turned += lines[i]
	}
	one, err1 := Counts("a", strings.NewReader(file), Options{Tick: time.Minute})
	other, err2 := Counts("b", strings.NewReader(turned), Options{Tick: time.Minute})
	if err1 != nil || err2 != nil || one.Evidence != other.Evidence || one.Verdict != canary.Rollback {
		t.Errorf("%v %v: %+v, %+v", err1, err2, one, other)
	}
	var past strings.Builder
	past.WriteString(head)
	for i := range 60 {
		fmt.Fprintf(&past, "%d,baseline,1000,%d\n", i, 4+i%3)
	}
	past.WriteString("60,canary,100,2\n60,baseline,900,5\n")
	j, err := Counts("f", strings.NewReader(past.String()), Options{Tick: time.Minute})
	bare, _ := Counts("f", strings.NewReader(head+"60,canary,100,2\n60,baseline,900,5\n"), Options{Tick: time.Minute})
	if err != nil || j.Past != 60 || len(j.Looks) != 1 || j.Evidence <= bare.Evidence {
		t.Errorf("%v: %+v; without a past %v", err, j, bare.Evidence)
	}
}

func TestBrokenFilesAreRefused(t *testing.T) {
	for _, test := range []struct{ name, file, want string }{
		{"empty", "", "f.csv is empty"},
		{"no header", "1,canary,10,0\n", `f.csv:1:1: the header has no column "tick"`},
		{"unknown column", "tick,version,requests,errors,p99\n", `f.csv:1:30: unknown column "p99"`},
		{"no bound", "tick,version,requests,errors,le_x\n", "f.csv:1:30:"},
		{"falling bounds", "tick,version,requests,errors,le_2,le_1\n", "f.csv:1:35:"},
		{"a column twice", "tick,version,requests,errors,errors\n", "f.csv:1:30:"},
		{"no number", head + "1,canary,ten,0\n", `f.csv:2:10: requests is "ten"`},
		{"half a request", head + "1,canary,1.5,0\n", "f.csv:2:10:"},
		{"negative", head + "1,canary,10,0\n1,baseline,-1,0\n", "f.csv:3:12: requests is -1"},
		{"not a number", head + "1,canary,NaN,0\n", "f.csv:2:10:"},
		{"infinite", head + "1,canary,1e999,0\n", "f.csv:2:10:"},
		{"too many errors", head + "1,canary,10,11\n", "f.csv:2:13: 11 errors of 10"},
		{"too short", head + "1,canary,10\n", "f.csv:2:10: 3 columns"},
		{"unknown version", head + "1,stable,10,0\n", `f.csv:2:3: version is "stable"`},
		{"twice", head + "1,canary,10,0\n1,canary,10,0\n", "f.csv:3:3: tick 1 has the canary twice"},
		{"buckets that fall", latencyHead + "1,canary,10,0,1,5,4,6,7\n", "f.csv:2:19: le_0.2 is 4"},
		{"buckets beyond the requests", latencyHead + "1,canary,10,0,1,5,6,7,11\n", "f.csv:2:23:"},
		{"a bare quote", head + "1,can\"ary,10,0\n", "f.csv:2:6:"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := Counts("f.csv", strings.NewReader(test.file), Options{Tick: time.Minute}); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v", err)
			}
		})
	}
	for _, test := range []struct{ name, file, want string }{
		{"empty", "", "f.csv is empty"},
		{"counts", head, `f.csv:1:1: the header has no column "value"`},
		{"not a number", "version,value\ncanary,1\nbaseline,NaN\n", "f.csv:3:10: value is NaN"},
		{"nothing", "version,value\ncanary,\n", `f.csv:2:8: value is ""`},
		{"unknown version", "version,value\nold,1\n", "f.csv:2:1:"},
	} {
		t.Run("samples: "+test.name, func(t *testing.T) {
			if _, err := Samples("f.csv", strings.NewReader(test.file), sample.Policy{}); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestSamples(t *testing.T) {
	published := "version,value\n" + strings.Repeat("canary,100\n", 7) + strings.Repeat("canary,1\n", 3) + strings.Repeat("baseline,1\n", 10)
	for _, test := range []struct {
		name, file string
		want       sample.Outcome
		exposed    int64
	}{
		{"published", published, sample.Bad, 10},
		{"the same", "version,value\n" + strings.Repeat("canary,1\nbaseline,1\n", 10), sample.Good, 10},
		{"too few", "version,value\ncanary,9\nbaseline,1\n", sample.Hold, 1},
		{"the canary only", "version,value\ncanary,9\n", sample.Hold, 1},
		{"nothing", "version,value\n", sample.Hold, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := Samples("f.csv", strings.NewReader(test.file), sample.Policy{})
			if err != nil || c.Verdict != test.want || c.Exposed != test.exposed {
				t.Errorf("%v: %+v", err, c)
			}
			var out bytes.Buffer
			if err := c.Print(&out); err != nil || !strings.Contains(out.String(), string(test.want)+": ") {
				t.Errorf("%v: %s", err, out.String())
			}
		})
	}
}

func FuzzCounts(f *testing.F) {
	f.Add(latencyHead + rows(3, "10,1,1,2,3,4,5", "10,1,1,2,3,4,5"))
	f.Add(head + "1e3,canary,9007199254740992,0\n")
	f.Fuzz(func(t *testing.T, file string) {
		j, err := Counts("f.csv", strings.NewReader(file), Options{Tick: time.Minute})
		if err != nil {
			return
		}
		if _, err := json.Marshal(j); err != nil {
			t.Fatalf("%v of %q", err, file)
		}
	})
}
