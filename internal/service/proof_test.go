package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
	"pgregory.net/rapid"

	"github.com/lemnis/lemnis/internal/fold"
	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/pkg/events"
)

// The central promise: whatever crashes, every fact that the decisions ask for is on the stream
// exactly once, and nothing else. The oracle knows nothing of the runtime: it walks the final
// stream with the same Decide and compares.

// stated is a fact as the oracle sees it.
type stated struct {
	Aggregate, Key string
	Cause          uint64
	Type           events.Type
	Content        string
}

// outcomes renders facts without their place, to compare runs with each other. Answers to claims
// depend on the order of the claims alone; what follows from facts depends on how the two
// interleave, so of that only the type is compared, and the board's not at all.
func outcomes(facts map[string][]stated, causes map[uint64]string, project string) []string {
	var out []string
	for _, list := range facts {
		for _, f := range list {
			cause := causes[f.Cause]
			switch {
			case f.Aggregate == "board":
				continue
			case !strings.HasPrefix(cause, string(events.Claim)):
				f.Content = ""
			}
			line := fmt.Sprintf("%s/%s %s because of %s: %s", f.Aggregate, f.Key, f.Type.Short(), cause, f.Content)
			out = append(out, strings.ReplaceAll(line, project, ""))
		}
	}
	sort.Strings(out)
	return out
}

// oracle walks the stream of a project: recorded are the facts that stand there, expected those
// that Decide gives over the causes in stream order.
func oracle(t interface{ Fatalf(string, ...any) }, b *bus, def Definition, project string) (recorded, expected map[string][]stated, causes map[uint64]string) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	recorded, expected, causes = map[string][]stated{}, map[string][]stated{}, map[uint64]string{}
	folds, met := map[string]any{}, map[uint64]events.Event{}
	kinds := append(slices.Clone(def.Aggregates), refuseUnrouted())
	takes := map[events.Type]bool{}
	for _, a := range def.Aggregates {
		for _, typ := range a.takes {
			takes[typ] = true
		}
	}
	probe := &worker{}
	walk := func(m Message) error {
		e, err := m.Event()
		if err != nil {
			return err
		}
		if e.Project == project {
			causes[e.Sequence] = string(e.Kind) + " " + e.Type.Short() + " " + e.ID
			if e.Kind == events.Stated {
				causes[e.Sequence] = string(e.Kind) + " " + e.Type.Short() + " " + e.Key
				name := e.Aggregate + "/" + e.Key
				recorded[name] = append(recorded[name], stated{e.Aggregate, e.Key, e.CauseSequence, e.Type, contentJSON(withoutPoison(e.Content))})
			}
			met[e.Sequence] = e
			configured := events.DefaultProject(project)
			routed, only := false, ""
			if r, again := resendOf(&e); again { // the original, at this place, for one aggregate
				first := met[r.Origin]
				first.Sequence, first.Stored = e.Sequence, e.Stored
				e, only = first, r.Aggregate
			}
			for i := range kinds {
				a := &kinds[i]
				var keys []string
				switch {
				case a.kind == unrouted:
					if !routed && e.Kind == events.Claim {
						keys = []string{slotOf(e)}
					}
				case e.Kind == events.Stated && !takes[e.Type]:
				default:
					keys = a.route(configured, e)
				}
				for _, key := range keys {
					if only != "" && a.kind+"/"+key != only {
						continue
					}
					routed = true
					name := a.kind + "/" + key
					fact, ok, err := probe.decide(folds[name], task{cause: &cause{event: &e, project: &configured}, kind: a, key: key})
					next := folds[name]
					if err == nil && ok {
						err = protect(func() error { next = a.evolve(next, factOf(fact, project, key)); return nil })
					}
					if err != nil { // poison: a claim is refused, and all else goes to the dead letter
						if ok = e.Kind == events.Claim; ok {
							fact, _ = events.Refuse(e, "")
						}
					}
					if !ok {
						continue
					}
					folds[name] = next
					expected[name] = append(expected[name], stated{a.kind, key, e.Sequence, events.TypeOf(fact.Content), contentJSON(withoutPoison(fact.Content))})
				}
			}
		}
		if m.Pending == 0 {
			return errStop
		}
		return nil
	}
	read := func() error { return tail(ctx, b.js, zap.NewNop(), []string{"*." + project + ".*.*.*.*"}, 1, walk) }
	if b.archive != nil { // the stream does not have all of it any more
		read = func() error { return b.archive.read(ctx, b.js, project, walk) }
	}
	if err := read(); err != nil {
		t.Fatalf("oracle: %v", err)
	}
	return recorded, expected, causes
}

