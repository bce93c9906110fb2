package command_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/lemnis/lemnis/cmd/lemnis/command"
	"github.com/lemnis/lemnis/cmd/lemnis/up"
	"github.com/lemnis/lemnis/cmd/lemnis/up/uptest"
	"github.com/lemnis/lemnis/pkg/events"
)

// lemnis runs a command line.
func lemnis(ctx context.Context, args ...string) (code int, out, complaint string) {
	var stdout, stderr bytes.Buffer
	code = command.Run(ctx, args, strings.NewReader(""), &stdout, &stderr)
	return code, stdout.String(), stderr.String()
}

func TestMistypedCommandLines(t *testing.T) {
	tests := []struct{ line, want string }{
		{"evnts", `"events"`},
		{"help evnts", `"events"`},
		{"help events tial", `"tail"`},
		{"evnts --help", `"events"`},
		{"-h evnts --project shop", `"events"`},
		{"events tial --help", `"tail"`},
		{"events show x --server foo", `"foo" is no URL`},
		{"events tial", `"tail"`},
		{"events tail --porject shop", `"--project"`},
		{"events tail --nonsense", "no flag --nonsense"},
		{"events tail --from yesterday", `--from: "yesterday" is no whole number`},
		{"rebuild planner --timeout soon", `--timeout: "soon" is no duration, such as 90s or 2h`},
		{"feedback --rating good", `--rating: "good" is no number`},
		{"events show", "ID is missing"},
		{"events show a b", `"b" is too much`},
		{"events tail -o yaml", "text or json"},
		{"events publish chnge.reviewed --project p", `"change.reviewed"`},
		{"events publish change.reviewed", "--project"},
		{"events publish change.reviewed --project p --set lemnis.verdct=approved", `"verdict"`},
		{"events publish ticket.created --project p --set summry=x", `"summary"`},
		{"events publish ticket.created --project p --set nothing", "PATH=VALUE"},
		{"approve prod --project p", "ENVIRONMENT/SERVICE"},
		{"apply", "-f FILE"},
		{"demo --main ./x", "--repo"},
		{"deadletters resend", "which?"},
		{"deadletters resend seven", "no sequence"},
		{"deadletters resend 7 --id x", "not both"},
		{"up --durabilty fsync", `"--durability"`},
		{"pipeline shwo", `"show"`},
		{"pipeline show a b", `"b" is too much`},
		{"pipeline import", "FILE is missing"},
		{"canary jugde x.csv", `"judge"`},
		{"canary judge", "FILE is missing"},
		{"canary judge x.csv --alpha 2", "--alpha 2"},
		{"canary judge x.csv --alpha 1", "less than 1"},
		{"canary judge x.csv --worse lower", "--worse is of --metric"},
		{"canary judge --metric x.csv --alpha 1", "less than 1"},
		{"canary judge x.csv --beta 1", "less than 1"},
		{"canary judge x.csv --weight -0.1", "it may be 0 to 1"},
		{"canary judge x.csv --tolerance NaN", "it may be 0 to 100"},
		{"canary judge --metric=x.csv y.csv", "there may be one file"},
		{"canary judge x.csv --worse up", "higher, lower or either"},
	}
	for _, test := range tests {
		t.Run(test.line, func(t *testing.T) {
			t.Setenv("LEMNIS_PROJECT", "")
			code, _, complaint := lemnis(t.Context(), strings.Fields(test.line)...)
			if code != 2 || !strings.Contains(complaint, test.want) {
				t.Errorf("exit %d: %s", code, complaint)
			}
			if strings.Count(complaint, "\n") != 1 {
				t.Errorf("not one error: %q", complaint)
			}
		})
	}
}

// Keys are looked for where an installation is, and none is begun by a mistyped folder.
func TestKeysOfNoInstallation(t *testing.T) {
	nowhere := filepath.Join(t.TempDir(), "none")
	for _, line := range []string{"list", "rotate planner", "revoke planner", "export --nats-conf"} {
		code, _, complaint := lemnis(t.Context(), append([]string{"keys", "--data", nowhere}, strings.Fields(line)...)...)
		if code != 1 || !strings.Contains(complaint, "there is no installation in "+nowhere) {
			t.Errorf("keys %s: %d %s", line, code, complaint)
		}
	}
	if _, err := os.Stat(nowhere); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder: %v", err)
	}
}

