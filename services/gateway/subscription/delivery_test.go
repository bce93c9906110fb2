package subscription

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
)

// The receiver of the official CloudEvents SDK takes facts as they come, in both modes, after its own handshake.
func TestOfficialReceiver(t *testing.T) {
	w := newWorld(t)
	for _, mode := range []string{binary, structured} {
		t.Run(mode, func(t *testing.T) {
			w.t = t
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			client, err := ce.NewClientHTTP(cehttp.WithListener(listener), cehttp.WithPath("/hook"),
				cehttp.WithDefaultOptionsHandlerFunc([]string{http.MethodPost}, 60_000, []string{"lemnis"}, false))
			if err != nil {
				t.Fatal(err)
			}
			received := make(chan ce.Event, 10)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() {
				defer close(done)
				_ = client.StartReceiver(ctx, func(e ce.Event) { received <- e })
			}()
			defer func() { cancel(); <-done }()

			stop := w.run(w.newManager())
			defer stop()
			s := wanted("http://" + listener.Addr().String() + "/hook")
			s.Settings.ContentMode, s.Config.Start = mode, "new"
			v := w.create(s)
			key := "42"
			if mode == structured { // the SDK does not decode what HTTP headers have to be encoded as
				key = "a b%ü"
			}
			sequence := w.state("shop", key, "one")
			e := <-received
			if e.Validate() != nil || !strings.HasPrefix(e.Type(), "dev.cdevents.ticket.created.") ||
				e.ID() != "shop-"+key+"-one" || e.Extensions()["key"] != key || e.Extensions()["project"] != "shop" ||
				fmt.Sprint(e.Extensions()["sequence"]) != fmt.Sprint(sequence) || e.DataContentType() != "application/json" {
				t.Errorf("%s", e)
			}
			stream, err := w.host.JS.Stream(t.Context(), natsd.Lifecycle)
			if err != nil {
				t.Fatal(err)
			}
			m, err := stream.GetMsg(t.Context(), sequence)
			if err != nil || !bytes.Equal(e.Data(), m.Data) {
				t.Errorf("the body was changed: %s\n%s", e.Data(), m.Data)
			}
			w.until("it shows as delivered", func() bool { return w.status(v.ID).Sequence == sequence })
		})
	}
}

func TestHandshake(t *testing.T) {
	w := newWorld(t)
	w.run(w.manager)
	var allow atomic.Bool
	var posts, asked atomic.Int32
	sink := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			posts.Add(1)
			return
		}
		asked.Add(1)
		if r.Header.Get("WebHook-Request-Origin") != "lemnis" || r.Header.Get("WebHook-Request-Rate") != "120" || r.Header.Get("Authorization") != "Bearer x" {
			t.Errorf("asked with %v", r.Header)
		}
		if allow.Load() {
			rw.Header().Set("WebHook-Allowed-Origin", "*")
			rw.Header().Set("WebHook-Allowed-Rate", "90")
		}
	}))
	defer sink.Close()
	s := wanted(sink.URL)
	s.Config.Rate, s.Settings.Headers = 120, map[string]string{"Authorization": "Bearer x"}
	v := w.create(s)
	w.state("shop", "1", "one")
	w.until("the refusal shows", func() bool { return w.status(v.ID).State == Refused })
	if reason := w.status(v.ID).Reason; !strings.Contains(reason, "WebHook-Allowed-Origin") {
		t.Errorf("the reason is %q", reason)
	}
	before := asked.Load()
	w.until("it asks again", func() bool { return asked.Load() > before+1 })
	if posts.Load() > 0 {
		t.Error("it was sent to without leave")
	}
	allow.Store(true)
	w.until("it delivers", func() bool { return posts.Load() == 1 && w.status(v.ID).State == Active })
	if rate := w.status(v.ID).Rate; rate != 90 {
		t.Errorf("the allowed rate is %d", rate)
	}

	// Another sink is asked anew; with the same one it goes on.
	before = asked.Load()
	other := newReceiver(t, nil)
	s.Sink = other.URL
	s.Settings.Headers = map[string]string{"Authorization": "Bearer y"}
	if _, err := w.manager.Replace(t.Context(), "ann", v.ID, s); err != nil {
		t.Fatal(err)
	}
	w.state("shop", "2", "two")
	w.until("the new sink is sent to", func() bool { return len(other.taken()) == 1 })
	other.mu.Lock()
	defer other.mu.Unlock()
	if len(other.options) != 1 || other.options[0].Get("Authorization") != "Bearer y" || asked.Load() != before {
		t.Errorf("asked %v, the old one %d times more", other.options, asked.Load()-before)
	}
}