func factOf(f events.Fact, project, key string) events.Event {
	return events.Event{Type: events.TypeOf(f.Content), Content: f.Content, Key: key, Project: project}
}

// withoutPoison leaves out why a claim can not be handled: that is the runtime's to say.
func withoutPoison(c any) any {
	if r, ok := c.(events.ClaimRefused); ok && strings.HasPrefix(r.Reason, "it can not be handled, and is kept as a dead letter: ") {
		r.Reason = ""
		return r
	}
	return c
}

func contentJSON(c any) string {
	b, err := json.Marshal(c)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// difference says in which aggregates what stands on the stream is not what was to be stated.
func difference(recorded, expected map[string][]stated) string {
	var out []string
	for name, want := range expected {
		if got := recorded[name]; !slices.Equal(got, want) {
			out = append(out, fmt.Sprintf("%s:\n  recorded %v\n  expected %v", name, got, want))
		}
	}
	for name, got := range recorded {
		if len(expected[name]) == 0 {
			out = append(out, fmt.Sprintf("%s:\n  recorded %v\n  expected nothing", name, got))
		}
	}
	sort.Strings(out)
	return strings.Join(out, "\n")
}

// bus is one embedded server with its streams and a store of folds.
type bus struct {
	server *natsd.Server
	js     jetstream.JetStream
	folds  *fold.Store
	host   Host

	archive *archive // of a stream whose beginning goes
}

func newBus(t *testing.T) *bus {
	t.Helper()
	server, err := natsd.Start(natsd.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	nc, err := server.Connect()
	if err != nil {
		t.Fatal(err)
	}
	folds, err := fold.Embedded("")
	if err != nil {
		t.Fatal(err)
	}
	host, err := NewHost(context.Background(), nc, folds, 1, testLog())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close(); _ = folds.Close(); server.Stop() })
	return &bus{server: server, js: host.JS, folds: folds, host: host}
}

func testLog() *zap.Logger {
	if os.Getenv("LEMNIS_TEST_LOG") == "" {
		return zap.NewNop()
	}
	l, _ := zap.NewDevelopment()
	return l
}

// claim puts a claim on the stream as the gateway would.
func (b *bus) claim(project, id string, content any, key string) error {
	_, err := b.put(project, id, content, key)
	return err
}

// put is claim, and says where it stands.
func (b *bus) put(project, id string, content any, key string) (uint64, error) {
	e := events.Event{
		ID: id, Source: "/test", Type: events.TypeOf(content), Time: time.Now(), Project: project, Phase: events.Plan, Key: key,
		SubjectID: key, Principal: "local", Chain: id, Content: content,
	}
	msg, err := events.Encode(e)
	if err != nil {
		return 0, err
	}
	msg.Subject = e.Subject(events.Claim)
	ack, err := b.js.PublishMsg(context.Background(), msg)
	if err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}

// resend sends a message of the stream again to one aggregate, as the gateway does with dead letters.
func (b *bus) resend(project, id string, origin uint64, aggregate string) error {
	return b.claim(project, id, events.DeadLetterResent{Letter: 1, Where: string(events.Plan), Origin: origin, Aggregate: aggregate}, id)
}

