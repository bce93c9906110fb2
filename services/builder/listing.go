package builder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/lemnis/lemnis/internal/proposal"
	"github.com/lemnis/lemnis/internal/secret"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"

	"github.com/lemnis/lemnis/services/builder/forge"
)

// What a webhook would have claimed of changes is read from the APIs of forges too: the changes that are open there are held beside those that
// are open here, and each difference is reported (docs/adr/0020-listing.md).

const (
	listEvery  = time.Minute
	listAtOnce = 8                // projects
	listLonger = time.Minute      // than that no project is read at a time
	afterNo    = 10 * time.Minute // before a forge is asked again that has said no
	mostPages  = 40
	mostBad    = 1000 // changes that can not be read, of which it is remembered that this was said
	mostLooked = 20   // changes that are looked at one by one in a round, as they are not in the list any more
)

// lister is the duty that reads the changes that are open at forges.
type lister struct {
	*builder
	every time.Duration

	mu    sync.Mutex
	lists map[place]*list // by project and repository
}

// list is what is remembered of the list of a repository.
type list struct {
	revision uint64
	pages    []page
	said     map[int64]string // of each change which difference was reported last, so that what comes to nothing is not reported for ever
	over     map[int64]uint64 // changes that are open here only, with the fact that they stand by
	next     int64            // the number from which on those that are not listed are looked at
	bad      map[string]bool  // what was logged of single changes
	failure  string           // kind of the one that was logged last
	after    time.Time        // when the forge is asked again
}

// page is a page of a list as it was read.
type page struct {
	tag    string
	last   bool
	listed []sketch
}

// sketch is what of a proposal is held beside what is known: little, as it is kept of each that is open. Texts are digests.
type sketch struct {
	number      int64
	state       proposal.State
	base        uint64
	head        uint64 // 0: GitLab makes it still
	title, item uint64
}

func sketchOf(p proposal.Proposal, r proposal.Repository) sketch {
	_, item, _ := p.Turn(r)
	return sketch{number: p.Number, state: p.State, base: digest(p.Base), head: digest(p.Head), title: digest(p.Title), item: digest(item)}
}

func (l *lister) run(ctx context.Context, r *service.Reporter) error {
	l.mu.Lock()
	l.lists = map[place]*list{} // what an earlier term has read may have changed since
	l.mu.Unlock()
	tick := time.NewTicker(l.every)
	defer tick.Stop()
	for {
		l.round(ctx, r)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// round reads all lists once: those of a project one after the other, as forges ask for.
func (l *lister) round(ctx context.Context, r *service.Reporter) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, listAtOnce)
	known := map[place]bool{}
	for _, p := range l.proposals.configured() {
		if !p.Runs(events.Develop) {
			continue
		}
		for _, ref := range p.Repositories {
			known[place{p.Name, ref.Name}] = ref.Forge != nil
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			within, cancel := context.WithTimeout(ctx, listLonger)
			defer cancel()
			for _, ref := range p.Repositories {
				if ref.Forge != nil && ctx.Err() == nil {
					l.repository(within, r, p, ref)
				}
			}
		})
	}
	wg.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	for at := range l.lists {
		if !known[at] {
			delete(l.lists, at)
		}
	}
}

// repository reads the list of one, and says what went wrong with it, once.
func (l *lister) repository(ctx context.Context, r *service.Reporter, p events.Project, ref events.RepositoryRef) {
	at := place{p.Name, ref.Name}
	l.mu.Lock()
	one := l.lists[at]
	if one == nil || one.revision != p.Revision {
		one = &list{revision: p.Revision, said: map[int64]string{}, over: map[int64]uint64{}, bad: map[string]bool{}}
		l.lists[at] = one
	}
	l.mu.Unlock()
	if time.Now().Before(one.after) {
		return
	}
	err := l.read(ctx, r, p, ref, one)
	var no *forge.Refusal
	switch {
	case errors.Is(err, errLeftAlone) || errors.Is(err, context.Canceled):
		return
	case errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("the forges of the project take longer than %s", listLonger)
	case errors.As(err, &no):
		one.after = time.Now().Add(afterNo)
	}
	if failure := kindOf(err); failure != one.failure {
		if err != nil {
			l.options.Log("the open changes of a repository are not read from its forge", "project", p.Name, "repository", ref.Name, "error", err.Error())
		} else {
			l.options.Log("the open changes of a repository are read from its forge again", "project", p.Name, "repository", ref.Name)
		}
		one.failure = failure
	}
}

