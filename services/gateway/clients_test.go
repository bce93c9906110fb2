package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	v05 "github.com/cdevents/sdk-go/pkg/api/v05"
	ce "github.com/cloudevents/sdk-go/v2"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"

	"github.com/cdevents/sdk-go/pkg/api"

	"github.com/lemnis/lemnis/pkg/events"
)

// The official clients, unchanged: what they send is taken, what they ask for is what they get.

// merged is an event as the official CDEvents SDK makes it, with the project that a claim belongs to.
func merged(t *testing.T, change string) ce.Event {
	t.Helper()
	e, err := v05.NewChangeMergedEvent()
	if err != nil {
		t.Fatal(err)
	}
	e.SetSource("/official/sdk")
	e.SetSubjectId(change)
	e.SetSubjectRepository(&api.Reference{Id: "shop.git"})
	cloud, err := api.AsCloudEvent(e)
	if err != nil {
		t.Fatal(err)
	}
	cloud.SetExtension("project", "shop")
	return *cloud
}

func TestOfficialSenders(t *testing.T) {
	w := newWorld(t)
	client, err := ce.NewClientHTTP(cehttp.WithTarget(w.url + "/events"))
	if err != nil {
		t.Fatal(err)
	}
	sent := map[string]ce.Event{}
	for mode, with := range map[string]func(context.Context) context.Context{"binary": ce.WithEncodingBinary, "structured": ce.WithEncodingStructured} {
		e := merged(t, mode)
		var answer *cehttp.Result
		if result := client.Send(with(t.Context()), e); !ce.IsACK(result) || !ce.ResultAs(result, &answer) || answer.StatusCode != http.StatusAccepted {
			t.Errorf("%s: %v", mode, result)
		}
		sent[e.ID()] = e
	}
	several := []ce.Event{merged(t, "first of a batch"), merged(t, "second of a batch")}
	r, err := cehttp.NewHTTPRequestFromEvents(t.Context(), w.url+"/events", several)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var each []receipt
	if err := json.NewDecoder(resp.Body).Decode(&each); err != nil || resp.StatusCode != http.StatusAccepted || len(each) != 2 {
		t.Errorf("batch: %d %v %+v", resp.StatusCode, err, each)
	}
	for _, e := range several {
		sent[e.ID()] = e
	}
	no := merged(t, "x")
	no.SetExtension("project", "No!")
	if result := client.Send(t.Context(), no); ce.IsACK(result) {
		t.Errorf("a bad one: %v", result)
	}

	var p page
	if w.get("/events?type=change.merged", &p); len(p.Events) != len(sent) {
		t.Errorf("%d events are found", len(p.Events))
	}
	for _, found := range p.Events {
		text, err := json.Marshal(found)
		if err != nil {
			t.Fatal(err)
		}
		got := ce.NewEvent()
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatalf("the SDK does not read %s: %v", text, err)
		}
		want := sent[got.ID()]
		var a, b any
		if json.Unmarshal(got.Data(), &a) != nil || json.Unmarshal(want.Data(), &b) != nil || !equalJSON(a, b) || got.Type() != want.Type() || got.Source() != want.Source() {
			t.Errorf("found %s, sent %s", got, want)
		}
		if _, err := v05.NewFromJsonBytes(got.Data()); err != nil {
			t.Errorf("the CDEvents SDK does not read %s: %v", got.Data(), err)
		}
	}
}

func equalJSON(a, b any) bool {
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	return bytes.Equal(x, y)
}