// claimOf makes one claim of a history out of a number.
func claimOf(n int) (content any, key string) {
	key = "item-" + strconv.Itoa(n/4%5)
	ticket := events.Ticket{Summary: "s" + strconv.Itoa(n), Creator: "c", URI: "/u"}
	switch n {
	case 41, 45:
		ticket.Summary = undecidable
	case 49, 53:
		ticket.Summary = unfoldable
	}
	switch n % 4 {
	case 0:
		return events.TicketCreated{Ticket: ticket}, key
	case 3:
		if n/20%3 == 0 {
			return events.TicketClosed{Ticket: ticket}, key
		}
		fallthrough
	default:
		return events.TicketUpdated{Ticket: ticket}, key
	}
}

// harness runs two processes of a service and does to them what production does.
type harness struct {
	bus     *bus
	timing  Timing
	faults  func(process int) *faults
	stop    context.CancelFunc
	done    sync.WaitGroup
	crashes atomic.Int64
	err     atomic.Pointer[error]
}

func (h *harness) start(processes int) {
	ctx, cancel := context.WithCancel(context.Background())
	h.stop = cancel
	for i := range processes {
		h.done.Go(func() {
			for ctx.Err() == nil {
				host := h.bus.host
				host.Timing = h.timing
				host.faults = h.faults(i)
				err := New(host, proofDefinition()).Run(ctx)
				var crash *crashError
				if errors.As(err, &crash) {
					h.crashes.Add(1)
					continue // it is started again, and knows nothing
				}
				if err != nil && ctx.Err() == nil {
					h.err.Store(&err)
					return
				}
			}
		})
	}
}

// quick are timings that let take-overs happen within a history; with unhurried ones it comes to its
// end also on a busy machine, on which a quick lease is lost before its owner can decide.
var quick = Timing{Lease: 80 * time.Millisecond, Save: 5 * time.Millisecond, Snapshot: 10 * time.Millisecond, Workers: 4}

var unhurried = Timing{Lease: 2 * time.Second, Save: 5 * time.Millisecond, Snapshot: 10 * time.Millisecond, Workers: 4}

// trouble is what befalls one history.
type trouble struct {
	Claims    []int
	Crashes   []int // per mille at each step
	Pause     int   // per mille at each step: past the lease, then awake as a zombie
	Again     int   // per mille of messages met twice, late
	Wipes     int   // of the store
	Swaps     int   // of the store with another, which stands where it was left
	Duplicate int   // percent of claims that are sent twice, as new messages
	Rebuilds  int   // that are asked for in the midst of the claims
	Resends   int   // of claims, each once, in the midst of the others
	Purges    int   // of the stream up to a snapshot, each with a wipe of the store
	Workers   int   // with few of them partitions share one
	Seed      uint64
}

func drawTrouble(rt *rapid.T) trouble {
	return trouble{
		Claims:    rapid.SliceOfN(rapid.IntRange(0, 59), 8, 24).Draw(rt, "claims"),
		Crashes:   rapid.SliceOfN(rapid.SampledFrom([]int{0, 0, 20, 60, 150}), int(steps), int(steps)).Draw(rt, "crashes"),
		Pause:     rapid.SampledFrom([]int{0, 0, 10, 40}).Draw(rt, "pause"),
		Again:     rapid.SampledFrom([]int{0, 100, 500, 1000}).Draw(rt, "again"),
		Wipes:     rapid.IntRange(0, 2).Draw(rt, "wipes"),
		Swaps:     rapid.SampledFrom([]int{0, 0, 2, 5}).Draw(rt, "swaps"),
		Duplicate: rapid.SampledFrom([]int{0, 0, 100}).Draw(rt, "duplicate"),
		Rebuilds:  rapid.SampledFrom([]int{0, 0, 1, 3}).Draw(rt, "rebuilds"),
		Resends:   rapid.SampledFrom([]int{0, 0, 1, 4}).Draw(rt, "resends"),
		Workers:   rapid.SampledFrom([]int{1, 4, events.Partitions}).Draw(rt, "workers"),
		Seed:      rapid.Uint64().Draw(rt, "seed"),
	}
}

// undisturbed is a history of the same claims in which nothing happens to anyone.
func (tr trouble) undisturbed() trouble {
	return trouble{Claims: tr.Claims, Duplicate: tr.Duplicate, Resends: tr.Resends, Workers: tr.Workers, Crashes: make([]int, steps), Seed: tr.Seed}
}