// Help names what there is to choose from, and no more: no phase without a type, no word of a sentence for the kind of a value.
func TestHelp(t *testing.T) {
	code, out, complaint := lemnis(t.Context(), "events", "publish", "--help")
	if code != 0 || strings.Contains(out, "Phase any") || !strings.Contains(out, "Phase learn:\n  feedback.received") {
		t.Errorf("%d %s\n%s", code, complaint, out)
	}
	for _, name := range []string{"up", "doctor", "backup", "restore", "retain", "demo"} {
		if code, out, complaint = lemnis(t.Context(), name, "--help"); code != 0 || !regexp.MustCompile(`--nats string |--server string `).MatchString(out) || strings.Contains(out, "--nats lemnis up") {
			t.Errorf("%s: %d %s\n%s", name, code, complaint, out)
		}
	}
}

func TestTypes(t *testing.T) {
	code, out, _ := lemnis(t.Context(), "events", "types")
	if code != 0 || strings.Count(out, "\n") != len(events.Catalogue())+1 {
		t.Errorf("exit %d, %d lines for %d types", code, strings.Count(out, "\n"), len(events.Catalogue()))
	}
	code, out, _ = lemnis(t.Context(), "version")
	if code != 0 || !strings.HasPrefix(out, "lemnis ") {
		t.Errorf("exit %d: %s", code, out)
	}
}