// The receiver of the official SDK is given what the official sender said, once a service has stated it. It answers the
// handshake by itself.
func TestOfficialReceiver(t *testing.T) {
	w := newWorld(t, openSinks)
	w.planner()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan string, 10) // the origins that wanted to send
	receiver, err := ce.NewClientHTTP(cehttp.WithListener(listener),
		cehttp.WithDefaultOptionsHandlerFunc([]string{http.MethodPost}, 60_000, []string{"lemnis"}, false),
		cehttp.WithMiddleware(func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodOptions {
					asked <- r.Header.Get("WebHook-Request-Origin")
				}
				next.ServeHTTP(rw, r)
			})
		}))
	if err != nil {
		t.Fatal(err)
	}
	received := make(chan ce.Event, 10)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = receiver.StartReceiver(ctx, func(e ce.Event) { received <- e })
	}()
	defer func() { cancel(); <-done }()
	ask := `{"protocol":"HTTP","sink":"http://` + listener.Addr().String() + `/","config":{"project":"shop"},"types":["dev.cdevents.ticket.created.0.2.0"]}`
	if resp, body := w.send(http.MethodPost, "/subscriptions", ask, "Content-Type", "application/json"); resp.StatusCode != http.StatusCreated {
		t.Fatalf("%d %s", resp.StatusCode, body)
	}
	if origin := <-asked; origin != "lemnis" {
		t.Errorf("asked by %q", origin)
	}

	created, err := v05.NewTicketCreatedEvent()
	if err != nil {
		t.Fatal(err)
	}
	created.SetSource("/official/sdk")
	created.SetSubjectId("gift-cards")
	created.SetSubjectSummary("Sell gift cards")
	created.SetSubjectCreator("ann")
	created.SetSubjectUri("/wishes/1")
	cloud, err := api.AsCloudEvent(created)
	if err != nil {
		t.Fatal(err)
	}
	cloud.SetExtension("project", "shop")
	sender, err := ce.NewClientHTTP(cehttp.WithTarget(w.url + "/events"))
	if err != nil {
		t.Fatal(err)
	}
	if result := sender.Send(t.Context(), *cloud); !ce.IsACK(result) {
		t.Fatal(result)
	}
	got := <-received
	read, err := v05.NewFromJsonBytes(got.Data())
	if err != nil {
		t.Fatalf("%s: %v", got, err)
	}
	e, ok := read.(*v05.TicketCreatedEvent)
	if !ok || got.Type() != cloud.Type() || e.GetSubjectId() != "gift-cards" || e.Subject.Content.Summary != "Sell gift cards" {
		t.Errorf("received %s", got)
	}
}

// readmeCommand is a command in a block of code: it goes on to the next one, or to the end of the block.
var readmeCommand = regexp.MustCompile("(?ms)^(?:curl|nats) .*?\n(?:```|bin/|curl |nats )")

// shell are the README's commands of curl and nats, with the address of a world.
func (w *world) shell() (commands []string) {
	w.t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		w.t.Fatal(err)
	}
	for len(text) > 0 {
		at := readmeCommand.FindIndex(text)
		if at == nil {
			break
		}
		end := at[0] + bytes.LastIndexByte(text[at[0]:at[1]], '\n') // the next one begins behind it
		commands = append(commands, strings.ReplaceAll(string(text[at[0]:end]), "http://127.0.0.1:8080", w.url))
		text = text[end:]
	}
	return commands
}

// readme finds the one command of the README that has a text.
func (w *world) readme(text string) string {
	w.t.Helper()
	var found []string
	for _, command := range w.shell() {
		if strings.Contains(command, text) {
			found = append(found, command)
		}
	}
	if len(found) != 1 {
		w.t.Fatalf("the README has %d commands with %q: %q", len(found), text, found)
	}
	return found[0]
}

