package builder_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/internal/service/rulestest"
	"github.com/lemnis/lemnis/pkg/events"

	"github.com/lemnis/lemnis/services/builder"
)

// open is a change at a house of changes.
type open struct {
	number            int
	title, head, base string
	state             string // open, closed, merged
	fork              bool
	raw               string // instead of what is written of it
}

// house is a forge with changes, of any kind, that counts what it is asked.
type house struct {
	*httptest.Server
	kind events.ForgeKind

	mu      sync.Mutex
	changes []open
	lists   int // answered, also by 304
	same    int // by 304
	single  int
	answer  int // status of everything; 0: as it should be
	after   string
	tags    bool
	during  func() // before a list is sent that was made already
}

func newHouse(t *testing.T, kind events.ForgeKind, changes ...open) *house {
	t.Helper()
	h := &house{kind: kind, changes: changes, tags: true}
	h.Server = httptest.NewServer(h)
	t.Cleanup(h.Close)
	return h
}

func (h *house) write(c open) string {
	if c.raw != "" {
		return c.raw
	}
	base, closed, merged := c.base, c.state, `null`
	if base == "" {
		base = "main"
	}
	if h.kind == events.ForgeGitLab {
		state, source := map[string]string{"open": "opened", "closed": "closed", "merged": "merged"}[c.state], 1
		if c.fork {
			source = 2
		}
		return fmt.Sprintf(`{"iid": %d, "title": %q, "state": %q, "sha": %q, "source_branch": "b%d", "target_branch": %q, "source_project_id": %d, "target_project_id": 1,
			"author": {"username": "ann"}, "merge_commit_sha": "cafe", "web_url": "%s/shop/api/-/merge_requests/%d"}`, c.number, c.title, state, c.head, c.number, base, source, h.URL, c.number)
	}
	if c.state == "merged" {
		closed, merged = "closed", `"2026-11-24T08:00:00Z"`
	}
	from := "shop/api"
	if c.fork {
		from = "mallory/api"
	}
	owner, _, _ := strings.Cut(from, "/")
	return fmt.Sprintf(`{"number": %d, "title": %q, "state": %q, "merged_at": %s, "merge_commit_sha": "cafe", "user": {"login": "ann"}, "html_url": "%s/shop/api/pull/%d",
		"head": {"ref": "b%d", "sha": %q, "label": "%s:b%d", "repo": {"full_name": %q}}, "base": {"ref": %q, "repo": {"full_name": "shop/api", "html_url": "%s/shop/api"}}}`,
		c.number, c.title, closed, merged, h.URL, c.number, c.number, c.head, owner, c.number, from, base, h.URL)
}

