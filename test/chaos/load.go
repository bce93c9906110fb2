package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/lemnis/lemnis/cmd/lemnis/api"
	runtime "github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/test/chaos/small"
)

// Acknowledged is a claim that somebody was told is on the stream.
type Acknowledged struct {
	Project, ID string
	Sequence    uint64
}

// Load turns laps on a stack, through the gateway, and remembers what was acknowledged.
type Load struct {
	client *api.Client
	follow func(ctx context.Context, each func(events.Event)) error

	mu       sync.Mutex
	acked    []Acknowledged
	journals map[string]*journal
	refusals map[string]int // answers of the gateway that were no success, by their text
	laps     []Lap          // begun
	closed   int            // of them
}

// NewLoad prepares a load for a stack.
func NewLoad(s *Stack) *Load {
	l := &Load{client: api.New(s.URL), journals: map[string]*journal{}, refusals: map[string]int{}}
	l.follow = func(ctx context.Context, each func(events.Event)) error {
		return runtime.Tail(ctx, runtime.Host{JS: s.JS, Log: zap.NewNop()}, []string{"lifecycle.>"}, 1, func(m runtime.Message) error {
			if e, err := m.Event(); err == nil {
				each(e)
			}
			return nil
		})
	}
	return l
}

// Run turns laps, some at a time, for as long as next gives any. The error names those that did not close.
func (l *Load) Run(ctx context.Context, next func() (Lap, bool), atOnce int) error {
	following, stop := context.WithCancel(ctx)
	var follower sync.WaitGroup
	follower.Go(func() {
		_ = l.follow(following, func(e events.Event) { // ends with the load
			if j := l.journal(e.Project); j != nil {
				j.add(e)
			}
		})
	})
	todo := make(chan Lap)
	var mu sync.Mutex
	var open []error
	var workers sync.WaitGroup
	for range atOnce {
		workers.Go(func() {
			for lap := range todo {
				if err := l.turn(ctx, lap); err != nil {
					mu.Lock()
					open = append(open, fmt.Errorf("lap %s: %w", lap.Project, err))
					mu.Unlock()
				}
				l.end(lap, ctx.Err() == nil)
			}
		})
	}
	for ctx.Err() == nil {
		lap, ok := next()
		if !ok {
			break
		}
		l.begin(lap)
		todo <- lap
	}
	close(todo)
	workers.Wait()
	stop()
	follower.Wait()
	return errors.Join(open...)
}

func (l *Load) begin(lap Lap) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.laps = append(l.laps, lap)
	l.journals[lap.Project] = newJournal()
}

func (l *Load) end(lap Lap, closed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.journals, lap.Project)
	if closed {
		l.closed++
	}
}

// journal of a lap under way; nil of others.
func (l *Load) journal(project string) *journal {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.journals[project]
}

// Laps are those that were begun.
func (l *Load) Laps() []Lap {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Lap(nil), l.laps...)
}

// Closed is how many laps are.
func (l *Load) Closed() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}

// turn is one lap.
func (l *Load) turn(ctx context.Context, lap Lap) error {
	t := &turn{load: l, lap: lap, journal: l.journal(lap.Project)}
	for _, step := range []func(context.Context) error{t.begin, t.listen} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	for _, c := range lap.Changes {
		if err := t.change(ctx, c); err != nil {
			return fmt.Errorf("change %s (%s): %w", c.ID, c.Kind, err)
		}
	}
	return nil
}

// turn is a lap on its way.
type turn struct {
	load    *Load
	lap     Lap
	journal *journal
	item    string // that the users' words became
	seen    map[string]bool
}

// begin configures the project and brings what the repository holds to its users.
func (t *turn) begin(ctx context.Context) error {
	if err := t.claim(ctx, "configure", t.lap.Project, "", events.ProjectConfigured{Project: t.lap.configuration()}); err != nil {
		return err
	}
	if err := t.claim(ctx, "repository", service, "", events.RepositoryCreated{Repository: events.Repository{
		Name: service, URI: "https://git.invalid/" + t.lap.Project + ".git"}}); err != nil {
		return err
	}
	return t.deliver(ctx, "", true)
}

// listen has two users say the same, and a stakeholder open an item.
func (t *turn) listen(ctx context.Context) error {
	for i, text := range []string{"It is broken, I got an error again.", "An error when I opened the page. It fails."} {
		user := fmt.Sprintf("user-%d@example.org", i+1)
		if err := t.claim(ctx, "said-"+user, "said-"+user, "", events.FeedbackReceived{
			User: user, Text: []byte(text), Feature: "search", Service: service, Rating: 2}); err != nil {
			return err
		}
	}
	found, err := t.journal.find(ctx, "the item that the users' words become", func(e events.Event) bool {
		c, ok := e.Content.(events.TicketCreated)
		return ok && c.Lemnis.Insight != ""
	})
	if err != nil {
		return err
	}
	t.item = found.Key
	err = t.claim(ctx, "wish", wish, "", events.TicketCreated{
		Ticket: events.Ticket{Summary: "A faster checkout", Creator: "sam", URI: "urn:chaos:" + wish},
		Lemnis: events.TicketDetail{Origin: events.Stakeholder, Estimate: &events.Estimate{Source: events.Stakeholder, By: "sam", Value: 8, Cost: 5}},
	})
	return err
}

