package integration_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
)

// versionBefore is the version that today's runs beside in a rolling restart: the last commit before claims existed that an
// older planner can not read (deadletter.resent, rebuild.requested). A release moves it to the one before itself.
const versionBefore = "5583d96a6b1df441f9565a51f39de5552116021a"

// programsOf builds services of a version from the history of this repository, and returns their folder.
func programsOf(t *testing.T, version string, services ...string) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "git", "-C", root, "cat-file", "-e", version+"^{commit}").CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: commit %s is not in this clone (shallow?), so two versions were NOT run side by side: %v %s", version, err, out)
	}
	dir := t.TempDir()
	source, archive := filepath.Join(dir, "source"), filepath.Join(dir, "source.tar")
	if err := os.Mkdir(source, 0o700); err != nil {
		t.Fatal(err)
	}
	build := []string{"go", "build", "-buildvcs=false", "-o", dir + "/"}
	for _, name := range services {
		build = append(build, fmt.Sprintf("./services/%s/cmd/lemnis-%s", name, name))
	}
	for _, args := range [][]string{
		{"git", "-C", root, "archive", "-o", archive, version},
		{"tar", "-x", "-f", archive, "-C", source},
		build,
	} {
		cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
		cmd.Dir = source
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	return dir
}

// An older and today's planner decide in turn on one bus while claims come in: old, both, new, both, old, both, new; owners are
// killed and asked to end. Each claim has its one answer, whichever version gave it, and today's planner folds all of it.
func TestMixedVersions(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED in short mode: an older version is built, so two versions were NOT run side by side")
	}
	before := filepath.Join(programsOf(t, versionBefore, "planner"), "lemnis-planner")
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	today := filepath.Join(dir, "lemnis-planner")
	data, port := t.TempDir(), freePort(t)
	url := fmt.Sprintf("nats://127.0.0.1:%d", port)
	start(t, filepath.Join(dir, "nats-server"), nil, "-js", "-sd", filepath.Join(data, "nats"), "-a", "127.0.0.1", "-p", fmt.Sprint(port))
	nc, err := nats.Connect(url, nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	if err := nc.FlushTimeout(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	host := hostOn(t, nc, embeddedFolds(t))
	run := func(version string) (*program, string) {
		health := fmt.Sprintf("127.0.0.1:%d", freePort(t))
		return start(t, version, []string{"LEMNIS_NATS_URL=" + url, "LEMNIS_REDIS_URL=", "LEMNIS_DATA=" + t.TempDir(), "LEMNIS_HTTP=" + health, "LEMNIS_LOG=warn"}),
			"http://" + health
	}
	old, _ := run(before)

	loading, enough := context.WithCancel(t.Context())
	defer enough()
	var load sync.WaitGroup
	claimed := 0
	load.Go(func() { claimed = steadyTickets(loading, t, host) })
	decides(t, host, "the version before, alone")

	next, _ := run(today)
	decides(t, host, "both, the version before began")
	old.kill()
	decides(t, host, "today's, after a kill -9")

	old, _ = run(before)
	end(t, next)
	decides(t, host, "the version before, again")
	// What it can not know: it may not stop for it, and may not take it for something else.
	unknown := []uint64{
		claimUpkeep(t, host, "resend", events.DeadLetterResent{}),
		claimUpkeep(t, host, "rebuild", events.RebuildRequested{Service: "plan"}),
	}
	decides(t, host, "the version before, past claims that it does not know")

	next, health := run(today)
	answers(t, health+"/readyz", next)
	end(t, old)
	decides(t, host, "today's, after the other ended")
	enough()
	load.Wait()

	awaitFloors(t, host, 1, claimTicket(t, host, "M-last"))
	last, err := service.LastSequence(t.Context(), host) // the answers stand behind the claims
	if err != nil {
		t.Fatal(err)
	}
	once(t, host)
	facts := readAgain(t, host, last)
	t.Logf("%d claims on a stream of %d events, %d facts", claimed, last, facts)
	if facts != claimed+1 { // and the last
		t.Errorf("%d facts for %d claims", facts, claimed)
	}
	letters(t, host, unknown)

	end(t, next)
	fresh, health := run(today)
	answers(t, health+"/readyz", fresh)
	awaitFloors(t, host, 1, claimTicket(t, host, "M-fresh"))
	once(t, host)
}

// end asks a program to end and waits.
func end(t *testing.T, p *program) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.done:
		if p.err != nil {
			t.Errorf("%s ended with %v", p.name, p.err)
		}
	case <-time.After(40 * time.Second):
		t.Fatalf("%s does not end on SIGTERM", p.name)
	}
}