func (h *house) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.answer != 0 {
		if h.after != "" {
			w.Header().Set("Retry-After", h.after)
		}
		w.Header().Set("Location", "https://elsewhere.example.org/")
		h.lists++
		w.WriteHeader(h.answer)
		_, _ = io.WriteString(w, string(rune('a'+h.lists%20))) // what is no list may be something else each time
		return
	}
	if proof := r.Header.Get("Authorization") + r.Header.Get("Private-Token"); !strings.HasSuffix(proof, "t0ken") {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	_, number, _ := strings.Cut(strings.ReplaceAll(r.URL.Path, "/merge_requests", "/pulls"), "/pulls/")
	if number != "" {
		h.single++
		n, _ := strconv.Atoi(number)
		i := slices.IndexFunc(h.changes, func(c open) bool { return c.number == n })
		if i < 0 {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		_, _ = io.WriteString(w, h.write(h.changes[i]))
		return
	}
	h.lists++
	page, _ := strconv.Atoi(r.URL.Query().Get("page"))
	var all []string
	for _, c := range h.changes {
		if c.state == "open" {
			all = append(all, h.write(c))
		}
	}
	const size = 2 // a forge may give less than is asked for
	text := "[" + strings.Join(all[min((page-1)*size, len(all)):min(page*size, len(all))], ",") + "]"
	if page*size < len(all) {
		w.Header().Set("Link", `<x>; rel="next"`)
	} else {
		w.Header().Set("Link", `<x>; rel="first"`)
	}
	if h.tags {
		tag := fmt.Sprintf(`"%d %x"`, page, sha256.Sum256([]byte(text)))
		w.Header().Set("ETag", tag)
		if r.Header.Get("If-None-Match") == tag {
			h.same++
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	if h.during != nil {
		h.during()
	}
	_, _ = io.WriteString(w, text)
}

func (h *house) change(do func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	do()
}

// watch is a builder that lists, on a stream in memory.
type watch struct {
	t           *testing.T
	h           *house
	definitions []service.Definition

	mu      sync.Mutex
	stream  *rulestest.Stream
	scanned int
	deaf    error
	met     map[string]bool // ids of reports, which the bus takes once
	tried   []string        // ids of all reports
	logged  []string
}

// newWatch begins to list the changes of a house.
func newWatch(t *testing.T, h *house, project func(*events.Project)) *watch {
	t.Helper()
	x := &watch{t: t, h: h, met: map[string]bool{}}
	o := telling(t)
	o.Listing = 5 * time.Millisecond
	o.Log = func(message string, pairs ...any) {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.logged = append(x.logged, message+" "+fmt.Sprint(pairs...))
	}
	x.definitions = builder.New(o)
	p := shop(0)
	p.Repositories[0].URL = h.URL + "/shop/api.git"
	p.Repositories[0].Forge = &events.Forge{Kind: h.kind, Token: "secret:forge"}
	if project != nil {
		project(&p)
	}
	x.stream = rulestest.New(p, x.definitions...)
	x.say(events.Event{Kind: events.Stated, Key: p.Name, Content: events.ProjectConfigured{Project: p, Revision: 1}})
	duty := x.definitions[0].Duties[0]
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		ended <- duty.Run(ctx, service.NewReporter(func(_ context.Context, project, chain, once string, r service.Report) error {
			id := events.FactID("LIFECYCLE", 0, duty.Name, project, r.Key+"/"+once, events.TypeOf(r.Content))
			x.mu.Lock()
			deaf, again := x.deaf, x.met[id]
			x.met[id], x.tried = again || deaf == nil, append(x.tried, id)
			x.mu.Unlock()
			if deaf == nil && !again {
				x.say(events.Event{Kind: events.Result, Phase: events.Phase(or(string(r.Phase), string(events.Develop))), Key: r.Key, SubjectID: r.SubjectID, Chain: chain, Content: r.Content})
			}
			return deaf
		}))
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	return x
}

// say puts an event on the stream, and decides on it.
func (x *watch) say(e events.Event) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.stream.Add(e)
	x.stream.Run(x.t)
	for ; x.scanned < len(x.stream.Events); x.scanned++ {
		e := x.stream.Events[x.scanned]
		for _, d := range x.definitions {
			for _, p := range d.Projections {
				if e.Kind == events.Stated && slices.Contains(p.On, e.Type) {
					p.Apply(e)
				}
			}
		}
	}
}

func (x *watch) facts() (all []string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, e := range x.stream.Events {
		if e.Kind == events.Stated && e.Type != events.TypeOf(events.ProjectConfigured{}) {
			all = append(all, strings.TrimSpace(e.Type.Short()+" "+e.Key))
		}
	}
	return all
}

// until waits for something.
func (x *watch) until(what string, is func() bool) {
	x.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(20 * time.Second); !is(); <-tick.C {
		if time.Now().After(end) {
			x.t.Fatalf("%s: %q", what, x.facts())
		}
	}
}

// stated waits until the stream has these facts, and two more rounds, which add nothing.
func (x *watch) stated(want ...string) {
	x.t.Helper()
	has := func() bool { return slices.Equal(x.facts(), want) }
	x.until("not "+strings.Join(want, ", "), has)
	x.rounds(2)
	if !has() {
		x.t.Fatalf("there is more: %q", x.facts())
	}
}

// rounds waits until the house was asked for its first page so many times more, and once more, so that what the answers said is reported.
func (x *watch) rounds(n int) {
	x.t.Helper()
	asked := func() (lists int) {
		x.h.change(func() { lists = x.h.lists })
		return lists
	}
	pages := 1
	x.h.change(func() { pages += len(x.h.changes) / 2 })
	end := asked() + (n+1)*pages
	x.until("no more rounds", func() bool { return asked() >= end })
}

// From the list of a forge to the queue: what is opened there, moves, is closed and is opened again becomes what its webhook would have claimed,
// once each, of all pages; what has not changed is not sent again.
func TestAForgeIsListed(t *testing.T) {
	t.Parallel()
	for _, kind := range []events.ForgeKind{events.ForgeGitHub, events.ForgeGitLab, events.ForgeGitea, events.ForgeForgejo} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, kind,
				open{number: 4, title: "Of a fork", head: commit("4"), state: "open", fork: true},
				open{number: 3, title: "Into another branch", head: commit("3"), state: "open", base: "next"},
				open{number: 2, title: "Old", head: commit("2"), state: "closed"},
				open{number: 1, title: "Find, fixes #9", head: commit("1"), state: "open"})
			x := newWatch(t, h, nil)
			x.until("the first changes", func() bool { return count[events.QueueEntered](&world{log: x.events()}) == 2 })
			ref := map[bool]string{true: "refs/merge-requests/4/head", false: "refs/pull/4/head"}[kind == events.ForgeGitLab]
			for _, e := range x.events() {
				c, is := e.Content.(events.QueueEntered)
				if is && (c.Merge.Change == "api#4" && (c.Merge.Ref != ref || !strings.HasSuffix(c.Merge.Branch, ":b4")) || c.Merge.Change == "api#1" && (c.Merge.Item != "api#9" || c.Merge.Ref != "" || c.Merge.Head != commit("1"))) {
					t.Errorf("%+v", c.Merge)
				}
			}
			if facts := x.facts(); slices.Contains(facts, "change.created api#3") || slices.Contains(facts, "change.created api#2") {
				t.Errorf("%q", facts)
			}
			before := len(x.facts())
			x.rounds(2)
			if n := len(x.facts()); n != before {
				t.Fatalf("the same list stated more: %q", x.facts()[before:])
			}
			h.change(func() {
				if h.same == 0 {
					t.Error("no page was known again by its tag")
				}
				h.changes[3].head = commit("1b")
			})
			x.until("a head that moved", func() bool {
				c, ok := last[events.ChangeUpdated](&world{log: x.events()})
				return ok && c.Lemnis.Head == commit("1b") && c.Lemnis.Author == "ann" && c.Lemnis.Branch == "b1"
			})
			h.change(func() { h.changes[0].state = "closed" })
			x.until("a change that was closed", func() bool { return slices.Contains(x.facts(), "change.abandoned api#4") })
			x.rounds(2)
			if n := count[events.ChangeAbandoned](&world{log: x.events()}); n != 1 {
				t.Errorf("abandoned %d times", n)
			}
			h.change(func() { h.changes[0].state = "open" })
			x.until("a change that was opened again", func() bool { return count[events.ChangeCreated](&world{log: x.events()}) == 3 })
			h.change(func() { h.changes[3].state = "merged" }) // past the queue: here that can not be, and comes to nothing
			x.rounds(3)
			if facts := x.facts(); slices.ContainsFunc(facts, func(s string) bool { return strings.HasPrefix(s, "change.merged") || strings.HasPrefix(s, "claim") }) || count[events.ChangeAbandoned](&world{log: x.events()}) != 1 {
				t.Errorf("%q", facts)
			}
			h.change(func() {
				if h.single > 6 {
					t.Errorf("one change was looked at %d times", h.single)
				}
			})
			if len(x.said()) > 0 {
				t.Errorf("%q", x.said())
			}
		})
	}
}

