package builder

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/lemnis/lemnis/internal/secret"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"

	"github.com/lemnis/lemnis/services/builder/forge"
)

const (
	tellers  = 32            // statuses that are told at once, one of each project and forge
	queueing = 4             // of a project and forge that wait for the one before; others come again later
	loyalty  = 6 * time.Hour // how long a forge that is away is tried
	mostRest = 5 * time.Minute
	keptTold = 4096
)

// teller tells forges how changes fare.
type teller struct {
	client *forge.Client

	mu    sync.Mutex
	desks map[string]*desk        // by project and API
	said  map[headAt]forge.Status // what a forge has taken, so that it is not told twice
}

// desk is where a project waits for a forge: one status at a time, as forges ask for, and none while it wants to be left alone. One that hangs
// holds up nobody else.
type desk struct {
	turn chan struct{}

	mu      sync.Mutex
	waiting int
	rests   map[string]rest // by what was of no use: to tell, to list, or the token of a secret, which keeps only those away who have it too
}

// rest is for how long a forge is left alone.
type rest struct {
	until  time.Time
	why    error
	failed int // in a row
}

const (
	toTell = "tell"
	toList = "list"
)

// tokenOf is the rest of a token.
func tokenOf(secret string) string { return "secret:" + secret }

func newTeller(o Options) *teller {
	return &teller{client: forge.NewClient(o.Allow), desks: map[string]*desk{}, said: map[headAt]forge.Status{}}
}

// status tells the forge how the heads fare that a fact is about.
func (b *builder) status(ctx context.Context, job *service.Job) error {
	if b.standings.behind(job.Event.Sequence) {
		return events.Retry(100*time.Millisecond, errors.New("the read model has not met the fact yet"))
	}
	var refused error
	for _, m := range headsOf(job.Event.Content) {
		err := b.tell(ctx, job, m)
		var no *forge.Refusal
		if errors.As(err, &no) {
			b.options.Log("a forge is not told how a change fares", "project", job.Project.Name, "repository", m.Repository, "change", m.Change, "error", no.Reason)
			refused = fmt.Errorf("the status of change %s in repository %q: %w", m.Change, m.Repository, no)
			continue
		}
		overtaken := b.standings.beyond(headAt{job.Project.Name, m.Repository, m.Head}, job.Event.Sequence) // a later fact tells what is true
		if err != nil && (!overtaken || ctx.Err() != nil) {
			return err
		}
	}
	if refused != nil {
		return events.Reject(refused)
	}
	return nil
}

func (b *builder) tell(ctx context.Context, job *service.Job, m events.MergeDetail) error {
	ref, known := job.Project.Repository(m.Repository)
	if !known || ref.Forge == nil {
		return nil
	}
	place, err := forge.Locate(ref)
	if err != nil {
		return &forge.Refusal{Reason: err.Error()}
	}
	at := headAt{job.Project.Name, m.Repository, m.Head}
	d := b.teller.desk(job.Project.Name + "\x00" + place.API())
	for {
		s, ok := b.wanted(at)
		if !ok || b.teller.has(at, s) {
			return nil
		}
		if err := d.begin(ctx, nameOf(ref)); err != nil {
			return late(ctx, job, err)
		}
		if s, ok = b.wanted(at); !ok || b.teller.has(at, s) { // it went on meanwhile
			<-d.turn
			return nil
		}
		if err = d.end(ctx, nameOf(ref), b.say(ctx, job, ref, place, at, s)); err != nil {
			return late(ctx, job, err)
		}
	}
}

// nameOf is the secret that holds a forge's token.
func nameOf(ref events.RepositoryRef) string { return strings.TrimPrefix(ref.Forge.Token, "secret:") }

// say tells one status.
func (b *builder) say(ctx context.Context, job *service.Job, ref events.RepositoryRef, place forge.Place, at headAt, s forge.Status) error {
	name := nameOf(ref)
	token, err := secret.Read(b.options.SecretsDir, job.Project.Name, name)
	if err != nil {
		err = &forge.Refusal{Reason: fmt.Sprintf("the forge's token, secret:%s, can not be read", name), Token: true}
	} else {
		b.teller.note(at, forge.Status{}) // what a request that breaks off does, nobody knows
		err = b.teller.client.Tell(ctx, place, token, s)
	}
	var no *forge.Refusal
	switch {
	case err == nil:
		b.teller.note(at, s)
	case errors.As(err, &no) && no.Token:
		b.options.Log("a forge's token has to be mended", "project", job.Project.Name, "repository", ref.Name, "secret", name, "error", no.Reason)
	}
	return err
}

