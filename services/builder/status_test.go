package builder_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lemnis/lemnis/internal/outward"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"

	"github.com/lemnis/lemnis/internal/executor"
	"github.com/lemnis/lemnis/services/builder"
)

// hub is a forge that notes the statuses of commits, and may do something before it answers.
type hub struct {
	*httptest.Server
	mu     sync.Mutex
	told   []string // commit, state and description
	target string
	before func(state string) int // makes the answer's status; nil: 201
}

func newHub(t *testing.T, next http.Handler) *hub {
	t.Helper()
	h := &hub{}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		commit, is := strings.CutPrefix(r.URL.Path, "/api/v1/repos/shop/api.x/statuses/")
		if !is {
			next.ServeHTTP(w, r)
			return
		}
		var s struct {
			State, Description string
			Target             string `json:"target_url"`
		}
		if err := json.NewDecoder(r.Body).Decode(&s); err != nil || r.Header.Get("Authorization") != "token t0ken" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		status := http.StatusCreated
		h.mu.Lock()
		before := h.before
		h.mu.Unlock()
		if before != nil {
			status = before(s.State)
		}
		h.mu.Lock()
		if status == http.StatusCreated {
			h.told, h.target = append(h.told, commit+" "+s.State+" "+s.Description), s.Target
		}
		h.mu.Unlock()
		w.WriteHeader(status)
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *hub) heard() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.told)
}

func telling(t *testing.T) builder.Options {
	t.Helper()
	return builder.Options{SecretsDir: secretsOfShop(t, map[string]string{"forge": "t0ken\n"}), Isolation: executor.None, Public: "https://lemnis.example.org/",
		Allow: outward.Allowed{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}}
}

// toldOf is the project with a forge at a hub.
func toldOf(p events.Project, h *hub) events.Project {
	p.Repositories[0].URL = h.URL + "/shop/api.x.git"
	p.Repositories[0].Forge = &events.Forge{Kind: events.ForgeGitea, Token: "secret:forge"}
	return p
}