func (x *watch) events() []events.Event {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Clone(x.stream.Events)
}

func (x *watch) said() []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Clone(x.logged)
}

// A webhook and the list that say the same state it once, whichever comes first; and without tags too.
func TestAWebhookAndAListSayItOnce(t *testing.T) {
	t.Parallel()
	h := newHouse(t, events.ForgeGitea)
	h.tags = false
	x := newWatch(t, h, func(p *events.Project) { p.Review.Approvals = 1 })
	hook := func(content any) {
		x.say(events.Event{Kind: events.Claim, Key: "api#1", Principal: "webhook-gitea", Content: content})
	}
	one := events.ChangeDetail{Repository: "api", Title: "Find", Branch: "b1", Head: commit("1"), Base: "main", Author: "ann"}
	hook(events.ChangeCreated{Lemnis: one})
	h.change(func() {
		h.changes = []open{{number: 1, title: "Find", head: commit("1"), state: "open"}}
	})
	x.stated("change.created api#1")
	h.change(func() { h.changes[0].head = commit("2") })
	x.stated("change.created api#1", "change.updated api#1")
	one.Head = commit("2")
	hook(events.ChangeUpdated{Lemnis: one}) // late
	x.stated("change.created api#1", "change.updated api#1", "claim.refused api#1")
	h.change(func() { h.changes[0].title = "Find all" })
	x.stated("change.created api#1", "change.updated api#1", "claim.refused api#1", "change.updated api#1")
	hook(events.ChangeAbandoned{})
	h.change(func() { h.changes[0].state = "closed" })
	x.until("abandoned", func() bool { return count[events.ChangeAbandoned](&world{log: x.events()}) == 1 })
}

