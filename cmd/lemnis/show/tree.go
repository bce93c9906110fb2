package show

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
)

// node is an event with what followed from it.
type node struct {
	event    events.Event
	children []*node
	loose    bool // it hangs here by its aggregate, not by its cause
	size     int  // of the tree under it, itself included
	ticks    int  // canary ticks that were left out behind it
}

// Tree writes the events of a chain, which have to be in the order of the stream, as the tree of what caused what: time
// since the first, phase, type, key, summary. What stands right below an event at the same depth followed from it; where
// several things followed, all but the one with the longest history branch off. The ticks of canaries are only counted,
// unless they are asked for.
//
// A fact that an effect's result caused names that result, which is the service's own business and not among the claims and
// facts: it hangs on the fact before it of the same aggregate, which asked for the effect, and is marked with ⋯.
func Tree(w io.Writer, chain []events.Event, ticks bool) error {
	roots := grow(chain, ticks)
	for _, r := range roots {
		r.measure()
		if err := r.write(w, at(chain[0]), "", ""); err != nil {
			return err
		}
	}
	return nil
}

func grow(chain []events.Event, ticks bool) (roots []*node) {
	byID := map[string]*node{}
	type aggregate struct {
		project, kind, key string
		phase              events.Phase
	}
	last := map[aggregate]*node{}
	for _, e := range chain {
		n := &node{event: e}
		own := aggregate{e.Project, e.Aggregate, e.Key, e.Phase}
		parent := byID[e.Cause]
		if parent == nil && e.Kind == events.Stated {
			if parent = last[own]; parent == nil {
				parent = asker(byID, e)
			}
			n.loose = parent != nil
		}
		if _, tick := e.Content.(events.CanaryObserved); tick && !ticks && parent != nil {
			parent.ticks++
			n = parent // what follows from the tick hangs where it would
		} else if parent == nil {
			roots = append(roots, n)
		} else {
			parent.children = append(parent.children, n)
		}
		// The ids of claims are chosen outside; the first counts.
		if byID[e.ID] == nil {
			byID[e.ID] = n
		}
		if e.Kind == events.Stated {
			last[own] = n
		}
	}
	return roots
}

// asker finds, for the first fact of an aggregate, an event of the chain that it is tied to by a link.
func asker(byID map[string]*node, e events.Event) *node {
	for _, l := range e.Links {
		if n := byID[l.Context]; n != nil {
			return n
		}
	}
	return nil
}

// measure counts, and puts the child with the longest history last, which goes on in its parent's column.
func (n *node) measure() {
	n.size = 1
	longest := -1
	for i, child := range n.children {
		child.measure()
		n.size += child.size
		if longest < 0 || child.size >= n.children[longest].size {
			longest = i
		}
	}
	if longest >= 0 {
		child := n.children[longest]
		n.children = append(slices.Delete(n.children, longest, longest+1), child)
	}
}

func (n *node) write(w io.Writer, began time.Time, lead, indent string) error {
	e := n.event
	mark, tail := "", ""
	if n.loose {
		lead += "⋯ "
	}
	if e.Kind == events.Claim {
		mark = " (claim)"
	}
	if n.ticks > 0 {
		tail = fmt.Sprintf("; %d ticks", n.ticks)
	}
	line := fmt.Sprintf("%9s  %-9s  %s%s%s  %s  %s%s", since(at(e).Sub(began)), e.Phase, lead, e.Type.Short(), mark, oneLine(e.Key), Summary(e), tail)
	if _, err := fmt.Fprintln(w, strings.TrimRight(line, " ")); err != nil {
		return err
	}
	for i, child := range n.children {
		if i == len(n.children)-1 {
			return child.write(w, began, indent, indent)
		}
		if err := child.write(w, began, indent+"├─ ", indent+"│  "); err != nil {
			return err
		}
	}
	return nil
}

// at is when an event was stored, which is what can be compared: the time that it carries is its author's, who may speak
// of last year.
func at(e events.Event) time.Time {
	if e.Stored.IsZero() {
		return e.Time
	}
	return e.Stored
}

// since writes a time span as seconds with hundredths, or with minutes where it is long.
func since(d time.Duration) string {
	if d < 10*time.Minute {
		return fmt.Sprintf("+%.2fs", d.Seconds())
	}
	return "+" + d.Round(time.Second).String()
}