// What becomes of a change, from its approval to the master copy, its forge is told as the status of its head, in order.
func TestAForgeIsToldOfAChange(t *testing.T) {
	t.Parallel()
	o := emptyOrigin(t)
	waits := filepath.Join(t.TempDir(), "told")
	o.commit(t, "main", map[string]string{".lemnis.yaml": "steps:\n  - name: test\n    run: until test -e " + waits + "; do sleep 0.02; done; test ! -e red\n"})
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "shop"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(o.dir, filepath.Join(root, "shop", "api.x.git")); err != nil {
		t.Fatal(err)
	}
	o.git(t, "", "config", "http.receivepack", "true")
	h := newHub(t, &cgi.Handler{Path: filepath.Join(o.git(t, "", "--exec-path"), "git-http-backend"), Env: []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1"}})
	var once sync.Once
	h.before = func(state string) int { // the tests do not end before the forge knows that they wait
		if state == "pending" {
			once.Do(func() { _ = os.WriteFile(waits, nil, 0o600) })
		}
		return http.StatusCreated
	}
	green, red := o.commit(t, "green", map[string]string{"green": "text\n"}), o.commit(t, "red", map[string]string{"red": "text\n"})
	options := telling(t)
	options.Data = t.TempDir()
	c := newCrew(t, options, toldOf(project(o), h))
	c.propose("green", green)
	c.propose("red", red)
	c.settle()
	for head, last := range map[string]string{green: "success merged as ", red: "failure "} {
		var of []string
		for _, text := range h.heard() {
			if rest, is := strings.CutPrefix(text, head+" "); is {
				of = append(of, rest)
			}
		}
		pending := slices.IndexFunc(of, func(s string) bool { return strings.HasPrefix(s, "pending ") })
		if len(of) < 2 || pending != 0 || !strings.HasPrefix(of[len(of)-1], last) || strings.HasPrefix(of[len(of)-1], "failure waits") {
			t.Errorf("%s: %q", head[:7], of)
		}
	}
	if !strings.HasPrefix(h.target, "https://lemnis.example.org/?chain=chain+of+") {
		t.Errorf("target %q", h.target)
	}
}

// told does the effect on a fact as the runtime would.
func (s *shift) tell(t *testing.T, sequence uint64, key string, content any) error {
	t.Helper()
	fact := events.Event{Project: s.project.Name, Key: key, Content: content, Kind: events.Stated, Sequence: sequence, Stored: time.Now()}
	return s.do["status"](t.Context(), service.NewJob(fact, s.project, 1, func(context.Context, service.Report) error { return nil }))
}

func (s *shift) met(sequence uint64, key string, content any) {
	s.meet(events.Event{Project: s.project.Name, Key: key, Content: content, Kind: events.Stated, Sequence: sequence})
}

// GitLab knows the head of a change from a fork by a ref only, since it is on no branch there: without one it answers 404.
func TestAForgeIsToldOfAFork(t *testing.T) {
	t.Parallel()
	var body map[string]string
	lab := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil || body["ref"] == "" {
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer lab.Close()
	p := shop(1)
	p.Repositories[0].URL = lab.URL + "/shop/api.x.git"
	p.Repositories[0].Forge = &events.Forge{Kind: events.ForgeGitLab, Token: "secret:forge"}
	s := newShift(t, telling(t), p)
	m := find(commit("head"))
	m.Branch, m.Ref = "mallory:main", "refs/merge-requests/7/head"
	s.met(1, "7", events.QueueEntered{Merge: m})
	if err := s.tell(t, 1, "7", events.QueueEntered{Merge: m}); err != nil || body["ref"] != m.Ref {
		t.Errorf("%v, %v", body, err)
	}
}

// What comes late says how the change fares by then; a fact that the read model has not met waits for it; nothing is told twice.
func TestALateStatusSaysWhatIsTrue(t *testing.T) {
	t.Parallel()
	h := newHub(t, http.NotFoundHandler())
	s := newShift(t, telling(t), toldOf(shop(1), h))
	m := find(commit("head"))
	entered, started := events.QueueEntered{Merge: m}, events.PipelineRunStarted{Lemnis: events.RunDetail{Merge: m}}
	if err := s.tell(t, 1, "7", entered); err == nil {
		t.Error("told before the read model met it")
	}
	s.met(1, "7", entered)
	s.met(2, "7#1", started)
	s.met(3, "7", events.QueueTested{Merge: m, Run: "7#1"})
	s.met(4, "7#1", started) // of a worker that was given up
	for i, c := range []any{events.QueueTested{Merge: m}, entered, started} {
		if err := s.tell(t, uint64(3-i), "7", c); err != nil {
			t.Fatal(err)
		}
	}
	if got := h.heard(); len(got) != 1 || got[0] != m.Head+" success passed in 7#1, and is being merged" {
		t.Errorf("%q", got)
	}
}

// A status that is on its way while the change goes on is followed by what is true by then.
func TestAStatusThatIsOvertaken(t *testing.T) {
	t.Parallel()
	h := newHub(t, http.NotFoundHandler())
	s := newShift(t, telling(t), toldOf(shop(1), h))
	m := find(commit("head"))
	s.met(1, "7", events.QueueEntered{Merge: m})
	h.before = func(string) int {
		s.met(2, "7", events.QueueEjected{Merge: m, Reason: "the change conflicts with main in a.go"})
		return http.StatusCreated
	}
	if err := s.tell(t, 1, "7", events.QueueEntered{Merge: m}); err != nil {
		t.Fatal(err)
	}
	if got := h.heard(); len(got) != 2 || !strings.HasSuffix(got[1], " failure the change conflicts with main in a.go") {
		t.Errorf("%q", got)
	}
}

// A no is given up, with the reason and without the token; a forge that is away is tried again, and left alone until then.
func TestAForgeThatTakesNoStatus(t *testing.T) {
	t.Parallel()
	h := newHub(t, http.NotFoundHandler())
	options := telling(t)
	var logged []string
	options.Log = func(message string, _ ...any) { logged = append(logged, message) }
	s := newShift(t, options, toldOf(shop(1), h))
	m, asked, answer := find(commit("head")), 0, 0
	h.before = func(string) int { asked++; return answer }
	s.met(1, "7", events.QueueEntered{Merge: m})
	answer = http.StatusForbidden
	if err := s.tell(t, 1, "7", events.QueueEntered{Merge: m}); !events.Rejected(err) || !has(err.Error(), `change 7 in repository "api"`) || !has(err.Error(), "403") || has(err.Error(), "t0ken") {
		t.Errorf("a no: %v", err)
	}
	if len(logged) != 1 {
		t.Errorf("logged %q", logged)
	}
	answer = http.StatusBadGateway
	for range 3 {
		err := s.tell(t, 1, "7", events.QueueEntered{Merge: m})
		if after, ok := events.RetryAfter(err); !ok || events.Rejected(err) || after > time.Minute {
			t.Errorf("away: %v", err)
		}
	}
	if asked != 2 {
		t.Errorf("the forge was asked %d times; the last two had to leave it alone", asked)
	}
}

// A token that is refused, or is not there, is waited for like a forge that is away; what a later fact tells too waits no longer. What has
// waited for too long is given up, also while the forge is left alone.
func TestATokenThatIsRefused(t *testing.T) {
	t.Parallel()
	h := newHub(t, http.NotFoundHandler())
	options := telling(t)
	var logged []string
	options.Log = func(message string, _ ...any) { logged = append(logged, message) }
	s := newShift(t, options, toldOf(shop(1), h))
	file := filepath.Join(options.SecretsDir, "shop", "forge")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	m, other := find(commit("head")), find(commit("other"))
	entered, started := events.QueueEntered{Merge: m}, events.PipelineRunStarted{Lemnis: events.RunDetail{Merge: m}}
	s.met(1, "7", entered)
	waits := func(err error, why string) {
		t.Helper()
		if _, again := events.RetryAfter(err); !again || events.Rejected(err) || !has(err.Error(), why) {
			t.Errorf("%v, and no %q to be tried again", err, why)
		}
	}
	waits(s.tell(t, 1, "7", entered), "secret:forge, can not be read")
	s.met(2, "7#1", started)
	s.met(3, "7#1", events.PipelineRunFinished{Lemnis: events.RunDetail{Merge: m}}) // which forges are not told of
	if err := s.tell(t, 1, "7", entered); err != nil {
		t.Errorf("what is told by a later fact: %v", err)
	}
	waits(s.tell(t, 2, "7#1", started), "secret:forge, can not be read")
	if err := os.WriteFile(file, []byte("wr0ng\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	patiently := func(until string, told int) {
		t.Helper()
		poll := time.NewTicker(50 * time.Millisecond)
		defer poll.Stop()
		for end := time.Now().Add(time.Minute); ; <-poll.C {
			err := s.tell(t, 2, "7#1", started)
			if until == "" && err == nil && len(h.heard()) == told || until != "" && err != nil && has(err.Error(), until) && !events.Rejected(err) {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%v, %q", err, h.heard())
			}
		}
	}
	patiently("answers 401", 0)
	if len(logged) != 2 {
		t.Errorf("logged %q", logged)
	}
	fact := events.Event{Project: "shop", Key: "8", Content: events.QueueEntered{Merge: other}, Kind: events.Stated, Sequence: 4, Stored: time.Now().Add(-7 * time.Hour)}
	s.meet(fact)
	job := service.NewJob(fact, s.project, 100, nil)
	job.Tries = 100
	if err := s.do["status"](t.Context(), job); !events.Rejected(err) || !has(err.Error(), "given up") || !has(err.Error(), "answers 401") {
		t.Errorf("too late: %v", err)
	}
	if err := os.WriteFile(file, []byte("t0ken\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	patiently("", 1)
}

// A forge that hangs holds up no other project, and its own project's facts do not pile up behind it.
func TestAForgeThatHangs(t *testing.T) {
	t.Parallel()
	hangs, end := newHub(t, http.NotFoundHandler()), make(chan struct{})
	hangs.before = func(string) int { <-end; return http.StatusCreated }
	h := newHub(t, http.NotFoundHandler())
	options := telling(t)
	s := newShift(t, options, toldOf(shop(1), hangs))
	var busy sync.WaitGroup
	later := make(chan error, 40)
	for i := range 40 {
		m := find(commit(string(rune('a' + i))))
		s.met(uint64(i+1), "7", events.QueueEntered{Merge: m})
		busy.Go(func() { later <- s.tell(t, uint64(i+1), "7", events.QueueEntered{Merge: m}) })
	}
	for range 35 { // one is told, four wait
		if err := <-later; err == nil {
			t.Error("told by a forge that hangs")
		}
	}
	m := find(commit("other"))
	fact := events.Event{Project: "bank", Key: "7", Content: events.QueueEntered{Merge: m}, Kind: events.Stated, Sequence: 50}
	s.meet(fact)
	if err := os.Rename(filepath.Join(options.SecretsDir, "shop"), filepath.Join(options.SecretsDir, "bank")); err != nil {
		t.Fatal(err)
	}
	p := toldOf(shop(1), h)
	p.Name = "bank"
	if err := s.do["status"](t.Context(), service.NewJob(fact, p, 1, nil)); err != nil || len(h.heard()) != 1 {
		t.Errorf("another project: %v, %q", err, h.heard())
	}
	close(end)
	busy.Wait()
}

// A snapshot of how heads fare is taken up where it was.
func TestStandingsAreSaved(t *testing.T) {
	t.Parallel()
	h := newHub(t, http.NotFoundHandler())
	m := find(commit("head"))
	var saved []byte
	for _, d := range builder.New(builder.Options{Data: t.TempDir()}) {
		for _, p := range d.Projections {
			if p.Name == "standings" {
				p.Apply(events.Event{Project: "shop", Key: "7", Content: events.QueueEntered{Merge: m}, Sequence: 9})
				saved, _ = p.Save()
			}
		}
	}
	options := telling(t)
	options.Data = t.TempDir()
	for _, d := range builder.New(options) {
		for _, p := range d.Projections {
			if p.Name != "standings" {
				continue
			}
			if err := p.Load(saved); err != nil {
				t.Fatal(err)
			}
			for _, e := range d.Effects {
				if e.Name == "status" {
					fact := events.Event{Project: "shop", Key: "7", Content: events.QueueEntered{Merge: m}, Sequence: 9}
					if err := e.Do(t.Context(), service.NewJob(fact, toldOf(shop(1), h), 1, nil)); err != nil {
						t.Error(err)
					}
				}
			}
		}
	}
	if got := h.heard(); len(got) != 1 || got[0] != m.Head+" pending waits for its tests" {
		t.Errorf("%q", got)
	}
}