// A list that was made before a head moved does not take back what the webhook said of it meanwhile.
func TestAListThatIsLateSaysNothing(t *testing.T) {
	t.Parallel()
	h := newHouse(t, events.ForgeGitHub, open{number: 1, title: "Find", head: commit("1"), state: "open"})
	x := newWatch(t, h, func(p *events.Project) { p.Review.Approvals = 1 })
	x.stated("change.created api#1")
	h.change(func() {
		h.changes[0].title = "Find all" // so that the list is sent
		h.during = func() {
			h.during, h.changes[0].head = nil, commit("2")
			x.say(events.Event{Kind: events.Claim, Key: "api#1", Principal: "webhook-github", Content: events.ChangeUpdated{Lemnis: events.ChangeDetail{Head: commit("2"), Title: "Find all"}}})
		}
	})
	x.stated("change.created api#1", "change.updated api#1")
}

// What comes to nothing, as a change whose head is no commit, is not reported round after round.
func TestWhatComesToNothingIsReportedOnce(t *testing.T) {
	t.Parallel()
	h := newHouse(t, events.ForgeGitea, open{number: 1, title: "Find", head: "abc", state: "open"})
	h.tags = false
	x := newWatch(t, h, nil)
	x.rounds(3)
	if results := slices.DeleteFunc(x.events(), func(e events.Event) bool { return e.Kind != events.Result }); len(results) != 1 || len(x.facts()) > 0 {
		t.Errorf("%d results; %q", len(results), x.facts())
	}
	h.change(func() { h.changes[0].head = commit("1") })
	x.until("what changed", func() bool { return slices.Contains(x.facts(), "queue.entered api#1") })
}

// What a person here has abandoned the list does not bring back, unless its author goes on.
func TestAListDoesNotUndoWhatSomebodyDid(t *testing.T) {
	t.Parallel()
	h := newHouse(t, events.ForgeGitHub, open{number: 1, title: "Find", head: commit("1"), state: "open"})
	x := newWatch(t, h, func(p *events.Project) { p.Review.Approvals = 1 })
	x.stated("change.created api#1")
	x.say(events.Event{Kind: events.Claim, Key: "api#1", Principal: "bo", Content: events.ChangeAbandoned{}})
	h.change(func() { h.changes[0].title = "Find all" })
	x.stated("change.created api#1", "change.abandoned api#1")
	saved := func() string {
		text, err := x.definitions[0].Projections[0].Save()
		if err != nil {
			t.Error(err)
		}
		return string(text)
	}
	x.until("not noted that the forge has it", func() bool { return strings.Contains(saved(), `"listed":true`) })
	h.change(func() { h.changes[0].state = "closed" })
	x.until("not noted that the forge has it no more", func() bool { return !strings.Contains(saved(), `"listed":true`) })
	h.change(func() { h.changes[0].state = "open" })
	x.stated("change.created api#1", "change.abandoned api#1")
	h.change(func() { h.changes[0].head = commit("2") })
	x.stated("change.created api#1", "change.abandoned api#1", "change.created api#1")
}

// Where another tool merges, a list says that it did, once, and no webhook says it a second time.
func TestAListSaysThatAForgeMerged(t *testing.T) {
	t.Parallel()
	h := newHouse(t, events.ForgeGitLab, open{number: 1, title: "Find", head: commit("1"), state: "open"})
	x := newWatch(t, h, func(p *events.Project) {
		p.Review.Approvals = 1
		p.Owners = map[events.Phase]string{events.Integrate: "gitlab"}
	})
	x.stated("change.created api#1")
	h.change(func() { h.changes[0].state = "merged" })
	x.stated("change.created api#1", "change.merged api#1")
	x.say(events.Event{Kind: events.Claim, Key: "api#1", Principal: "webhook-gitlab", Content: events.ChangeMerged{Lemnis: events.MergeDetail{Change: "api#1", Repository: "api", Head: commit("1"), Commit: "cafe"}}})
	x.stated("change.created api#1", "change.merged api#1", "claim.refused api#1")
}