// kindOf tells failures apart that somebody mends in different ways; the words of one may be others each time.
func kindOf(err error) string {
	var no *forge.Refusal
	var unreadable *forge.Unreadable
	switch {
	case err == nil:
		return ""
	case errors.As(err, &no) && no.Status == 0:
		return no.Reason
	case errors.As(err, &no):
		return fmt.Sprintf("answers %d", no.Status)
	case errors.As(err, &unreadable):
		return "unreadable"
	case errors.Is(err, errTooMany):
		return "too many"
	case errors.Is(err, errUnreported):
		return "unreported"
	}
	return "away, or busy"
}

var (
	errTooMany    = errors.New("too many changes are open")
	errUnreported = errors.New("what is new can not be reported")
)

// errLeftAlone says that a forge is not asked now: why was said by whoever asked it last.
var errLeftAlone = errors.New("the forge is left alone for a time")

// reading is a list that is being read.
type reading struct {
	*lister
	reporter *service.Reporter
	project  events.Project
	ref      events.RepositoryRef
	list     *list
	place    forge.Place
	token    string
	desk     *desk
}

// read holds the list of a repository beside what is known here.
func (l *lister) read(ctx context.Context, r *service.Reporter, p events.Project, ref events.RepositoryRef, one *list) error {
	where, err := forge.Locate(ref)
	if err != nil {
		return &forge.Refusal{Reason: err.Error()}
	}
	name := nameOf(ref)
	token, err := secret.Read(l.options.SecretsDir, p.Name, name)
	if err != nil {
		return &forge.Refusal{Reason: fmt.Sprintf("the forge's token, secret:%s, can not be read", name)}
	}
	x := reading{l, r, p, ref, one, where, token, l.teller.desk(p.Name + "\x00" + where.API())}
	open, whole, err := x.pages(ctx)
	if err != nil {
		return err
	}
	x.proposals.list(p.Name, x.ours(), open, whole)
	looked, err := x.missing(ctx, open)
	if err != nil {
		return err
	}
	for n := range one.said {
		if !open[n] && !looked[n] {
			delete(one.said, n)
		}
	}
	if !whole {
		return fmt.Errorf("%w: more than %d in %s; the oldest of them are not read", errTooMany, len(open), ref.Name)
	}
	return nil
}

// pages reads the list, page by page, and reports what is new in each at once. A page is known again by its tag only where all that is on it is
// known here too: what went on here, a tag does not tell.
func (x reading) pages(ctx context.Context) (open map[int64]bool, whole bool, err error) {
	open = map[int64]bool{}
	for n := range mostPages {
		var was page
		if n < len(x.list.pages) {
			was = x.list.pages[n]
		}
		if slices.ContainsFunc(was.listed, x.unsettled) {
			was.tag = ""
		}
		before := x.proposals.now()
		var got forge.Page
		if err := x.ask(ctx, func() (err error) {
			got, err = x.teller.client.List(ctx, x.place, x.token, n+1, was.tag)
			return err
		}); err != nil {
			return nil, false, err
		}
		if !got.Same {
			was = page{tag: got.Tag, last: got.Last}
			for _, words := range got.Bad {
				x.skip(words)
			}
			for _, p := range got.Proposals {
				was.listed = append(was.listed, sketchOf(p, x.ours()))
				if err := x.compare(ctx, p, before); err != nil {
					return nil, false, err
				}
			}
			x.list.pages = append(x.list.pages[:min(n, len(x.list.pages))], was)
		}
		for _, s := range was.listed {
			open[s.number] = true
			delete(x.list.over, s.number)
		}
		if was.last {
			x.list.pages = x.list.pages[:n+1]
			return open, true, nil
		}
	}
	return open, false, nil
}

// ours is the repository as keys of changes name it.
func (x reading) ours() proposal.Repository { return proposal.Repository{Name: x.ref.Name} }

// missing looks at changes that are open here and not in the list, some in each round.
func (x reading) missing(ctx context.Context, open map[int64]bool) (looked map[int64]bool, err error) {
	ours := x.ours()
	numbers := slices.DeleteFunc(x.proposals.open(x.project.Name, ours), func(n int64) bool {
		known, _ := x.proposals.of(x.project.Name, ours.Numbered(n))
		return open[n] || x.list.over[n] == known.At
	})
	looked = map[int64]bool{}
	from, _ := slices.BinarySearch(numbers, x.list.next)
	for _, n := range slices.Concat(numbers[from:], numbers[:from]) {
		if len(looked) == mostLooked {
			break
		}
		before := x.proposals.now()
		known, _ := x.proposals.of(x.project.Name, ours.Numbered(n))
		var p proposal.Proposal
		var there bool
		if err := x.ask(ctx, func() (err error) {
			p, there, err = x.teller.client.Get(ctx, x.place, x.token, n)
			return err
		}); err != nil {
			var unreadable *forge.Unreadable
			if !errors.As(err, &unreadable) {
				return nil, err
			}
			x.skip(unreadable.Reason)
			looked[n], x.list.next = true, n+1
			continue
		}
		looked[n], x.list.next = true, n+1
		if there {
			if err := x.compare(ctx, p, before); err != nil {
				return nil, err
			}
		}
		if !there || p.State == proposal.Merged && x.project.Runs(events.Integrate) {
			x.list.over[n] = known.At // nothing follows from it
		}
	}
	return looked, nil
}