func TestCurlAsInTheReadme(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("SKIPPED: curl is not on the PATH")
	}
	w := newWorld(t)
	w.planner()
	run := func(command string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), "sh", "-c", command).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
		return string(out)
	}
	var r receipt
	if out := run(w.readme(`"wish-1"`)); json.Unmarshal([]byte(out), &r) != nil || r.ID != "wish-1" || r.Project != "shop" || r.Sequence == 0 {
		t.Errorf("publish: %s", out)
	}
	if out := run(w.readme("/feedback")); json.Unmarshal([]byte(out), &r) != nil || r.Phase != "learn" {
		t.Errorf("feedback: %s", out)
	}
	query := w.readme("phase=plan")
	w.until("the fact is found", func() bool { return strings.Contains(run(query), `"kind":"fact"`) })

	stream := exec.CommandContext(t.Context(), "sh", "-c", "exec "+w.readme("/events/stream"))
	out := &told{found: make(chan struct{}), want: "gift-vouchers"}
	stream.Stdout = out
	if err := stream.Start(); err != nil {
		t.Fatal(err)
	}
	n := 0
	w.until("the stream shows what comes", func() bool {
		if n++; n%20 == 1 { // it may not listen yet
			w.state(fact("shop", "gift-vouchers", events.Plan, ticket("t", "x").Content))
		}
		select {
		case <-out.found:
			return true
		default:
			return false
		}
	})
	_ = stream.Process.Kill()
	_ = stream.Wait()
}

// told waits for a text in what a program says.
type told struct {
	text  []byte
	want  string
	found chan struct{}
}

func (o *told) Write(p []byte) (int, error) {
	before := bytes.Contains(o.text, []byte(o.want))
	if o.text = append(o.text, p...); !before && bytes.Contains(o.text, []byte(o.want)) {
		close(o.found)
	}
	return len(p), nil
}

// natsCLI names the nats CLI: building it takes as long as many tests. `make tools-nats` does so, for `make test` too.
const natsCLI = "LEMNIS_NATS_CLI"

func TestOfficialNATSClient(t *testing.T) {
	program := os.Getenv(natsCLI)
	if program == "" {
		t.Skip("SKIPPED: the nats CLI is not there; `make tools-nats` builds it, and " + natsCLI + " names it")
	}
	w := newWorld(t)
	w.planner()
	home := t.TempDir()
	command := func(line string) *exec.Cmd {
		c := exec.CommandContext(t.Context(), "sh", "-c", "nats() { exec '"+program+"' \"$@\"; }; "+line)
		c.Dir, c.Env = home, append(os.Environ(), "NATS_URL="+w.server.URL(), "HOME="+home, "XDG_CONFIG_HOME="+home)
		return c
	}
	// The event of the README's curl is the one in event.json.
	_, event, ok := strings.Cut(w.readme(`"wish-1"`), "-d '")
	if !ok {
		t.Fatal("the README's event is not found")
	}
	if err := os.WriteFile(filepath.Join(home, "event.json"), []byte(strings.TrimRight(event, "'\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	sub := command(w.readme("nats sub"))
	out := &told{found: make(chan struct{}), want: "lifecycle.shop.plan.ticket.created.gift-cards"}
	listening := &told{found: make(chan struct{}), want: "first"}
	sub.Stdout = both{out, listening}
	if err := sub.Start(); err != nil {
		t.Fatal(err)
	}
	n := 0
	w.until("nats sub listens", func() bool {
		if n++; n%20 == 1 {
			w.state(fact("shop", "first", events.Plan, ticket("first", "x").Content))
		}
		select {
		case <-listening.found:
			return true
		default:
			return false
		}
	})
	if said, err := command(w.readme("nats pub")).CombinedOutput(); err != nil {
		t.Fatalf("nats pub: %v\n%s", err, said)
	}
	w.until("nats sub shows the fact", func() bool {
		select {
		case <-out.found:
			return true
		default:
			return false
		}
	})
	_ = sub.Process.Kill()
	_ = sub.Wait()
	said, err := command("nats stream info LIFECYCLE").CombinedOutput()
	if err != nil || !strings.Contains(string(said), "LIFECYCLE") || !strings.Contains(string(said), "Messages:") {
		t.Errorf("nats stream info: %v\n%s", err, said)
	}
	var p page
	if w.get("/events?key=gift-cards", &p); p.ids() != "claim:gift-cards fact:gift-cards" {
		t.Errorf("on the stream: %s", p.ids())
	}
}

// both tells two.
type both struct{ a, b *told }

func (x both) Write(p []byte) (int, error) {
	_, _ = x.a.Write(p)
	return x.b.Write(p)
}