// A forge that says no, is busy or away is told of once, is left alone, and is read when it is there again. What could not be reported is reported
// later.
func TestAForgeThatCanNotBeListed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer int
		after  string
		words  string
		again  bool // within the test
	}{
		"a no":  {http.StatusForbidden, "", "the token may not read changes there", false},
		"busy":  {http.StatusTooManyRequests, "1", "429", true},
		"away":  {http.StatusBadGateway, "", "502", true},
		"moved": {http.StatusFound, "", "not followed", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, events.ForgeGitHub, open{number: 1, title: "Find", head: commit("1"), state: "open"})
			h.answer, h.after = c.answer, c.after
			x := newWatch(t, h, func(p *events.Project) { p.Review.Approvals = 1 })
			x.until("nothing is said", func() bool { return len(x.said()) > 0 })
			if said := x.said(); len(said) != 1 || !strings.Contains(said[0], c.words) || strings.Contains(said[0], "t0ken") {
				t.Errorf("%q", said)
			}
			if !c.again {
				h.change(func() {
					if h.lists != 1 {
						t.Errorf("asked %d times", h.lists)
					}
				})
				return
			}
			h.change(func() { h.answer = 0 })
			x.until("it is not read again", func() bool { return slices.Equal(x.facts(), []string{"change.created api#1"}) })
			x.until("nobody says that it is read again", func() bool { return len(x.said()) == 2 })
		})
	}
	h := newHouse(t, events.ForgeGitHub)
	x := newWatch(t, h, nil)
	x.mu.Lock()
	x.deaf = errors.New("the bus is away")
	x.mu.Unlock()
	h.change(func() { h.changes = []open{{number: 1, title: "Find", head: commit("1"), state: "open"}} })
	x.until("nothing is said", func() bool { return len(x.said()) == 1 })
	x.rounds(2)
	x.mu.Lock()
	if ids := slices.Compact(slices.Clone(x.tried)); len(x.tried) < 2 || len(ids) != 1 {
		t.Errorf("%d reports of one difference have %d ids", len(x.tried), len(ids))
	}
	x.deaf = nil
	x.mu.Unlock()
	x.until("not reported later", func() bool { return slices.Contains(x.facts(), "queue.entered api#1") })
}

// What goes on here though nothing did at the forge, as by a webhook that comes late, the next round mends, also where the forge says that its list
// is the same; and what was reported before is reported again where it comes about again.
func TestAListMendsWhatALateWebhookSaid(t *testing.T) {
	t.Parallel()
	for name, tags := range map[string]bool{"with tags": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, events.ForgeGitHub, open{number: 7, title: "Find", head: commit("2"), state: "open"})
			h.tags = tags
			x := newWatch(t, h, func(p *events.Project) { p.Review.Approvals = 1 })
			want := []string{"change.created api#7"}
			x.stated(want...)
			for range 2 {
				x.say(events.Event{Kind: events.Claim, Key: "api#7", Principal: "webhook-github", Content: events.ChangeUpdated{Lemnis: events.ChangeDetail{Head: commit("1"), Author: "bo"}}})
				want = append(want, "change.updated api#7", "change.updated api#7")
				x.stated(want...)
				if c, _ := last[events.ChangeUpdated](&world{log: x.events()}); c.Lemnis.Head != commit("2") {
					t.Errorf("%+v", c.Lemnis)
				}
				x.say(events.Event{Kind: events.Claim, Key: "api#7", Principal: "webhook-github", Content: events.ChangeAbandoned{}})
				want = append(want, "change.abandoned api#7", "change.created api#7")
				x.stated(want...)
			}
			h.change(func() {
				if h.tags != (h.same > 0) {
					t.Errorf("%d pages were known again", h.same)
				}
			})
		})
	}
}

