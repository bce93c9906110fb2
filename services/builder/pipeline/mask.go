package pipeline

import (
	"bytes"
	"io"
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
	secrets [][]byte // longest first
	held    []byte
}

func newMask(secrets []string, out io.Writer) *mask {
	m := &mask{out: out}
	for _, secret := range secrets {
		for line := range strings.Lines(secret) { // of several lines, each: programs indent them
			if line = strings.TrimSpace(line); len(line) >= leastSecret {
				m.secrets = append(m.secrets, []byte(line))
			}
		}
	}
	slices.SortFunc(m.secrets, func(a, b []byte) int { return len(b) - len(a) })
	return m
}

func (m *mask) Write(p []byte) (int, error) {
	n := len(p)
	if len(m.secrets) == 0 {
		return m.out.Write(p)
	}
	if len(m.held) > 0 {
		p = append(m.held, p...)
	}
	for {
		at, length := m.first(p)
		if at < 0 {
			break
		}
		// A longer secret that holds this one may still be on its way.
		if open := m.open(p); open >= 0 && open <= at {
			break
		}
		if _, err := m.out.Write(p[:at]); err != nil {
			return 0, err
		}
		if _, err := m.out.Write(stars); err != nil {
			return 0, err
		}
		p = p[at+length:]
	}
	keep := len(p)
	if open := m.open(p); open >= 0 {
		keep = open
	}
	if keep > 0 {
		if _, err := m.out.Write(p[:keep]); err != nil {
			return 0, err
		}
	}
	m.held = append([]byte(nil), p[keep:]...)
	return n, nil
}

// first finds the secret that begins first; of several, the longest.
func (m *mask) first(p []byte) (at, length int) {
	at = -1
	for _, s := range m.secrets {
		if i := bytes.Index(p, s); i >= 0 && (at < 0 || i < at) {
			at, length = i, len(s)
		}
	}
	return at, length
}

// open is where the longest end of p begins that is the beginning of a secret; -1 when none is.
func (m *mask) open(p []byte) int {
	best := -1
	for _, s := range m.secrets {
		for k := min(len(s)-1, len(p)); k > 0; k-- {
			if at := len(p) - k; bytes.HasPrefix(s, p[at:]) {
				if best < 0 || at < best {
					best = at
				}
				break
			}
		}
	}
	return best
}

// Flush writes what was held back: it is no secret any more.
func (m *mask) Flush() error {
	rest := m.held
	m.held = nil
	for len(rest) > 0 {
		at, length := m.first(rest)
		if at < 0 {
			_, err := m.out.Write(rest)
			return err
		}
		if _, err := m.out.Write(append(append([]byte(nil), rest[:at]...), stars...)); err != nil {
			return err
		}
		rest = rest[at+length:]
	}
	return nil
}