// compare reports what is new of a change.
func (x reading) compare(ctx context.Context, p proposal.Proposal, before uint64) error {
	r, err := p.Repository(x.ref.Forge.Kind, x.ref.Name)
	if err != nil {
		x.skip(fmt.Sprintf("change %d: %v", p.Number, err))
		return nil
	}
	key := r.Numbered(p.Number)
	known, there := x.proposals.of(x.project.Name, key)
	if there && known.At > before {
		return nil // it went on while the forge was asked: what that says may be older
	}
	s := sketchOf(p, r)
	found := x.differs(s, known, there)
	report := service.Report{Key: key, SubjectID: key}
	switch found {
	case noDifference:
		delete(x.list.said, p.Number)
		return nil
	case wasOpened:
		report.Content = p.Created(r)
	case wasMoved:
		p.Branch = "" // GitLab's list does not say whose it is
		report.Content = p.Updated(r, "")
	case wasClosed:
		report.Content = p.Abandoned(r)
	case wasMerged:
		report.Content, report.Phase = p.Merged(r), events.Integrate
	}
	once := x.once(found, s, known)
	if x.list.said[p.Number] == once {
		return nil
	}
	address, _, _ := p.Turn(r)
	if err := x.reporter.Report(ctx, x.project.Name, proposal.Chain(x.project.Name, address), once, report); err != nil {
		return fmt.Errorf("%w: %w", errUnreported, err)
	}
	x.list.said[p.Number] = once
	return nil
}

// skip says, once, that a change can not be read: the others can.
func (x reading) skip(words string) {
	if x.list.bad[words] {
		return
	}
	if len(x.list.bad) >= mostBad {
		clear(x.list.bad)
	}
	x.list.bad[words] = true
	x.options.Log("a change is passed over in the list of its forge", "project", x.project.Name, "repository", x.ref.Name, "error", words)
}

// unsettled says that there is a difference to what is known that was not reported.
func (x reading) unsettled(s sketch) bool {
	known, there := x.proposals.of(x.project.Name, x.ours().Numbered(s.number))
	found := x.differs(s, known, there)
	return found != noDifference && x.list.said[s.number] != x.once(found, s, known)
}

// once names a difference by both of its sides, and by the configuration that it was found under: the same one is one, whoever reports it, and
// one that comes about again is another.
func (x reading) once(found difference, s sketch, known proposed) string {
	return fmt.Sprintf("%s %d %d %+v", found, x.project.Revision, known.At, s)
}

// difference is what a forge's webhook would have said, as far as it is not known.
type difference string

const (
	noDifference difference = ""
	wasOpened    difference = "opened"
	wasMoved     difference = "moved"
	wasClosed    difference = "closed"
	wasMerged    difference = "merged"
)

func (x reading) differs(s sketch, known proposed, there bool) difference {
	open := there && known.Stage == proposedOpen
	ours := digest(cmp.Or(x.ref.Branch, "main"))
	head := s.head != digest(known.Head)
	switch {
	case open && s.base != 0 && s.base != cmp.Or(known.Base, ours): // into another branch it is another change, whatever has become of it
		return wasClosed
	case s.state == proposal.Closed && open:
		return wasClosed
	case s.state == proposal.Merged && open && !x.project.Runs(events.Integrate):
		return wasMerged
	case s.state != proposal.Open || s.head == 0:
		return noDifference
	case !open && s.base != ours:
		return noDifference // it is of no concern here, also where its webhook would be refused
	case !there, known.Stage == proposedAbandoned && (!known.ByHand || head):
		return wasOpened
	case known.Stage == proposedAbandoned:
		return noDifference
	case head || open && (s.title != known.Title || s.item != 0 && s.item != known.Item):
		return wasMoved
	}
	return noDifference
}

// ask asks a forge in the project's turn, which it shares with the statuses that are told.
func (x reading) ask(ctx context.Context, do func() error) error {
	d := x.desk
	if err := d.begin(ctx, nameOf(x.ref)); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return errLeftAlone
	}
	defer func() { <-d.turn }()
	err := do()
	if ctx.Err() != nil {
		return unfinished(err, ctx.Err())
	}
	var no *forge.Refusal
	var unreadable *forge.Unreadable
	if err == nil || errors.As(err, &no) || errors.As(err, &unreadable) {
		d.well(toList)
		return err
	}
	d.fault(toList, err)
	return err
}