// A change that goes into another branch now is none of this repository's any more, whatever becomes of it there; into the master copy again, it is
// proposed once more. The webhook says the same, and it is stated once.
func TestAChangeThatIsRetargeted(t *testing.T) {
	t.Parallel()
	for _, state := range []string{"open", "closed", "merged"} {
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, events.ForgeGitHub, open{number: 7, title: "Find", head: commit("1"), state: "open"}, open{number: 6, title: "Find", head: commit("1"), state: "open", base: "next"})
			x := newWatch(t, h, func(p *events.Project) { p.Review.Approvals = 1 })
			x.stated("change.created api#7")
			h.change(func() { h.changes[0].base, h.changes[0].state = "next", state })
			x.stated("change.created api#7", "change.abandoned api#7")
			h.change(func() { h.changes[0].base, h.changes[0].state = "main", "open" })
			x.stated("change.created api#7", "change.abandoned api#7", "change.created api#7")
			x.say(events.Event{Kind: events.Claim, Key: "api#7", Principal: "webhook-github", Content: events.ChangeAbandoned{}})
			h.change(func() { h.changes[0].base = "next" })
			x.until("abandoned", func() bool { return count[events.ChangeAbandoned](&world{log: x.events()}) >= 2 })
			x.rounds(2)
			c, ok := last[events.ChangeCreated](&world{log: x.events()})
			if facts := x.facts(); !ok || c.Lemnis.Base != "main" || facts[len(facts)-1] != "change.abandoned api#7" {
				t.Errorf("%q", facts)
			}
		})
	}
}

// Where the master copy is another branch by now, what was proposed for the one of before is followed there until it ends.
func TestAMasterCopyOfAnotherName(t *testing.T) {
	t.Parallel()
	h := newHouse(t, events.ForgeGitHub, open{number: 7, title: "Find", head: commit("1"), state: "open"})
	var renamed events.Project
	x := newWatch(t, h, func(p *events.Project) { p.Review.Approvals = 1; renamed = *p })
	x.stated("change.created api#7")
	renamed.Repositories = slices.Clone(renamed.Repositories)
	renamed.Repositories[0].Branch = "trunk"
	x.say(events.Event{Kind: events.Stated, Key: renamed.Name, Content: events.ProjectConfigured{Project: renamed, Revision: 2}})
	x.stated("change.created api#7")
	h.change(func() { h.changes[0].state = "closed" })
	x.stated("change.created api#7", "change.abandoned api#7")
}

// A change that can not be read is passed over, and said once; the others are listed, also what of it is open here.
func TestAChangeThatCanNotBeRead(t *testing.T) {
	t.Parallel()
	h := newHouse(t, events.ForgeGitHub, open{number: 7, title: "Find", head: commit("1"), state: "open"}, open{number: 6, title: "Keep", head: commit("1"), state: "open"})
	h.tags = false
	x := newWatch(t, h, func(p *events.Project) { p.Review.Approvals = 1 })
	x.stated("change.created api#7", "change.created api#6")
	h.change(func() {
		h.changes[0].raw = `{"number": 7, "state": "closed"}`
		h.changes = append(h.changes, open{state: "open", raw: "null"}, open{number: 4, state: "open", raw: `{"number": 4, "state": "open", "head": {"sha": "` + commit("1") + `"}, "base": {"ref": "main"}}`},
			open{number: 3, title: "Name", head: commit("1"), state: "open"})
		h.changes[1].state = "closed"
	})
	x.stated("change.created api#7", "change.created api#6", "change.created api#3", "change.abandoned api#6")
	said := x.said()
	slices.Sort(said)
	if len(said) != 3 || !strings.Contains(said[0], "a change: it has no head") || !strings.Contains(said[1], "change 4: it does not say where its repository is") || !strings.Contains(said[2], "change 7: it has no head") {
		t.Errorf("%q", said)
	}
}

// What goes wrong round after round is said once, also where the words differ each time.
func TestWhatGoesWrongIsSaidOnce(t *testing.T) {
	t.Parallel()
	h := newHouse(t, events.ForgeGitHub, open{number: 1, title: "Find", head: commit("1"), state: "open"})
	h.answer = http.StatusOK
	x := newWatch(t, h, func(p *events.Project) { p.Review.Approvals = 1 })
	x.rounds(5)
	if said := x.said(); len(said) != 1 || !strings.Contains(said[0], "it is no list") {
		t.Errorf("%q", said)
	}
	h.change(func() { h.answer = 0 })
	x.stated("change.created api#1")
	if said := x.said(); len(said) != 2 {
		t.Errorf("%q", said)
	}
}
