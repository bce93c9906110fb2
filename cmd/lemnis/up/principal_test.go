package up_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/lemnis/lemnis/cmd/lemnis/api"
	"github.com/lemnis/lemnis/cmd/lemnis/command"
	"github.com/lemnis/lemnis/cmd/lemnis/up/uptest"
	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/gateway/access"
)

// An outside system gets a key while the installation runs, says over NATS what its scopes let it say, under its own name,
// reads the facts of its project, and gets nothing else through.
func TestPrincipalOverNATS(t *testing.T) {
	if underRace { // its ReloadOptions compares the users of before and now with DeepEqual, down to counters of live accounts
		t.Skip("SKIPPED under -race: nats-server 2.15 reads counters of live accounts when its keys change; without -race this runs")
	}
	o := options(t.TempDir())
	o.Auth = true
	stack, stop := uptest.Run(t, o)
	defer stop()
	seedFile := filepath.Join(t.TempDir(), "jira.nk")
	var out, complaint bytes.Buffer
	if code := command.Run(t.Context(), []string{"keys", "create", "jira", "--data", o.Data, "--scope", "publish:plan@shop", "--scope", "read@shop", "--out", seedFile}, strings.NewReader(""), &out, &complaint); code != 0 {
		t.Fatalf("%d %s", code, complaint.String())
	}
	seed, err := os.ReadFile(seedFile)
	if err != nil {
		t.Fatal(err)
	}
	with, err := natsd.PrincipalOptions(bytes.TrimSpace(seed))
	if err != nil {
		t.Fatal(err)
	}
	var jira *events.Client
	patiently(t, "the key is good", func() bool {
		jira, err = events.Connect(stack.Addresses().NATS, events.WithPrincipal("jira"), events.WithNATS(append(with, nats.MaxReconnects(0))...))
		return err == nil
	})
	defer func() { _ = jira.Close() }()
	text, err := os.ReadFile(filepath.Join(o.Data, access.AdminFile))
	if err != nil {
		t.Fatal(err)
	}
	admin := api.New(stack.URL(), api.Token(strings.TrimSpace(string(text))))
	defer admin.Close()
	if _, err := admin.Apply(t.Context(), events.DefaultProject("shop"), 20*time.Second); err != nil {
		t.Fatal(err)
	}

	forged := events.New("shop", "T-1", events.TicketCreated{Ticket: events.Ticket{Summary: "Search is slow", Creator: "ann", URI: "https://example.org/T-1"}})
	forged.Principal, forged.Cause = "admin", "a-fact"
	patiently(t, "the inbox is there", func() bool { return jira.Submit(t.Context(), forged) == nil })
	var stated events.Event
	patiently(t, "the claim becomes a fact", func() bool {
		found, err := admin.Events(t.Context(), api.Query{Project: "shop", Type: "ticket.created"})
		if err != nil || len(found) < 2 {
			return false
		}
		stated = found[1]
		return found[0].Principal == "jira"
	})
	if stated.Kind != events.Stated || stated.Principal != "jira" {
		t.Errorf("%s by %q", stated.Kind, stated.Principal)
	}

	for name, e := range map[string]events.Event{
		"another project": events.New("food", "T-1", events.TicketCreated{Ticket: events.Ticket{Summary: "x", Creator: "ann", URI: "https://example.org/T-1"}}),
		"a decision":      events.New("shop", "prod/api", events.ApprovalGiven{Environment: "prod", Service: "api"}),
		"the gates":       events.New("shop", "shop", events.ProjectConfigured{Project: events.DefaultProject("shop")}),
	} {
		if err := jira.Submit(t.Context(), e); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	patiently(t, "they are dead letters", func() bool {
		letters, err := admin.DeadLetters(t.Context(), api.DeadLetterQuery{})
		denied := 0
		for _, l := range letters {
			denied += strings.Count(string(l), "needs the scope")
		}
		return err == nil && denied == 3
	})
	for _, project := range []string{"food", "shop"} {
		found, err := admin.Events(t.Context(), api.Query{Project: project})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range found {
			if e.Project == "food" || e.Type == events.TypeOf(events.ApprovalGiven{}) || e.Type == events.TypeOf(events.ProjectConfigured{}) && e.Principal == "jira" {
				t.Errorf("it got through: %s of %s", e.Type.Short(), e.Project)
			}
		}
	}
}

func patiently(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); <-time.After(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}