// late gives up what has been tried for long enough.
func late(ctx context.Context, job *service.Job, err error) error {
	if ctx.Err() == nil && job.Tries > patience && time.Since(job.Event.Stored) > loyalty {
		return &forge.Refusal{Reason: fmt.Sprintf("given up after %s: %v", loyalty, err)}
	}
	return err
}

// wanted is what a forge has to be told of a head now.
func (b *builder) wanted(at headAt) (forge.Status, bool) {
	one, ok := b.standings.of(at)
	if !ok {
		return forge.Status{}, false
	}
	s := forge.Status{Commit: at.Head, State: one.State, Description: one.Words, Branch: one.Branch}
	if b.options.Public != "" && one.Chain != "" {
		s.Target = strings.TrimRight(b.options.Public, "/") + "/?chain=" + url.QueryEscape(one.Chain)
	}
	return s, true
}

func (t *teller) has(at headAt, s forge.Status) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.said[at] == s
}

func (t *teller) note(at headAt, s forge.Status) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s == (forge.Status{}) {
		delete(t.said, at)
		return
	}
	if len(t.said) >= keptTold {
		clear(t.said) // told twice it does no harm
	}
	t.said[at] = s
}

func (t *teller) desk(key string) *desk {
	t.mu.Lock()
	defer t.mu.Unlock()
	d := t.desks[key]
	if d == nil {
		d = &desk{turn: make(chan struct{}, 1), rests: map[string]rest{}}
		t.desks[key] = d
	}
	return d
}

// begin waits for the turn of whoever has the token of a secret, unless many do or the forge is left alone: then it is to come again.
func (d *desk) begin(ctx context.Context, secret string) error {
	if err := d.resting(secret); err != nil {
		return err
	}
	d.mu.Lock()
	if d.waiting >= queueing {
		d.mu.Unlock()
		return events.Retry(spread(), errors.New("other statuses of the project are told first"))
	}
	d.waiting++
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		d.waiting--
		d.mu.Unlock()
	}()
	select {
	case d.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := d.resting(secret); err != nil {
		<-d.turn
		return err
	}
	return nil
}

func (d *desk) resting(secret string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var longest rest
	for _, what := range []string{toTell, toList, tokenOf(secret)} {
		if one := d.rests[what]; one.until.After(longest.until) {
			longest = one
		}
	}
	if left := time.Until(longest.until); left > 0 {
		return events.Retry(left+spread(), fmt.Errorf("the forge is left alone for a time: %w", longest.why))
	}
	return nil
}

// end gives the turn on, and says what the error of telling a status means.
func (d *desk) end(ctx context.Context, secret string, err error) error {
	defer func() { <-d.turn }()
	if ctx.Err() != nil {
		return unfinished(err, ctx.Err())
	}
	var no *forge.Refusal
	switch {
	case errors.As(err, &no) && no.Token: // of the forge, not of the status: whoever mends it has time to
		err = errors.New(no.Reason)
		return events.Retry(d.fault(tokenOf(secret), err)+spread(), err)
	case err == nil || no != nil:
		d.well(toTell, tokenOf(secret))
		return err
	}
	return events.Retry(d.fault(toTell, err)+spread(), err)
}

// well ends rests: the forge has answered.
func (d *desk) well(what ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, one := range what {
		delete(d.rests, one)
	}
}

// fault notes that a forge is away or busy, or a token none, and says for how long it is left alone.
func (d *desk) fault(what string, err error) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	failed := d.rests[what].failed + 1
	after := min(time.Second<<min(failed-1, 16), mostRest)
	var busy *forge.Busy
	if errors.As(err, &busy) {
		after = max(busy.After, after)
	}
	d.rests[what] = rest{time.Now().Add(after), err, failed}
	return after
}

// unfinished is nil where the work was done before it was stopped.
func unfinished(err, stopped error) error {
	if err == nil {
		return nil
	}
	return stopped
}

// spread is about a second, so that those who wait do not come together.
func spread() time.Duration { return time.Second/2 + rand.N(time.Second) } //nolint:gosec // it is no secret