// change proposes one, has it reviewed and follows it to its end.
func (t *turn) change(ctx context.Context, c Change) error {
	item := c.Item
	if item == insight {
		item = t.item
	}
	chain := "chain-" + t.lap.Project + "-" + c.ID
	if err := t.claim(ctx, "propose-"+c.ID, c.ID, chain, events.ChangeCreated{
		Repository: &events.Reference{ID: service},
		Lemnis:     events.ChangeDetail{Repository: service, Title: c.Kind.Title(c.ID), Branch: "b-" + c.ID, Head: c.Head, Author: "ann", Item: item},
	}); err != nil {
		return err
	}
	// Its author's own review is refused.
	for _, reviewer := range []string{"ann", "rita"} {
		if err := t.claim(ctx, "review-"+c.ID+"-"+reviewer, c.ID, chain, events.ChangeReviewed{
			Lemnis: events.Review{Reviewer: reviewer, Verdict: events.Approved, Head: c.Head}}); err != nil {
			return err
		}
	}
	if c.Kind == small.Red {
		_, err := t.journal.find(ctx, "it to leave the queue", func(e events.Event) bool {
			q, ok := e.Content.(events.QueueEjected)
			return ok && q.Merge.Change == c.ID
		})
		return err
	}
	return t.deliver(ctx, c.ID, c.Kind != small.Refused)
}

// deliver follows an artifact, of a change or of what the repository held, until its rollouts have come to an end, and gives
// the approvals that are asked for.
func (t *turn) deliver(ctx context.Context, change string, approve bool) error {
	ours := func(r events.Rollout) bool { return r.Artifact.Change == change }
	for {
		e, err := t.journal.find(ctx, "the end of its rollout", func(e events.Event) bool {
			switch c := e.Content.(type) {
			case events.ApprovalRequested:
				return ours(c.Rollout) && !t.seen[c.Rollout.ID]
			case events.DeploymentFailed:
				return ours(c.Rollout)
			case events.ServicePublished:
				return ours(c.Lemnis.Rollout) && c.Lemnis.Rollout.Next == ""
			case events.LessonLearned: // the last that follows from a bad verdict
				return c.Change == change && change != ""
			}
			return false
		})
		if err != nil {
			return err
		}
		asked, ok := e.Content.(events.ApprovalRequested)
		if !ok {
			return nil
		}
		if t.seen == nil {
			t.seen = map[string]bool{}
		}
		r := asked.Rollout
		t.seen[r.ID] = true
		var answer any = events.ApprovalGiven{Environment: r.Environment, Service: r.Service, Rollout: r.ID, By: "eve"}
		if !approve {
			answer = events.ApprovalRefused{Environment: r.Environment, Service: r.Service, Rollout: r.ID, By: "eve", Reason: "not now"}
		}
		if err := t.claim(ctx, "approve-"+r.ID, r.ID, e.Chain, answer); err != nil {
			return err
		}
	}
}

// claim says something until it is acknowledged, and waits for its answer.
func (t *turn) claim(ctx context.Context, id, about, chain string, content any) error {
	e := events.Event{ID: t.lap.Project + "/" + id, Source: "/chaos", Type: events.TypeOf(content), Time: time.Now(), Project: t.lap.Project,
		SubjectID: about, Chain: chain, Content: content}
	if err := t.load.say(ctx, e); err != nil {
		return err
	}
	_, err := t.journal.find(ctx, "the answer to "+e.ID, func(fact events.Event) bool { return fact.Cause == e.ID })
	return err
}

// say hands a claim in, again and again as a client does, until it is acknowledged.
func (l *Load) say(ctx context.Context, e events.Event) error {
	for {
		once, cancel := context.WithTimeout(ctx, 8*time.Second)
		answer, err := l.client.Publish(once, e)
		cancel()
		if err == nil {
			var receipt struct {
				Sequence uint64 `json:"sequence"`
			}
			if err := json.Unmarshal(answer, &receipt); err != nil || receipt.Sequence == 0 {
				return fmt.Errorf("claim %s: the answer %s names no place on the stream", e.ID, answer)
			}
			l.mu.Lock()
			l.acked = append(l.acked, Acknowledged{e.Project, e.ID, receipt.Sequence})
			l.mu.Unlock()
			return nil
		}
		if ctx.Err() != nil {
			return errors.Join(ctx.Err(), err)
		}
		if !api.Temporary(err) && !errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("claim %s: %w", e.ID, err)
		}
		l.mu.Lock()
		l.refusals[firstLine(err.Error())]++
		l.mu.Unlock()
		wait(ctx, 50*time.Millisecond)
	}
}

// Acknowledged are the claims that were, so far.
func (l *Load) Acknowledged() []Acknowledged {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Acknowledged(nil), l.acked...)
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}

// journal holds the facts of a project as they come.
type journal struct {
	mu   sync.Mutex
	all  []events.Event
	more chan struct{} // closed, and replaced, with each fact
}

func newJournal() *journal { return &journal{more: make(chan struct{})} }

func (j *journal) add(e events.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.all = append(j.all, e)
	close(j.more)
	j.more = make(chan struct{})
}

// find waits for a fact, which may have come already.
func (j *journal) find(ctx context.Context, what string, is func(events.Event) bool) (events.Event, error) {
	for at := 0; ; {
		j.mu.Lock()
		seen, more := j.all[at:len(j.all):len(j.all)], j.more
		j.mu.Unlock()
		for _, e := range seen {
			if is(e) {
				return e, nil
			}
		}
		at += len(seen)
		if len(seen) > 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return events.Event{}, fmt.Errorf("waited in vain for %s: %w", what, context.Cause(ctx))
		case <-more:
		}
	}
}
