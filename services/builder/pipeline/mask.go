package pipeline

import (
	"bytes"
	"io"
	"math"
	"slices"
	"strings"
)

// leastSecret is how many bytes a secret has to have to be masked: of a shorter one every other word would be.
const leastSecret = 4

var stars = []byte("***")

// mask writes on with secrets replaced, also those that come in pieces: what could be the beginning of one is held back until
// it is known.
type mask struct {
	out     io.Writer
	secrets []*wanted // longest first
	held    []byte
	joined  []byte // what was held with what came, to be used again
	counts  [256]int32
}

// wanted is a secret, and where it is found next.
type wanted struct {
	text []byte
	rare int // place in the text of the byte that is looked for; -1: the text as a whole
	next int // -1: not in what is left
}

func newMask(secrets []string, out io.Writer) *mask {
	m := &mask{out: out}
	for _, secret := range secrets {
		for line := range strings.Lines(secret) { // of several lines, each: programs indent them
			if line = strings.TrimSpace(line); len(line) >= leastSecret {
				m.secrets = append(m.secrets, &wanted{text: []byte(line)})
			}
		}
	}
	slices.SortFunc(m.secrets, func(a, b *wanted) int { return len(b.text) - len(a.text) })
	return m
}

func (m *mask) Write(p []byte) (int, error) {
	n := len(p)
	if len(m.secrets) == 0 {
		return m.out.Write(p)
	}
	if len(m.held) > 0 {
		m.joined = append(append(m.joined[:0], m.held...), p...)
		p = m.joined
	}
	m.choose(p)
	for _, s := range m.secrets {
		s.next = s.find(p, 0)
	}
	from, open := 0, m.open(p, 0)
	for {
		at, length := m.first()
		if at < 0 {
			break
		}
		// A longer secret that holds this one may still be on its way.
		if open <= at {
			break
		}
		if err := m.pass(p[from:at], true); err != nil {
			return 0, err
		}
		from = at + length
		m.skip(p, from)
		if open < from {
			open = m.open(p, from)
		}
	}
	if err := m.pass(p[from:open], false); err != nil {
		return 0, err
	}
	m.held = append(m.held[:0], p[open:]...)
	return n, nil
}

// pass writes on what is no secret, and stars in the place of one that follows.
func (m *mask) pass(p []byte, secret bool) error {
	if len(p) > 0 {
		if _, err := m.out.Write(p); err != nil {
			return err
		}
	}
	if !secret {
		return nil
	}
	_, err := m.out.Write(stars)
	return err
}

// first is the secret that begins first; of several, the longest.
func (m *mask) first() (at, length int) {
	at = -1
	for _, s := range m.secrets {
		if s.next >= 0 && (at < 0 || s.next < at) {
			at, length = s.next, len(s.text)
		}
	}
	return at, length
}

// skip looks on for the secrets that began before a place.
func (m *mask) skip(p []byte, from int) {
	for _, s := range m.secrets {
		if s.next >= 0 && s.next < from {
			s.next = s.find(p, from)
		}
	}
}

// open is where, from a place on, the longest end of p begins that is the beginning of a secret; the end of p when none is.
func (m *mask) open(p []byte, from int) int {
	best := len(p)
	for _, s := range m.secrets {
		for at := max(from, len(p)-len(s.text)+1); at < best; at++ {
			if bytes.HasPrefix(s.text, p[at:]) {
				best = at
			}
		}
	}
	return best
}

// Flush writes what was held back: it is no secret any more.
func (m *mask) Flush() error {
	rest, from := m.held, 0
	m.held = nil
	for _, s := range m.secrets {
		s.next = s.find(rest, 0)
	}
	for at, length := m.first(); at >= 0; at, length = m.first() {
		if err := m.pass(rest[from:at], true); err != nil {
			return err
		}
		from = at + length
		m.skip(rest, from)
	}
	return m.pass(rest[from:], false)
}

const (
	sampled = 4 << 10 // bytes of a piece by which its commonness of bytes is judged
	common  = 12      // a byte that is more than one of so many is looked for together with the others
)

// choose has each secret looked for by the byte of it that is rarest in what is printed: lines may share whatever else with it.
func (m *mask) choose(p []byte) {
	if len(p) < sampled {
		for _, s := range m.secrets {
			s.rare = -1
		}
		return
	}
	clear(m.counts[:])
	// From all over the piece: its beginning may be unlike the rest.
	for block, step := 0, len(p)/16; block < 16; block++ {
		for _, b := range p[block*step:][:sampled/16] {
			m.counts[b]++
		}
	}
	for _, s := range m.secrets {
		least := int32(math.MaxInt32)
		for i, b := range s.text {
			if m.counts[b] < least {
				s.rare, least = i, m.counts[b]
			}
		}
		if least > sampled/common {
			s.rare = -1
		}
	}
}

// find is where the secret begins next, from a place on; -1 when it does not.
func (s *wanted) find(p []byte, from int) int {
	if s.rare < 0 {
		at := bytes.Index(p[from:], s.text)
		if at < 0 {
			return -1
		}
		return from + at
	}
	rare, last := s.text[s.rare], len(p)-len(s.text)
	for at := from + s.rare; at-s.rare <= last; at++ {
		hit := bytes.IndexByte(p[at:last+s.rare+1], rare)
		if hit < 0 {
			return -1
		}
		at += hit
		if begin := at - s.rare; p[begin] == s.text[0] && bytes.Equal(p[begin:begin+len(s.text)], s.text) {
			return begin
		}
	}
	return -1
}