// The whole command line against an installation.
func TestAgainstInstallation(t *testing.T) {
	data := t.TempDir()
	if err := os.WriteFile(filepath.Join(data, "quotas.yaml"), []byte("projects: {shop: {events-per-day: 4321, registry: 2MiB}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	stack, stop := uptest.Run(t, up.Options{Data: data})
	defer stop()
	t.Setenv("LEMNIS_SERVER", stack.URL())
	t.Setenv("LEMNIS_PROJECT", "shop")
	file := filepath.Join(t.TempDir(), "project.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	do := func(want int, args ...string) (out, complaint string) {
		t.Helper()
		code, out, complaint := lemnis(t.Context(), args...)
		if code != want {
			t.Fatalf("lemnis %s: exit %d, want %d: %s%s", strings.Join(args, " "), code, want, out, complaint)
		}
		return out, complaint
	}
	has := func(text, want string) {
		t.Helper()
		if !strings.Contains(text, want) {
			t.Errorf("%q does not have %q", text, want)
		}
	}

	write("project: shop\nrepositories: [{name: api, url: /srv/api.git}]\nreview: {approvals: 20000}\n")
	_, complaint := do(1, "apply", "-f", file)
	has(complaint, "project.yaml:3:")
	write("project: shop\nrepositories: [{name: api, url: /srv/api.git}]\n")
	out, _ := do(0, "apply", "-f", file)
	has(out, "shop: revision 1 is in force")

	out, _ = do(0, "events", "publish", "ticket.created", "--id", "T-1", "--set", "summary=A faster checkout", "--set", "lemnis.origin=stakeholder",
		"--set", `lemnis.estimate={"source":"stakeholder","value":8,"cost":5}`, "-o", "json")
	fact, _, err := events.DecodeStructured([]byte(out))
	if err != nil {
		t.Fatal(err)
	}
	ticket, ok := fact.Content.(events.TicketCreated)
	if !ok || ticket.Summary != "A faster checkout" || ticket.Creator == "" || ticket.URI == "" || ticket.Lemnis.Estimate == nil || ticket.Lemnis.Estimate.Value != 8 {
		t.Errorf("%s", out)
	}
	_, complaint = do(1, "events", "publish", "ticket.created", "--id", "T-1", "--set", "summary=Again")
	has(complaint, "exists already")
	_, complaint = do(1, "events", "publish", "claim.refused", "--id", "T-1")
	has(complaint, "only a service")

	data = filepath.Join(t.TempDir(), "review.json")
	if err := os.WriteFile(data, []byte(`{"lemnis":{"reviewer":"ann","verdict":"approved"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	_, complaint = do(1, "events", "publish", "change.reviewed", "--id", "42", "--data", data)
	has(complaint, "not known")

	out, _ = do(0, "events", "show", fact.ID)
	has(out, `"A faster checkout"`)
	_, complaint = do(1, "events", "show", "nothing")
	has(complaint, "there is no event")
	// Read models follow within a second; the fact's own index entry was there, so its chain's is.
	out, _ = do(0, "events", "trace", fact.Chain)
	has(out, "ticket.created (claim)")
	_, complaint = do(1, "events", "trace", "nothing")
	has(complaint, "no event of the chain")

	for _, args := range [][]string{{"approve", "prod/api"}, {"refuse", "prod/api"}, {"abort", "prod/api"}} {
		_, complaint = do(1, args...)
		has(complaint, "no rollout is in flight")
	}
	_, complaint = do(1, "ack", "INC-1")
	has(complaint, "no alert was sent")
	out, _ = do(0, "feedback", "the search is slow", "--feature", "search", "--rating", "2")
	has(out, "thank you")
	_, complaint = do(1, "feedback", "x", "--rating", "9")
	has(complaint, "1 to 5")
	out, _ = do(0, "quotas")
	lines := strings.Split(out, "\n")
	has(lines[0], "MAY USE")
	used := false
	for _, line := range lines[1:] {
		fields := strings.Fields(line) // shop  events in a day  5  4321
		used = used || len(fields) > 3 && fields[0] == "shop" && fields[len(fields)-1] == "4321" && fields[len(fields)-2] != "0"
	}
	if !used {
		t.Errorf("no line of what shop used of its 4321 events:\n%s", out)
	}
	has(out, "2097152")
	out, _ = do(0, "quotas", "-o", "json")
	has(out, `"limit": 4321`)

	out, _ = do(0, "deadletters", "list")
	has(out, "SEQUENCE  PROJECT  WHERE  TYPE  REASON\n")
	out, _ = do(0, "deadletters", "list", "-o", "json")
	has(out, `"deadletters": []`)
	out, _ = do(0, "deadletters", "resend", "--since", "1h", "--type", "ticket.created")
	has(out, "0 sent again, 0 before, 0 can not be")
	for _, name := range []string{"planner", "builder", "deployer", "monitor", "feedback", "gateway", "plan"} {
		out, _ = do(0, "rebuild", name)
		has(out, " compared, 0 differed")
	}
	_, complaint = do(1, "rebuild", "nothing")
	has(complaint, "no service and no phase")
	_, complaint = do(1, "deadletters", "resend", "7")
	has(complaint, "404")
	_, complaint = do(1, "deadletters", "list", "--since", "yesterday")
	has(complaint, "neither a duration")
	out, _ = do(0, "webhooks", "unknown", "--project", "shop")
	has(out, "deliveries")
	_, complaint = do(1, "deadletters", "show", "7")
	has(complaint, "404")

	tail(t, fact)
	t.Setenv("LEMNIS_SERVER", "http://127.0.0.1:1")
	_, complaint = do(1, "events", "show", fact.ID)
	has(complaint, "lemnis up")
}

// tail follows from the beginning until it has seen a fact.
func tail(t *testing.T, fact events.Event) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	w := &untilSeen{id: fact.ID, seen: cancel}
	var stderr bytes.Buffer
	if code := command.Run(ctx, []string{"events", "tail", "--from", "0", "-o", "json"}, strings.NewReader(""), w, &stderr); code != 0 {
		t.Errorf("exit %d: %s", code, stderr.String())
	}
	if !w.found {
		t.Errorf("the fact %s did not come", fact.ID)
	}
}

// untilSeen reads lines of JSON and stops at an event.
type untilSeen struct {
	id    string
	seen  context.CancelFunc
	found bool
}

func (u *untilSeen) Write(line []byte) (int, error) {
	var e struct {
		ID   string `json:"id"`
		Kind string `json:"kind"`
	}
	if err := json.Unmarshal(line, &e); err != nil {
		return 0, err
	}
	if e.ID == u.id && e.Kind == "fact" {
		u.found = true
		u.seen()
	}
	return len(line), nil
}

// A file is judged without an installation, however the flag is written.
func TestCanaryJudge(t *testing.T) {
	file := filepath.Join(t.TempDir(), "samples.csv")
	text := "version,value\n" + strings.Repeat("canary,100\n", 7) + strings.Repeat("canary,1\n", 3) + strings.Repeat("baseline,1\n", 10)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"--metric", file}, {"--metric=" + file}, {file, "--metric"}} {
		code, out, complaint := lemnis(t.Context(), append([]string{"canary", "judge", "--output", "json"}, args...)...)
		var got struct {
			Verdict  string
			Tick     int
			Evidence float64
			Exposed  int
		}
		if err := json.Unmarshal([]byte(out), &got); err != nil || code != 0 || got.Verdict != "bad" || got.Exposed != 10 || got.Evidence < 100 {
			t.Errorf("%v: exit %d, %v: %s%s", args, code, err, out, complaint)
		}
	}
	if code, _, _ := lemnis(t.Context(), "canary", "judge", "--metric", file, "--exit-code"); code != 3 {
		t.Errorf("--exit-code ends with %d", code)
	}
	if code, _, complaint := lemnis(t.Context(), "canary", "judge", file); code != 1 || !strings.Contains(complaint, file+":1:1:") {
		t.Errorf("samples as counts: exit %d: %s", code, complaint)
	}
}