// decides waits until a claim that is made now, and so decided by whoever runs now, is answered.
func decides(t *testing.T, host service.Host, who string) {
	t.Helper()
	begun := time.Now()
	from, err := service.LastSequence(t.Context(), host)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	stated := 0
	err = service.Tail(ctx, host, nil, from+1, func(m service.Message) error {
		if e, err := m.Event(); err == nil && e.Kind == events.Stated && e.CauseSequence > from {
			if stated++; stated == 20 {
				return service.ErrStop
			}
		}
		return nil
	})
	if err != nil || stated < 20 {
		t.Fatalf("%s: %d facts stated: %v", who, stated, err)
	}
	t.Logf("%s: 20 facts behind %d after %s", who, from, time.Since(begun).Round(time.Millisecond))
}

// steadyTickets claims fifty times a second until ctx ends; it returns how often.
func steadyTickets(ctx context.Context, t *testing.T, host service.Host) (n int) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return n
		case <-tick.C:
			if claimTicket(t, host, fmt.Sprintf("M-%d", n)) == 0 { //nolint:contextcheck // a claim under way is made, also when it is enough
				return n
			}
			n++
		}
	}
}

func claimTicket(t *testing.T, host service.Host, key string) uint64 {
	t.Helper()
	e := events.New("shop", key, events.TicketCreated{Ticket: events.Ticket{Summary: key, Creator: "ann", URI: "https://example.org/" + key}})
	e.ID, e.Source = key, "/test"
	return claim(t, host, e)
}

// claimUpkeep claims as today's gateway does for an operator, at the phase that the planner owns.
func claimUpkeep(t *testing.T, host service.Host, key string, content any) uint64 {
	t.Helper()
	e := events.New("_", key, content) // the project of what the installation tells itself
	e.ID, e.Source = key, "/upkeep"
	return claim(t, host, e)
}

func claim(t *testing.T, host service.Host, e events.Event) uint64 {
	e.Time, e.Phase, e.Principal, e.Chain = time.Now(), events.Plan, "local", e.ID
	m, err := events.Encode(e)
	if err != nil {
		t.Error(err)
		return 0
	}
	m.Subject = e.Subject(events.Claim)
	m.Header[nats.MsgIdHdr] = []string{events.ClaimMessageID(e.Principal, e.Source, e.ID)}
	ack, err := host.JS.PublishMsg(context.WithoutCancel(t.Context()), m)
	if err != nil {
		t.Error(err)
		return 0
	}
	return ack.Sequence
}

// readAgain reads all with today's code: each event says the same when it is written again, and each aggregate's facts are in
// the order of their causes. It returns how many facts answer claims of this test.
func readAgain(t *testing.T, host service.Host, to uint64) (facts int) {
	t.Helper()
	causes, claims := map[string]uint64{}, map[uint64]bool{}
	err := service.Tail(t.Context(), host, nil, 1, func(m service.Message) error {
		e, err := m.Event()
		if err != nil {
			return fmt.Errorf("event %d can not be read: %w", m.Sequence, err)
		}
		again, err := events.Encode(e)
		if err != nil {
			return fmt.Errorf("event %d can not be written: %w", m.Sequence, err)
		}
		if read, err := events.Decode(again.Header, again.Data); err != nil || read.ID != e.ID || read.Chain != e.Chain || !same(t, read.Content, e.Content) {
			t.Errorf("event %d changes by being written: %+v became %+v (%v)", m.Sequence, e, read, err)
		}
		switch {
		case e.Kind == events.Claim && e.Source == "/test":
			claims[m.Sequence] = true
		case e.Kind == events.Stated:
			of := fmt.Sprintf("%s %s/%s", e.Phase, e.Aggregate, e.Key)
			if before := causes[of]; e.CauseSequence <= before && e.CauseSequence > 0 {
				t.Errorf("%s: %d is of cause %d, behind one of %d", of, m.Sequence, e.CauseSequence, before)
			}
			causes[of] = e.CauseSequence
			if claims[e.CauseSequence] {
				facts++
			}
		}
		if m.Sequence >= to {
			return service.ErrStop
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return facts
}

// letters checks that the version before put aside the claims that it could not read, as the owner once each, and nothing else;
// its timers' consumer reads the phase's claims as well, and may have put them aside for itself.
func letters(t *testing.T, host service.Host, unknown []uint64) {
	t.Helper()
	st, err := host.JS.Stream(t.Context(), natsd.DeadLetter)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]int{}
	for n := st.CachedInfo().State.FirstSeq; n <= st.CachedInfo().State.LastSeq && n > 0; n++ {
		m, err := st.GetMsg(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("dead letter of %s %s: %s", m.Header.Get(service.HeaderSequence), m.Header.Get(service.HeaderSubject), m.Header.Get(service.HeaderReason))
		switch of := m.Header.Get(service.HeaderAggregate); of {
		case "":
			found[m.Header.Get(service.HeaderSequence)]++
		case "effect/timers":
		default:
			t.Errorf("a dead letter for %s", of)
		}
	}
	for _, sequence := range unknown {
		if found[fmt.Sprint(sequence)] != 1 {
			t.Errorf("claim %d is dead-lettered %d times", sequence, found[fmt.Sprint(sequence)])
		}
	}
	if len(found) != len(unknown) {
		t.Errorf("dead letters of %v, want of %v", found, unknown)
	}
}
