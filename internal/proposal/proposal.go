package proposal

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
)

// longestDescription is how many bytes of a description are kept.
const longestDescription = 16 << 10

// Nobody is whose account is gone.
const Nobody = "ghost"

// State is what has become of a proposal. The empty one is none of these, as GitLab's while it merges.
type State string

// The states of a proposal.
const (
	Open   State = "open"
	Closed State = "closed" // and not merged
	Merged State = "merged"
)

// Proposal is a pull or merge request.
type Proposal struct {
	Number             int64
	Page               string // its address for people
	Project            string // that of the repository into which it goes; empty: not said
	Title, Description string // the description up to its bound
	Ticket             int64  // the issue that the words close; 0: none
	Branch, Base, Head string
	Ref                string // where the repository offers it, if the branch is another's
	Author             string
	State              State
	Merge              string    // commit that it was merged by
	At                 time.Time // when it last changed, or was merged
}

// Repository is where proposals go, as the project calls it, with the addresses to which numbers are added.
type Repository struct{ Name, Issues, Changes string }

// Numbered is the key of a change or a ticket: <repository>#<number>. The numbers of two repositories are not confused.
func (r Repository) Numbered(n int64) string { return r.Name + "#" + strconv.FormatInt(n, 10) }

// Number is what Numbered made a key of; false for any other key.
func (r Repository) Number(key string) (int64, bool) {
	text, ours := strings.CutPrefix(key, r.Name+"#")
	n, err := strconv.ParseInt(text, 10, 64)
	return n, ours && err == nil && n > 0 && r.Numbered(n) == key
}

func (r Repository) reference() *events.Reference { return &events.Reference{ID: r.Name} }

// closing finds the ticket that a proposal answers, in the words that forges close issues by.
var closing = regexp.MustCompile(`(?i)\b(?:close[sd]?|closing|fix(?:e[sd])?|fixing|resolve[sd]?|resolving):?\s+#([0-9]{1,15})\b`)

func ticket(texts ...string) int64 {
	for _, text := range texts {
		if m := closing.FindStringSubmatch(text); m != nil {
			n, _ := strconv.ParseInt(m[1], 10, 64) // of so few digits it never fails
			return n
		}
	}
	return 0
}

// Turn is the ticket that the proposal answers, where it names one, else the proposal itself: the address that its chain is named after. item
// is the ticket's key, ticket its address.
func (p Proposal) Turn(r Repository) (address, item, ticket string) {
	if p.Ticket > 0 {
		ticket = r.Issues + strconv.FormatInt(p.Ticket, 10)
		return ticket, r.Numbered(p.Ticket), ticket
	}
	return p.page(r), "", ""
}

func (p Proposal) page(r Repository) string {
	if p.Page != "" {
		return p.Page
	}
	return r.Changes + strconv.FormatInt(p.Number, 10)
}

func (p Proposal) detail(r Repository) events.ChangeDetail {
	_, item, _ := p.Turn(r)
	return events.ChangeDetail{
		Repository: r.Name, Title: p.Title, Branch: p.Branch, Ref: p.Ref, Base: p.Base, Head: p.Head, Author: p.Author, Item: item, URL: p.page(r),
	}
}

// Created says that the change is proposed.
func (p Proposal) Created(r Repository) events.ChangeCreated {
	return events.ChangeCreated{Description: p.Description, Repository: r.reference(), Lemnis: p.detail(r)}
}

// Updated says that it has another head or other words. Its author is whoever pushed the head, or nobody where that is not known or only words
// changed: an author can not review.
func (p Proposal) Updated(r Repository, pushedBy string) events.ChangeUpdated {
	d := p.detail(r)
	d.Author = pushedBy
	return events.ChangeUpdated{Repository: r.reference(), Lemnis: d}
}

// Abandoned says that it was closed without a merge.
func (p Proposal) Abandoned(r Repository) events.ChangeAbandoned {
	return events.ChangeAbandoned{Repository: r.reference()}
}

// Merged says that its forge has merged it.
func (p Proposal) Merged(r Repository) events.ChangeMerged {
	d := p.detail(r)
	return events.ChangeMerged{Repository: r.reference(), Lemnis: events.MergeDetail{
		Change: r.Numbered(p.Number), Repository: d.Repository, Branch: d.Branch, Ref: d.Ref, Base: d.Base, Head: d.Head, Commit: p.Merge, Item: d.Item,
		Title: d.Title, Author: d.Author,
	}}
}

// Chain names a turn of the loop after an address at a forge, so that whatever is heard of it finds the same one.
func Chain(project, address string) string {
	if address == "" {
		return ""
	}
	sum := sha256.Sum256([]byte("lemnis webhook chain\x00" + project + "\x00" + strings.ToLower(strings.TrimRight(address, "/"))))
	u := sum[:16]
	u[6], u[8] = u[6]&0x0f|0x80, u[8]&0x3f|0x80 // a UUID of version 8: made as its author likes
	x := hex.EncodeToString(u)
	return strings.Join([]string{x[:8], x[8:12], x[12:16], x[16:20], x[20:]}, "-")
}
