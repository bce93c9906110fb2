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
	seen     uint64 // sequence of the last fact
}

// proposed is a change as it stands here.
type proposed struct {
	Stage  stage  `json:"stage"`
	Head   string `json:"head"`
	Base   uint64 `json:"base,omitempty"`   // digest
	Title  uint64 `json:"title"`            // digests
	Item   uint64 `json:"item,omitempty"`   // 0: none
	ByHand bool   `json:"byHand,omitempty"` // it was not the forge that abandoned it
	At     uint64 `json:"at"`               // sequence of the last fact
}

type stage string

const (
	proposedOpen      stage = "open"
	proposedAbandoned stage = "abandoned"
	proposedMerged    stage = "merged"
)

// proposalTypes are the facts that the read model is made of.
var proposalTypes = []events.Type{
	events.TypeOf(events.ProjectConfigured{}), events.TypeOf(events.ChangeCreated{}), events.TypeOf(events.ChangeUpdated{}),
	events.TypeOf(events.ChangeAbandoned{}), events.TypeOf(events.ChangeMerged{}),
}

func newProposals() *proposals {
	return &proposals{projects: map[string]events.Project{}, changes: map[place]proposed{}}
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
			q.changes[at] = proposed{Stage: proposedOpen, Head: d.Head, Base: digest(d.Base), Title: digest(d.Title), Item: digest(d.Item), At: e.Sequence}
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
			q.changes[at] = one
		}
	case events.ChangeMerged:
		if known {
			one.Stage = proposedMerged
			q.changes[at] = one
		}
	}
	q.forget()
}

// forget forgets those that ended first, half of them at once.
func (q *proposals) forget() {
	if len(q.changes) <= keptRounds {
		return
	}
	var all []uint64
	for _, one := range q.changes {
		if one.Stage != proposedOpen {
			all = append(all, one.At)
		}
	}
	if len(all) <= keptRounds {
		return
	}
	slices.Sort(all)
	before := all[len(all)-keptRounds/2]
	maps.DeleteFunc(q.changes, func(_ place, one proposed) bool { return one.Stage != proposedOpen && one.At < before })
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
	q.seen = all.Seen
	for _, p := range all.Projects {
		q.projects[p.Name] = p
	}
	for _, one := range all.Changes {
		q.changes[place{one.Project, one.Change}] = one.proposed
	}
	return nil
}