// disturbs reports whether anything happens to the processes.
func (tr trouble) disturbs() bool {
	return tr.Pause > 0 || slices.ContainsFunc(tr.Crashes, func(n int) bool { return n > 0 })
}

var histories atomic.Int64

// live plays one history in a project of its own and returns what the oracle says of it; complete
// is false when facts were still missing after the patience.
func live(t *testing.T, b *bus, tr trouble, leaveOut breakage, patience time.Duration) (diff string, outcome []string, crashes int64) {
	t.Helper()
	project := fmt.Sprintf("h%d", histories.Add(1))
	var calm atomic.Bool
	var meanwhile sync.Mutex
	rng := rand.New(rand.NewPCG(tr.Seed, 1))
	chance := func(permille int) bool {
		meanwhile.Lock()
		defer meanwhile.Unlock()
		return rng.IntN(1000) < permille
	}
	h := &harness{bus: b, timing: quick}
	if !tr.disturbs() {
		h.timing = unhurried
	}
	h.timing.Workers = tr.Workers
	h.faults = func(int) *faults {
		var seen []Message
		return &faults{
			leaveOut: leaveOut, read: sharedDurable(leaveOut),
			crash: func(s step, e *events.Event) bool {
				return !calm.Load() && (e == nil || e.Project == project) && chance(tr.Crashes[s])
			},
			pause: func(step) {
				if !calm.Load() && chance(tr.Pause) {
					wait(context.Background(), quick.Lease*2)
				}
			},
			again: func(m Message) []Message {
				if calm.Load() || token(m.Subject(), 1) != project {
					return nil
				}
				if n := len(seen); n > 0 && m.Sequence <= seen[n-1].Sequence {
					seen = nil // a new term reads: what the one before was ahead with is not met yet
				}
				seen = append(seen, m)
				if !chance(tr.Again) {
					return nil
				}
				return []Message{seen[len(seen)/2], seen[0], m}
			},
		}
	}
	h.start(2)
	var sent []uint64
	var other keep // what the store holds that is not in use
	for i, n := range tr.Claims {
		content, key := claimOf(n)
		copies := 1
		if chance(tr.Duplicate * 10) {
			copies = 2
		}
		for range copies {
			at, err := b.put(project, fmt.Sprintf("%s-%d", project, i), content, key)
			if err != nil {
				t.Fatal(err)
			}
			sent = append(sent, at)
		}
		if i >= len(tr.Claims)/2 && i < len(tr.Claims)/2+tr.Resends {
			again := i - len(tr.Claims)/2
			_, key := claimOf(tr.Claims[again])
			if err := b.resend(project, fmt.Sprintf("%s-again-%d", project, again), sent[again*copies], "item/"+key); err != nil {
				t.Fatal(err)
			}
		}
		if i >= 2 && i < 2+tr.Rebuilds {
			if err := b.claim(internalProject, fmt.Sprintf("%s-rebuild-%d", project, i), events.RebuildRequested{Service: "plan"}, "plan"); err != nil {
				t.Fatal(err)
			}
		}
		if i >= 3 && i < 3+tr.Purges {
			b.purge(t)
		}
		if i >= 3 && i < 3+tr.Swaps {
			other = b.swap(t, other)
		}
		if i < tr.Wipes {
			if err := b.folds.Client().FlushAll(context.Background()).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	// Trouble goes on for as long as facts are missing, then once more in calm.
	settle := func(patience time.Duration) (string, map[string][]stated, map[uint64]string) {
		for deadline := time.Now().Add(patience); ; wait(context.Background(), 15*time.Millisecond) {
			recorded, expected, causes := oracle(t, b, proofDefinition(), project)
			missing := difference(recorded, expected)
			if missing == "" || time.Now().After(deadline) {
				return missing, recorded, causes
			}
		}
	}
	settle(min(patience, 600*time.Millisecond))
	calm.Store(true)
	if tr.disturbs() {
		h.stop()
		h.done.Wait()
		h.timing = unhurried
		h.timing.Workers = tr.Workers
		h.start(2)
	}
	settle(patience)
	h.stop()
	h.done.Wait()
	if err := h.err.Load(); err != nil {
		t.Fatalf("a process ended: %v", *err)
	}
	diff, recorded, causes := settle(0)
	return diff, outcomes(recorded, causes, project), h.crashes.Load()
}

// sharedDurable is how one would do it at first: every process takes from one durable consumer and
// acknowledges what it has handed to its workers.
func sharedDurable(leaveOut breakage) func(context.Context, *term, []string, func(Message) error) error {
	if leaveOut != breakOrder {
		return nil
	}
	return func(ctx context.Context, t *term, filters []string, each func(Message) error) error {
		c, err := t.host.JS.CreateOrUpdateConsumer(ctx, natsd.Lifecycle, jetstream.ConsumerConfig{
			Durable: "shared", FilterSubjects: filters, AckPolicy: jetstream.AckExplicitPolicy, AckWait: 50 * time.Millisecond, MaxDeliver: -1,
		})
		if err != nil {
			return err
		}
		for ctx.Err() == nil {
			m, err := c.Next(jetstream.FetchMaxWait(100 * time.Millisecond))
			if err != nil {
				continue
			}
			meta, err := m.Metadata()
			if err != nil {
				return err
			}
			s := Message{Msg: m, Kind: events.Kind(token(m.Subject(), 0)), Sequence: meta.Sequence.Stream, Stored: meta.Timestamp, Pending: meta.NumPending}
			if err := each(s); err != nil {
				return err
			}
			if err := m.Ack(); err != nil {
				return err
			}
		}
		return ctx.Err()
	}
}

// lanes is how many buses play histories at once: they mostly wait for leases.
const lanes = 4

// TestFactsExactlyOnce is the proof. LEMNIS_HISTORIES says how many histories; rapid prints the
// seed of one that fails, -rapid.seed plays it again.
func TestFactsExactlyOnce(t *testing.T) {
	var played, crashed atomic.Int64
	t.Run("histories", func(t *testing.T) {
		for lane := range lanes {
			t.Run(strconv.Itoa(lane), func(t *testing.T) {
				t.Parallel()
				b := newBus(t)
				rapid.Check(t, func(rt *rapid.T) {
					tr := drawTrouble(rt)
					diff, got, crashes := live(t, b, tr, breakNothing, 60*time.Second)
					played.Add(1)
					crashed.Add(crashes)
					if diff != "" {
						rt.Fatalf("%+v\n%s", tr, diff)
					}
					diff, want, _ := live(t, b, tr.undisturbed(), breakNothing, 60*time.Second)
					if diff != "" {
						rt.Fatalf("undisturbed %+v\n%s", tr, diff)
					}
					if !slices.Equal(got, want) {
						rt.Fatalf("%+v\ndisturbed   %s\nundisturbed %s", tr, strings.Join(got, "\n"), strings.Join(want, "\n"))
					}
				})
			})
		}
	})
	t.Logf("%d histories, %d crashes", played.Load(), crashed.Load())
}

// TestOracleCatches shows that the proof can fail: each rule of the runtime, left out, is noticed.
func TestOracleCatches(t *testing.T) {
	for name, b := range map[string]breakage{"no fence": breakFence, "no watermark": breakWatermark, "a shared durable": breakOrder, "no snapshot": breakSnapshot} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bus := newBus(t)
			if b == breakSnapshot {
				bus.keepAll(t)
			}
			for seed := range uint64(200) {
				rng := rand.New(rand.NewPCG(seed, 2))
				tr := trouble{Workers: 4, Pause: 60, Again: 500, Crashes: []int{20, 20, 60, 20, 0}, Seed: seed}
				if b == breakSnapshot {
					tr.Purges = 3
				}
				for range 24 {
					tr.Claims = append(tr.Claims, rng.IntN(60))
				}
				if diff, _, _ := live(t, bus, tr, b, time.Second); diff != "" {
					t.Logf("noticed in history %d:\n%s", seed+1, diff)
					return
				}
			}
			t.Fatal("200 histories without this rule, and nothing was noticed")
		})
	}
}