func TestSinkMayNotBeOpen(t *testing.T) {
	w := newWorld(t)
	w.manager = w.newManager(func(o *Options) { o.Allow = nil })
	w.run(w.manager)
	sink := newReceiver(t, nil)
	if _, err := w.manager.Create(t.Context(), "ann", wanted(sink.URL)); err == nil || !strings.HasPrefix(err.Error(), "sink: ") {
		t.Errorf("an address of this machine was taken: %v", err)
	}
	v := w.create(wanted(strings.Replace(sink.URL, "127.0.0.1", "localhost", 1)))
	w.until("it is refused when it is dialled", func() bool { return strings.Contains(w.status(v.ID).Reason, "no public address") })
}

func TestSignature(t *testing.T) {
	w := newWorld(t)
	secrets := t.TempDir()
	if err := os.Mkdir(filepath.Join(secrets, "shop"), 0o700); err != nil {
		t.Fatal(err)
	}
	const own = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
	if err := os.WriteFile(filepath.Join(secrets, "shop", "hook"), []byte(own+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.manager = w.newManager(func(o *Options) { o.SecretsDir = secrets })
	w.run(w.manager)
	generated, kept := newReceiver(t, nil), newReceiver(t, nil)
	v := w.create(wanted(generated.URL))
	s := wanted(kept.URL)
	s.Config.Secret = "secret:hook"
	if w.create(s).Secret != "" {
		t.Error("the operator's secret is shown")
	}
	w.state("shop", "1", "one")
	for r, secret := range map[*receiver]string{generated: v.Secret, kept: own} {
		w.until("delivered", func() bool { return len(r.taken()) == 1 })
		g := r.taken()[0]
		key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
		if err != nil {
			t.Fatal(err)
		}
		var at int64
		_, _ = fmt.Sscan(g.header.Get(HeaderTimestamp), &at)
		if want := newSigner(key).lines(g.id, time.Unix(at, 0), g.body); !bytes.Contains(want, []byte("\r\n"+HeaderSignature+": "+g.header.Get(HeaderSignature)+"\r\n")) || time.Since(time.Unix(at, 0)) > time.Minute {
			t.Errorf("signed %s at %d, want %s", g.header.Get(HeaderSignature), at, want)
		}
		if g.id != g.header.Get("Ce-Id") {
			t.Errorf("the id is %q", g.id)
		}
	}
	shown, err := w.manager.Get(t.Context(), v.ID)
	if err != nil || shown.Secret != "" {
		t.Errorf("the secret is shown again: %v", err)
	}
	s.Config.Secret = "secret:nothing"
	if _, err := w.manager.Create(t.Context(), "ann", s); err == nil || !strings.HasPrefix(err.Error(), "config.secret: ") {
		t.Errorf("a secret that is not there: %v", err)
	}
}

// The signature is that of the Standard Webhooks specification's own example.
func TestSignatureByExample(t *testing.T) {
	key, err := keyOf("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	got := newSigner(key).lines("msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`))
	want := "Webhook-Id: msg_p5jXN8AQM9LWM0D4loKWxJek\r\nWebhook-Timestamp: 1614265330\r\nWebhook-Signature: v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=\r\n"
	if string(got) != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestRetryThenDeadLetter(t *testing.T) {
	w := newWorld(t)
	w.run(w.manager)
	sink := newReceiver(t, func(g got, try int) int {
		switch {
		case g.key == "flaky" && try < 4:
			return 503
		case g.key == "dead":
			return 500
		case g.key == "bad":
			return 422
		}
		return 204
	})
	s := wanted(sink.URL)
	s.Config.Tries = 6
	v := w.create(s)
	for _, key := range []string{"flaky", "dead", "bad", "good"} {
		w.state("shop", key, "one")
	}
	last := w.state("shop", "dead", "two")
	w.until("all settled", func() bool { s := w.status(v.ID); return s.Delivered == 2 && s.DeadLettered == 3 && s.Lag == 0 })
	if n := sink.tried("shop-flaky-one"); n != 4 {
		t.Errorf("flaky was tried %d times", n)
	}
	if n := sink.tried("shop-dead-one"); n != 6 {
		t.Errorf("dead was tried %d times", n)
	}
	if n := sink.tried("shop-bad-one"); n != 1 {
		t.Errorf("what the sink will never take was tried %d times", n)
	}
	if st := w.status(v.ID); st.LastError == "" || st.Settled < last {
		t.Errorf("%+v", st)
	}
	letters := map[string]jetstream.RawStreamMsg{}
	stream, err := w.host.JS.Stream(t.Context(), natsd.DeadLetter)
	if err != nil {
		t.Fatal(err)
	}
	for n := uint64(1); n <= 3; n++ {
		m, err := stream.GetMsg(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		letters[m.Header.Get("ce-id")] = *m
	}
	for id, tries := range map[string]string{"shop-dead-one": "6", "shop-dead-two": "6", "shop-bad-one": "1"} {
		m := letters[id]
		if m.Subject != "deadletter.shop.subscriptions" || m.Header.Get(service.HeaderAggregate) != "subscription/"+v.ID ||
			m.Header.Get(service.HeaderTries) != tries || !strings.Contains(m.Header.Get(service.HeaderReason), "the sink answered") {
			t.Errorf("%s: %s %v", id, m.Subject, m.Header)
		}
	}
}

func TestBackoff(t *testing.T) {
	for tries, want := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 5: 16 * time.Second, 7: time.Minute, 1000: time.Minute} {
		if got := widest(time.Second, time.Minute, tries); got != want {
			t.Errorf("after %d tries up to %s, want %s", tries, got, want)
		}
	}
	seen := map[time.Duration]bool{}
	for range 1000 {
		d := backoff(time.Second, time.Minute, 3)
		if d < 0 || d > 4*time.Second {
			t.Fatalf("waits %s", d)
		}
		seen[d/(500*time.Millisecond)] = true
	}
	if len(seen) < 8 {
		t.Errorf("no full jitter: %d of 8 parts are met", len(seen))
	}
	now := time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{"": 0, "7": 7 * time.Second, "Mon, 04 May 2026 10:00:09 GMT": 9 * time.Second, "Mon, 04 May 2026 09:00:00 GMT": 0, "999999": time.Hour, "x": 0} {
		if got := retryAfter(http.Header{"Retry-After": {text}}, now); got != want {
			t.Errorf("Retry-After %q: %s, want %s", text, got, want)
		}
	}
}

func TestRetryAfterIsRespected(t *testing.T) {
	w := newWorld(t)
	w.run(w.manager)
	var first atomic.Int64
	sink := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("WebHook-Allowed-Origin", "*")
		if r.Method == http.MethodPost && first.CompareAndSwap(0, time.Now().UnixNano()) {
			rw.Header().Set("Retry-After", "1")
			rw.WriteHeader(http.StatusTooManyRequests)
		} else if wait := time.Since(time.Unix(0, first.Load())); r.Method == http.MethodPost && wait < time.Second {
			t.Errorf("it came again after %s", wait)
		}
	}))
	defer sink.Close()
	v := w.create(wanted(sink.URL))
	w.state("shop", "1", "one")
	w.until("it is tried", func() bool { return first.Load() > 0 })
	w.state("shop", "2", "one") // also what is not concerned leaves the sink alone
	w.until("all are there", func() bool { return w.status(v.ID).Delivered == 2 })
}

func TestGoneDisables(t *testing.T) {
	w := newWorld(t)
	w.run(w.manager)
	var back atomic.Bool
	sink := newReceiver(t, func(got, int) int {
		if back.Load() {
			return 204
		}
		return 410
	})
	v := w.create(wanted(sink.URL))
	w.state("shop", "1", "one")
	w.until("disabled", func() bool { return w.status(v.ID).State == Disabled })
	w.state("shop", "2", "one")
	back.Store(true)
	if _, err := w.manager.Replace(t.Context(), "ann", v.ID, wanted(sink.URL)); err != nil {
		t.Fatal(err)
	}
	w.until("it goes on where it stood", func() bool { return len(sink.taken()) == 2 })
}

// Facts of one aggregate arrive in order, whatever fails in between, and one that hangs does not keep the others.
func TestOrderPerAggregate(t *testing.T) {
	w := newWorld(t)
	w.run(w.manager)
	release := make(chan struct{})
	sink := newReceiver(t, func(g got, try int) int {
		if g.id == "shop-slow-0" && try == 1 {
			select {
			case <-release:
			case <-time.After(patience):
			}
		}
		if (len(g.id)+int(g.id[len(g.id)-1])+try)%3 == 0 {
			return 503
		}
		return 204
	})
	w.manager.options.Patience.Timeout = patience
	v := w.create(wanted(sink.URL))
	const each = 20
	for n := range each {
		for _, key := range []string{"slow", "a", "b", "c", "d", "e"} {
			w.state("shop", key, fmt.Sprint(n))
		}
	}
	w.until("the others go on", func() bool { return len(sink.taken()) == 5*each })
	close(release)
	w.until("all are there", func() bool { return w.status(v.ID).Delivered == 6*each })
	order := map[string][]string{}
	for _, g := range sink.taken() {
		order[g.key] = append(order[g.key], g.id)
	}
	for key, ids := range order {
		want := make([]string, each)
		for n := range want {
			want[n] = fmt.Sprintf("shop-%s-%d", key, n)
		}
		if !slices.Equal(ids, want) {
			t.Errorf("%s came as %v", key, ids)
		}
	}
}

// Receivers that stop answering, more of them than there are turns, cost nobody else anything: also when they answered at once before,
// and so are sent to within turns.
func TestSlowReceiverIsAlone(t *testing.T) {
	w := newWorld(t)
	w.manager.options.Patience.Timeout = 3 * patience
	w.run(w.manager)
	const slows, warm = turnsAtATime + 1, 5
	hang := make(chan struct{})
	var answered, hung atomic.Int32
	slow := newReceiver(t, func(g got, _ int) int {
		if g.key == "warm" {
			answered.Add(1)
			return 204
		}
		hung.Add(1)
		<-hang
		return 204
	})
	t.Cleanup(func() { close(hang) })
	fast := newReceiver(t, nil)
	all := []View{w.create(wanted(fast.URL))}
	for range slows {
		all = append(all, w.create(wanted(slow.URL)))
	}
	v := all[slows]
	for n := range warm {
		w.state("shop", "warm", fmt.Sprint(n))
		w.until("all have answered", func() bool { return int(answered.Load()) == (n+1)*slows && len(fast.taken()) == n+1 && w.settled(all) })
	}
	w.state("shop", "k", "first")
	w.until("they hang", func() bool { return hung.Load() >= turnsAtATime })
	const many = 2 * window
	for n := range many {
		w.state("shop", fmt.Sprintf("k%d", n), "one")
	}
	w.until("the fast one has all", func() bool { return len(fast.taken()) == warm+1+many })
	st := w.status(v.ID)
	if st.Waiting > window+1 || st.Waiting == 0 || st.Lag == 0 {
		t.Errorf("the slow one holds %d facts, lag %d", st.Waiting, st.Lag)
	}
}

// Progress is kept: another gateway goes on with what is not settled, and with nothing else.
func TestRestart(t *testing.T) {
	w := newWorld(t)
	stop := w.run(w.manager)
	var fail atomic.Bool
	fail.Store(true)
	sink := newReceiver(t, func(g got, _ int) int {
		if g.key == "stuck" && fail.Load() {
			return 503
		}
		return 204
	})
	v := w.create(wanted(sink.URL))
	w.state("shop", "stuck", "0")
	w.state("shop", "stuck", "1")
	for n := range 50 {
		w.state("shop", fmt.Sprintf("k%d", n), "one")
	}
	w.until("the others are there", func() bool { return w.status(v.ID).Delivered == 50 })
	stop()
	kept, err := w.manager.store(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	st, _, err := kept.state(t.Context(), v.ID)
	if err != nil || len(st.Open) != 2 || st.Open[0].Tries == 0 {
		t.Fatalf("kept: %+v, %v", st, err)
	}
	fail.Store(false)
	for n := range 300 { // while nobody delivers
		w.state("shop", fmt.Sprintf("m%d", n), "one")
	}
	second := w.newManager()
	w.run(second)
	w.until("all are there", func() bool { return len(sink.taken()) >= 352 })
	w.manager = second
	w.until("it is settled", func() bool { return w.status(v.ID).Lag == 0 })
	var stuck []string
	ids := map[string]int{}
	for _, g := range sink.taken() {
		ids[g.id]++
		if g.key == "stuck" {
			stuck = append(stuck, g.id)
		}
	}
	if len(ids) != 352 || len(sink.taken()) != 352 || !slices.Equal(stuck, []string{"shop-stuck-0", "shop-stuck-1"}) {
		t.Errorf("%d deliveries of %d facts, %v", len(sink.taken()), len(ids), stuck)
	}
}

// Of several gateways one delivers; when it ends, another takes over.
func TestOneGatewayDelivers(t *testing.T) {
	w := newWorld(t)
	sink := newReceiver(t, nil)
	first, second := w.manager, w.newManager()
	stop := w.run(first)
	v := w.create(wanted(sink.URL))
	w.state("shop", "1", "one")
	w.until("delivered", func() bool { return w.status(v.ID).Delivered == 1 })
	w.run(second)
	for n := range 20 {
		w.state("shop", "1", fmt.Sprint(n))
	}
	w.until("delivered once", func() bool { return len(sink.taken()) == 21 })
	second.mu.Lock()
	working := len(second.working)
	second.mu.Unlock()
	if working != 0 {
		t.Error("both deliver")
	}
	stop()
	w.state("shop", "1", "last")
	w.until("the other goes on", func() bool { return len(sink.taken()) == 22 })
	// The one that does not deliver shows what the other has written.
	w.until("shown", func() bool { return w.status(v.ID).Delivered == 22 })
}

// A worker that was paused while another took over finds out when it writes.
func TestFencedWorker(t *testing.T) {
	w := newWorld(t)
	kept, err := w.manager.store(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f, err := newFeed(t.Context(), w.host, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	v := w.create(wanted(newReceiver(t, nil).URL))
	r, _, err := kept.record(t.Context(), v.ID)
	if err != nil {
		t.Fatal(err)
	}
	paused := &worker{manager: w.manager, host: w.host, store: kept, feed: f, record: &r}
	other := &worker{manager: w.manager, host: w.host, store: kept, feed: f, record: &r}
	if err := errors.Join(paused.begin(t.Context()), other.begin(t.Context()), other.save(t.Context())); err != nil {
		t.Fatal(err)
	}
	if err := paused.save(t.Context()); !errors.Is(err, ErrConflict) {
		t.Errorf("both wrote: %v", err)
	}
}

// What the feed does not have any more is read from the stream, filtered and in order.
func TestBehindTheFeed(t *testing.T) {
	w := newWorld(t)
	const many = 3*behindBatch + 7
	for n := range many {
		w.state("shop", fmt.Sprintf("k%d", n%5), fmt.Sprint(n))
		w.state("other", "x", fmt.Sprint(n))
	}
	w.run(w.manager)
	sink := newReceiver(t, nil)
	s := wanted(sink.URL)
	s.Filters = []json.RawMessage{json.RawMessage(`{"not":{"exact":{"key":"k4"}}}`)}
	s.Types = []string{"ticket.created"}
	w.create(s)
	late := wanted(newReceiver(t, nil).URL)
	late.Config.Start = Start(fmt.Sprint(2*many - 9)) // the last ten messages, five of this project
	lateID := w.create(late).ID
	wantedCount := 0
	for n := range many {
		if n%5 != 4 {
			wantedCount++
		}
	}
	w.until("all are there", func() bool { return len(sink.taken()) == wantedCount })
	last := w.state("shop", "k1", "live")
	w.until("and what comes", func() bool { return len(sink.taken()) == wantedCount+1 })
	w.until("the late one as well", func() bool { st := w.status(lateID); return st.Delivered == 6 && st.Sequence == last })
}

func TestManage(t *testing.T) {
	w := newWorld(t)
	sink := newReceiver(t, nil)
	s := wanted(sink.URL)
	s.Settings.Headers = map[string]string{"X-Token": "geheim"}
	v := w.create(s)
	if v.Status.State != Pending || v.Secret == "" || v.Settings.Headers["X-Token"] != hidden || v.ID == "" {
		t.Errorf("%+v", v)
	}
	text, _ := json.Marshal(v.Subscription)
	if strings.Contains(string(text), "geheim") {
		t.Errorf("a header is shown: %s", text)
	}
	o := s
	o.Config.Project = "other"
	if _, err := w.manager.Create(t.Context(), "ben", o); err != nil {
		t.Fatal(err)
	}
	list, err := w.manager.List(t.Context(), func(project string) bool { return project == "shop" })
	if err != nil || len(list) != 1 || list[0].ID != v.ID {
		t.Errorf("%v, %v", list, err)
	}
	for name, change := range map[string]func(*Subscription){
		"protocol":       func(s *Subscription) { s.Protocol, s.Sink, s.Settings = NATS, "", Settings{Consumer: "x"} },
		"config.project": func(s *Subscription) { s.Config.Project = "other" },
		"config.start":   func(s *Subscription) { s.Config.Start = "new" },
		"id":             func(s *Subscription) { s.ID = "x" },
	} {
		changed := s
		change(&changed)
		var field *FieldError
		if _, err := w.manager.Replace(t.Context(), "ann", v.ID, changed); !errors.As(err, &field) || field.Field != name {
			t.Errorf("change of %s: %v", name, err)
		}
	}
	if err := w.manager.Delete(t.Context(), "ann", v.ID); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{v.ID, "nothing", "../x", ""} {
		if _, err := w.manager.Get(t.Context(), id); !errors.Is(err, ErrNotFound) {
			t.Errorf("%q: %v", id, err)
		}
	}
	if len(w.changes) != 3 || !strings.HasPrefix(w.changes[2], "ann removed") {
		t.Errorf("recorded: %q", w.changes)
	}
}

// A header's value is for whoever it was given for: who may change a subscription, but does not know it, can not have it sent to
// a sink of their own. The audit does not say what a sink's path and query may hold.
func TestHostileNewSink(t *testing.T) {
	w := newWorld(t)
	thief := newReceiver(t, nil)
	s := wanted("https://hooks.example.org/services/geheim-path?token=geheim-query")
	s.Settings.Headers = map[string]string{"X-Token": "geheim-header"}
	v := w.create(s)
	for _, sink := range []string{thief.URL, "http://hooks.example.org/", "https://hooks.example.org:8443/", "https://hooks.example.org.evil.example/"} {
		s.Sink, s.Settings.Headers = sink, map[string]string{"X-Token": hidden}
		var field *FieldError
		if _, err := w.manager.Replace(t.Context(), "ben", v.ID, s); !errors.As(err, &field) || field.Field != "protocolsettings.headers.X-Token" {
			t.Errorf("%s: %v", sink, err)
		}
	}
	s.Sink = "https://hooks.example.org/elsewhere"
	if _, err := w.manager.Replace(t.Context(), "ben", v.ID, s); err != nil {
		t.Error(err)
	}
	if kept, _, err := w.manager.opened.record(t.Context(), v.ID); err != nil || kept.Spec.Settings.Headers["X-Token"] != "geheim-header" {
		t.Errorf("%+v, %v", kept.Spec, err)
	}
	s.Sink, s.Settings.Headers = thief.URL, map[string]string{"X-Token": "another"}
	if _, err := w.manager.Replace(t.Context(), "ben", v.ID, s); err != nil {
		t.Error(err)
	}
	if said := strings.Join(w.changes, "\n"); len(w.changes) != 3 || strings.Contains(said, "geheim") || !strings.Contains(said, "shop to https://hooks.example.org") {
		t.Errorf("recorded: %s", said)
	}
}

// What can not be recorded is not done.
func TestNoChangeWithoutRecord(t *testing.T) {
	w := newWorld(t)
	m := w.newManager(func(o *Options) {
		o.Record = func(context.Context, string, string, string) error { return errors.New("away") }
	})
	if _, err := m.Create(t.Context(), "ann", wanted("https://example.org/")); err == nil {
		t.Error("created")
	}
	if list, err := m.List(t.Context(), func(string) bool { return true }); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
}

func TestFieldErrors(t *testing.T) {
	w := newWorld(t)
	const good = `"protocol":"HTTP","sink":"https://example.org/","config":{"project":"shop"}`
	tests := []struct{ body, field string }{
		{``, "subscription"},
		{`[]`, "subscription"},
		{`{` + good + `} {}`, "subscription"},
		{`{` + good + `,"sinkcredential":{}}`, "sinkcredential"},
		{`{` + good + `,"id":"x"}`, "id"},
		{`{` + good + `,"types":"x"}`, "types"},
		{`{` + good + `,"types":["change.merged","change.mergd"]}`, "types[1]"},
		{`{` + good + `,"source":"a b %"}`, "source"},
		{`{` + good + `,"filters":[{"sql":"x"}]}`, "filters[0].sql"},
		{`{` + good + `,"protocolsettings":{"contentmode":"batch"}}`, "protocolsettings.contentmode"},
		{`{` + good + `,"protocolsettings":{"method":"PUT"}}`, "protocolsettings.method"},
		{`{` + good + `,"protocolsettings":{"headers":{"Host":"x"}}}`, "protocolsettings.headers.Host"},
		{`{` + good + `,"protocolsettings":{"headers":{"ce-type":"x"}}}`, "protocolsettings.headers.ce-type"},
		{`{` + good + `,"protocolsettings":{"headers":{"a b":"x"}}}`, "protocolsettings.headers.a b"},
		{`{` + good + `,"protocolsettings":{"headers":{"a":"x\r\nb: y"}}}`, "protocolsettings.headers.a"},
		{`{` + good + `,"protocolsettings":{"headers":{"a":1}}}`, "protocolsettings.headers"},
		{`{"protocol":"HTTP","sink":"https://example.org/","config":{}}`, "config.project"},
		{`{"protocol":"HTTP","sink":"https://example.org/","config":{"project":"Shop"}}`, "config.project"},
		{`{"protocol":"HTTP","sink":"https://example.org/","config":{"project":"shop","start":"later"}}`, "config.start"},
		{`{"protocol":"HTTP","sink":"https://example.org/","config":{"project":"shop","start":-1}}`, "config.start"},
		{`{"protocol":"HTTP","sink":"https://example.org/","config":{"project":"shop","start":0}}`, "config.start"},
		{`{"protocol":"HTTP","sink":"https://example.org/","config":{"project":"shop","secret":"plain"}}`, "config.secret"},
		{`{"protocol":"HTTP","sink":"https://example.org/","config":{"project":"shop","rate":-1}}`, "config.rate"},
		{`{"protocol":"HTTP","sink":"https://example.org/","config":{"project":"shop","tries":5000}}`, "config.tries"},
		{`{"protocol":"HTTP","sink":"https://example.org/","config":{"project":"shop","age":"1 day"}}`, "config.age"},
		{`{"protocol":"HTTP","config":{"project":"shop"}}`, "sink"},
		{`{"protocol":"HTTP","sink":"ftp://example.org/","config":{"project":"shop"}}`, "sink"},
		{`{"protocol":"HTTP","sink":"https://bücher.example/","config":{"project":"shop"}}`, "sink"},
		{`{"protocol":"HTTP","sink":"https://u:p@example.org/","config":{"project":"shop"}}`, "sink"},
		{`{"protocol":"HTTP","sink":"https://[::ffff:10.0.0.1]/","config":{"project":"shop"}}`, "sink"},
		{`{"protocol":"HTTP","sink":"http://1.1.1.1/","config":{"project":"shop"}}`, "sink"},
		{`{"sink":"https://example.org/","config":{"project":"shop"}}`, "protocol"},
		{`{"protocol":"http","sink":"https://example.org/","config":{"project":"shop"}}`, "protocol"},
		{`{"protocol":"NATS","config":{"project":"shop"}}`, "protocolsettings.consumer"},
		{`{"protocol":"NATS","config":{"project":"shop"},"protocolsettings":{"consumer":"a.b"}}`, "protocolsettings.consumer"},
		{`{"protocol":"NATS","config":{"project":"shop"},"protocolsettings":{"consumer":"a"},"filters":[{"exact":{"id":"1"}}]}`, "filters"},
	}
	for _, test := range tests {
		s, err := Parse([]byte(test.body))
		if err == nil {
			_, err = w.manager.Create(t.Context(), "ann", s)
		}
		var field *FieldError
		if !errors.As(err, &field) || field.Field != test.field {
			t.Errorf("%s: %v, want %s", test.body, err, test.field)
		}
	}
	if len(w.changes) != 0 {
		t.Errorf("recorded: %q", w.changes)
	}
}

// A client without credentials takes its facts from the consumer that the gateway made.
func TestNATSConsumer(t *testing.T) {
	w := newWorld(t)
	w.state("shop", "1", "one")
	w.state("other", "1", "one")
	s := Subscription{Protocol: NATS, Config: Config{Project: "shop", Start: "all"}, Settings: Settings{Consumer: "chat"}}
	v, err := w.manager.Create(t.Context(), natsd.Local, s)
	if err != nil || v.Status.Consumer != "local-chat" || v.Status.Lag != 1 {
		t.Fatalf("%+v, %v", v, err)
	}
	if _, err := w.manager.Create(t.Context(), natsd.Local, s); err == nil || !strings.HasPrefix(err.Error(), "protocolsettings.consumer: ") {
		t.Errorf("the name was given twice: %v", err)
	}
	nc, err := w.server.ConnectLocal()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	c, err := js.Consumer(t.Context(), natsd.Lifecycle, v.Status.Consumer)
	if err != nil {
		t.Fatal(err)
	}
	m, err := c.Next(jetstream.FetchMaxWait(5 * time.Second))
	if err != nil {
		t.Fatal(err)
	}
	e, err := events.Decode(m.Headers(), m.Data())
	if err != nil || e.ID != "shop-1-one" {
		t.Errorf("%+v, %v", e, err)
	}
	if err := m.DoubleAck(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.until("it shows", func() bool { st := w.status(v.ID); return st.Lag == 0 && st.Settled == 1 })
	if err := w.manager.Delete(t.Context(), natsd.Local, v.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := w.host.JS.Consumer(t.Context(), natsd.Lifecycle, "local-chat"); !errors.Is(err, jetstream.ErrConsumerNotFound) {
		t.Errorf("the consumer is still there: %v", err)
	}
}

// BenchmarkFanOut pushes 50 facts a second to 100 subscriptions; it reports how far behind the slowest delivery was.
func BenchmarkFanOut(b *testing.B) {
	const subscriptions, perSecond = 100, 50
	w := newWorld(b)
	w.host.Timing = service.Timing{} // a busy machine is to cost time, not the lease
	w.manager = w.newManager(func(o *Options) { o.Patience = Patience{} })
	w.run(w.manager)
	var mu sync.Mutex
	stated := map[string]time.Time{}
	var worst, sum time.Duration
	var count int
	arrived := make(chan struct{}, 1)
	sink := newReceiver(b, func(g got, _ int) int {
		mu.Lock()
		defer mu.Unlock()
		late := g.at.Sub(stated[g.id])
		worst, sum = max(worst, late), sum+late
		if count++; count == b.N*subscriptions {
			arrived <- struct{}{}
		}
		return 204
	})
	ids := make([]string, subscriptions)
	for n := range ids {
		s := wanted(fmt.Sprintf("%s/%d", sink.URL, n))
		s.Config.Start = "new"
		if n%2 == 0 {
			s.Filters = []json.RawMessage{json.RawMessage(`{"cel":"type.startsWith('dev.cdevents.') && data.subject.id != ''"}`)}
		}
		ids[n] = w.create(s).ID
	}
	for _, id := range ids {
		w.until("active", func() bool { return w.status(id).State == Active })
	}
	tick := time.NewTicker(time.Second / perSecond)
	defer tick.Stop()
	b.ResetTimer()
	for n := range b.N {
		<-tick.C
		key, summary := fmt.Sprintf("k%d", n%10), fmt.Sprint(n)
		mu.Lock()
		stated["shop-"+key+"-"+summary] = time.Now()
		mu.Unlock()
		w.state("shop", key, summary)
	}
	select {
	case <-arrived:
	case <-time.After(time.Minute):
		b.Fatal("not all arrived")
	}
	b.StopTimer()
	mu.Lock()
	defer mu.Unlock()
	b.ReportMetric(float64(worst.Microseconds())/1000, "ms-worst")
	b.ReportMetric(float64(sum.Microseconds())/1000/float64(count), "ms-mean")
}
