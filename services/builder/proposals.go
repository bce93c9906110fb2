package builder

import (
	"cmp"
	"encoding/json"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/lemnis/lemnis/internal/proposal"
	"github.com/lemnis/lemnis/pkg/events"
)

// proposals is the read model of the changes that forges know too, beside which their lists are held, and of the projects that have such forges.
type proposals struct {
	mu       sync.Mutex
	projects map[string]events.Project
	changes  map[place]proposed
	count    map[fate]int // of changes
	seen     uint64       // sequence of the last fact
}

// proposed is a change as it stands here.
type proposed struct {
	Stage  stage  `json:"stage"`
	Head   string `json:"head"`
	Base   uint64 `json:"base,omitempty"`   // digest
	Title  uint64 `json:"title"`            // digests
	Item   uint64 `json:"item,omitempty"`   // 0: none
	ByHand bool   `json:"byHand,omitempty"` // it was not the forge that abandoned it
	Listed bool   `json:"listed,omitempty"` // it is open at the forge though somebody abandoned it here
	At     uint64 `json:"at"`               // sequence of the last fact
}

type stage string

const (
	proposedOpen      stage = "open"
	proposedAbandoned stage = "abandoned"
	proposedMerged    stage = "merged"
)

// fate says how long a change is remembered.
type fate int

const (
	fateOpen   fate = iota // while it is open
	fateEnded              // as one of the last
	fateByHand             // so too, apart: the forge may have it still, and is not to bring it back
	fateListed             // while the forge has it
)

func (one proposed) fate() fate {
	switch {
	case one.Stage == proposedOpen:
		return fateOpen
	case one.Stage != proposedAbandoned || !one.ByHand:
		return fateEnded
	case one.Listed:
		return fateListed
	}
	return fateByHand
}

// proposalTypes are the facts that the read model is made of.
var proposalTypes = []events.Type{
	events.TypeOf(events.ProjectConfigured{}), events.TypeOf(events.ChangeCreated{}), events.TypeOf(events.ChangeUpdated{}),
	events.TypeOf(events.ChangeAbandoned{}), events.TypeOf(events.ChangeMerged{}),
}

func newProposals() *proposals {
	return &proposals{projects: map[string]events.Project{}, changes: map[place]proposed{}, count: map[fate]int{}}
}

// digest of a text; 0 for none.
func digest(text string) uint64 {
	if text == "" {
		return 0
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(text)) // never fails
	return max(h.Sum64(), 1)
}

func (q *proposals) apply(e events.Event) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.seen = max(q.seen, e.Sequence)
	at := place{e.Project, e.Key}
	one, known := q.changes[at]
	one.At = e.Sequence
	stands := func(d events.ChangeDetail) {
		if _, listed := (proposal.Repository{Name: d.Repository}).Number(e.Key); listed {
			q.set(at, proposed{Stage: proposedOpen, Head: d.Head, Base: digest(d.Base), Title: digest(d.Title), Item: digest(d.Item), At: e.Sequence})
		}
	}
	switch c := e.Content.(type) {
	case events.ProjectConfigured:
		delete(q.projects, e.Project)
		c.Project.Revision = c.Revision
		if slices.ContainsFunc(c.Project.Repositories, func(r events.RepositoryRef) bool { return r.Forge != nil }) {
			q.projects[e.Project] = c.Project
		}
	case events.ChangeCreated:
		stands(c.Lemnis)
	case events.ChangeUpdated:
		stands(c.Lemnis)
	case events.ChangeAbandoned:
		if known {
			one.Stage, one.ByHand = proposedAbandoned, e.Principal != "" && !strings.HasPrefix(e.Principal, events.WebhookPrefix)
			q.set(at, one)
		}
	case events.ChangeMerged:
		if known {
			one.Stage = proposedMerged
			q.set(at, one)
		}
	}
}

func (q *proposals) set(at place, one proposed) {
	if old, known := q.changes[at]; known {
		q.count[old.fate()]--
	}
	q.changes[at] = one
	q.count[one.fate()]++
	q.forget(fateEnded)
	q.forget(fateByHand)
}

// forget forgets, where there are too many of a fate, half of what is remembered: those of projects without a forge, which may get one, and then
// those that ended first.
func (q *proposals) forget(f fate) {
	if q.count[f] <= keptRounds {
		return
	}
	var all []place
	for at, one := range q.changes {
		if one.fate() == f {
			all = append(all, at)
		}
	}
	has := func(at place) int {
		if _, forge := q.projects[at.project]; forge {
			return 1
		}
		return 0
	}
	slices.SortFunc(all, func(a, b place) int {
		return cmp.Or(cmp.Compare(has(a), has(b)), cmp.Compare(q.changes[a].At, q.changes[b].At))
	})
	for _, at := range all[:len(all)-keptRounds/2] {
		delete(q.changes, at)
	}
	q.count[f] = keptRounds / 2
}

// list notes which changes are open at a forge, of those that somebody abandoned here. In a list that is not whole there may be more.
func (q *proposals) list(project string, r proposal.Repository, open map[int64]bool, whole bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for at, one := range q.changes {
		if f := one.fate(); f != fateListed && f != fateByHand || at.project != project {
			continue
		}
		if n, ours := r.Number(at.change); ours && open[n] != one.Listed && (open[n] || whole) {
			one.Listed = open[n]
			q.set(at, one)
		}
	}
}

// configured lists the projects that have a repository with a forge, by name.
func (q *proposals) configured() []events.Project {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.SortedFunc(maps.Values(q.projects), func(a, b events.Project) int { return cmp.Compare(a.Name, b.Name) })
}

// now is the sequence of the last fact that is known here.
func (q *proposals) now() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.seen
}

// of is a change as it stands; false when it is not known, or forgotten.
func (q *proposals) of(project, change string) (proposed, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	one, known := q.changes[place{project, change}]
	return one, known
}

// open lists the numbers of a repository's changes that are open here, in order.
func (q *proposals) open(project string, r proposal.Repository) (numbers []int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for at, one := range q.changes {
		if n, ours := r.Number(at.change); ours && at.project == project && one.Stage == proposedOpen {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers
}

// savedProposals are proposals as a snapshot has them.
type savedProposals struct {
	Seen     uint64           `json:"seen"`
	Projects []events.Project `json:"projects"`
	Changes  []savedProposal  `json:"changes"`
}

type savedProposal struct {
	Project string `json:"project"`
	Change  string `json:"change"`
	proposed
}

func (q *proposals) save() ([]byte, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := savedProposals{Seen: q.seen, Projects: slices.Collect(maps.Values(q.projects))}
	for at, one := range q.changes {
		all.Changes = append(all.Changes, savedProposal{at.project, at.change, one})
	}
	return json.Marshal(all)
}

func (q *proposals) load(text []byte) error {
	var all savedProposals
	if err := json.Unmarshal(text, &all); err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	clear(q.projects)
	clear(q.changes)
	clear(q.count)
	q.seen = all.Seen
	for _, p := range all.Projects {
		q.projects[p.Name] = p
	}
	for _, one := range all.Changes {
		q.set(place{one.Project, one.Change}, one.proposed)
	}
	return nil
}
