package command_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lemnis/lemnis/cmd/lemnis/reach"
	"github.com/lemnis/lemnis/cmd/lemnis/up"
	"github.com/lemnis/lemnis/cmd/lemnis/up/uptest"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/internal/snapshot"
	"github.com/lemnis/lemnis/pkg/events"
)

// told runs a command line, and returns its exit code and all that it said.
func told(t *testing.T, args ...string) (int, string) {
	t.Helper()
	code, out, complaint := lemnis(t.Context(), args...)
	return code, out + complaint
}

// A data folder is copied while the installation runs and while it does not, and put back into another one, where it runs
// with what was there.
func TestBackupOfDataFolder(t *testing.T) {
	data, archives := t.TempDir(), t.TempDir()
	file := filepath.Join(t.TempDir(), "project.yaml")
	if err := os.WriteFile(file, []byte("project: shop\nrepositories: [{name: api, url: /srv/api.git}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, stop := uptest.Run(t, up.Options{Data: data, Config: file, Auth: true})
	hot, cold := filepath.Join(archives, "hot.tar"), filepath.Join(archives, "cold")
	if code, said := told(t, "backup", "--data", data, "--out", hot); code != 0 || !strings.Contains(said, "streams up to event") {
		t.Fatalf("%d: %s", code, said)
	}
	blob := filepath.Join(data, "registry", "blobs", "sha256", strings.Repeat("a", 64))
	if err := os.WriteFile(blob, []byte("an artifact"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, said := told(t, "restore", hot, "--data", data); code != 1 || !strings.Contains(said, "not empty") {
		t.Errorf("over a running installation: %d: %s", code, said)
	}
	stop()
	if code, said := told(t, "backup", "--data", data, "--out", cold); code != 0 {
		t.Fatalf("%d: %s", code, said)
	}
	if code, said := told(t, "restore", "--check", cold); code != 0 || !strings.Contains(said, "is whole") {
		t.Errorf("%d: %s", code, said)
	}
	token, err := os.ReadFile(filepath.Join(data, "admin.token"))
	if err != nil {
		t.Fatal(err)
	}
	for _, archive := range []string{hot, cold} {
		other := filepath.Join(t.TempDir(), "other")
		if code, said := told(t, "restore", archive, "--data", other); code != 0 || !strings.Contains(said, "restored") {
			t.Fatalf("%d: %s", code, said)
		}
		if err := os.WriteFile(filepath.Join(other, "admin.token"), token, 0o600); err != nil {
			t.Fatal(err)
		}
		stack, stop := uptest.Run(t, up.Options{Data: other, Auth: true})
		t.Setenv("LEMNIS_TOKEN", strings.TrimSpace(string(token)))
		code, said := told(t, "--server", stack.URL(), "tokens", "list") // the tokens are there, and this is one of them
		if code != 0 || !strings.Contains(said, "admin") {
			t.Errorf("%d: %s", code, said)
		}
		if _, err := os.Stat(filepath.Join(other, "registry", "blobs", "sha256", filepath.Base(blob))); (err == nil) != (archive == cold) {
			t.Errorf("%s: the artifact: %v", archive, err)
		}
		stop()
	}
	missing := filepath.Join(t.TempDir(), "none")
	if code, said := told(t, "backup", "--data", missing, "--out", filepath.Join(archives, "x.tar")); code != 1 || !strings.Contains(said, "no installation") {
		t.Errorf("%d: %s", code, said)
	}
	if err := os.WriteFile(hot, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _ := told(t, "restore", hot, "--data", missing); code != 1 {
		t.Error("a damaged archive was restored")
	}
	if _, err := os.Stat(missing); err == nil {
		t.Error("a refused restore made the folder")
	}
}

// Onto a bus of its own, with the registry by way of the gateway.
func TestBackupByURL(t *testing.T) {
	data := t.TempDir()
	stack, stop := uptest.Run(t, up.Options{Data: data})
	defer stop()
	if err := os.WriteFile(filepath.Join(data, "registry", "blobs", "sha256", strings.Repeat("b", 64)), []byte("an artifact"), 0o600); err != nil {
		t.Fatal(err)
	}
	var at up.Addresses
	readJSON(t, filepath.Join(data, up.AddressFile), &at)
	key := filepath.Join(data, "nats", "services.nk")
	out := filepath.Join(t.TempDir(), "a.tar")
	if code, said := told(t, "backup", "--nats", at.NATS, "--nats-key", key, "--server", stack.URL(), "--out", out); code != 0 || !strings.Contains(said, " 1 files") {
		t.Fatalf("%d: %s", code, said)
	}
	if code, said := told(t, "restore", out, "--nats", at.NATS, "--nats-key", key); code != 2 || !strings.Contains(said, "--registry") {
		t.Errorf("%d: %s", code, said)
	}
	if code, said := told(t, "restore", out, "--nats", at.NATS, "--nats-key", key, "--registry", t.TempDir()); code != 1 || !strings.Contains(said, "not empty") {
		t.Errorf("%d: %s", code, said)
	}
	if code, said := told(t, "backup", "--nats", at.NATS, "--out", out+"2.tar"); code != 1 {
		t.Errorf("without a key: %d: %s", code, said)
	}
}

func readJSON(t *testing.T, file string, into any) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatal(err)
	}
}

// Where old events go, every service keeps its folds with its own key, also one in whose phase nothing happens; what is young
// stays.
func TestRetain(t *testing.T) {
	for _, wrong := range [][]string{{}, {"--keep", "59m"}, {"--keep", "soon"}, {"--keep", "1d", "--off"}} {
		if code, said := told(t, append([]string{"retain", "--data", t.TempDir()}, wrong...)...); code != 2 {
			t.Errorf("%v: %d %s", wrong, code, said)
		}
	}
	data := t.TempDir()
	_, stop := uptest.Run(t, up.Options{Data: data, Auth: true, Timing: service.Timing{Snapshot: 50 * time.Millisecond}})
	defer stop()
	b, err := reach.Running(reach.Address{Data: data})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	js, err := jetstream.New(b.Conn)
	if err != nil {
		t.Fatal(err)
	}
	if code, said := told(t, "retain", "--data", data, "--keep", "90d"); code != 0 || !strings.Contains(said, "nothing goes: ") {
		t.Fatalf("%d %s", code, said)
	}
	for _, name := range []string{"plan", "develop", "integrate", "deploy", "operate", "learn", "gateway"} {
		for deadline := time.Now().Add(20 * time.Second); ; {
			kept, err := snapshot.Read(t.Context(), js, name)
			if err == nil && len(kept) == 2 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s has kept %d snapshots, %v", name, len(kept), err)
			}
			happen(t, js)
		}
	}
	if code, said := told(t, "retain", "--data", data, "--keep", "90d", "--dry-run"); code != 0 || !strings.Contains(said, "younger than 2160h") {
		t.Errorf("%d %s", code, said)
	}
	if code, said := told(t, "retain", "--data", data, "--off"); code != 0 || !strings.Contains(said, "no more events go") {
		t.Errorf("%d %s", code, said)
	}
}

// happen claims something new: a snapshot follows only what is.
func happen(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	e := events.New("shop", "wish", events.TicketUpdated{Ticket: events.Ticket{Summary: "x", Creator: "ann", URI: "/wish"}})
	e.Source, e.Time, e.Phase, e.Principal, e.Chain = "/test", time.Now(), events.Plan, "local", e.ID
	m, err := events.Encode(e)
	if err != nil {
		t.Fatal(err)
	}
	m.Subject = e.Subject(events.Claim)
	if _, err := js.PublishMsg(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	<-time.After(20 * time.Millisecond)
}
