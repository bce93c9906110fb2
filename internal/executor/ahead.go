package executor

import (
	"crypto/sha256"
	"os"
	"slices"
	"sync"
	"time"
)

// ahead are inits that were begun before there was a step for them: nobody waits for what a large program takes to begin, of
// which an init needs nothing. One of each kind at most, shared by all executors of this process.
var ahead = spares{idle: map[kind]*spare{}, mounts: mounts}

// spareFor is how long an init waits for a step.
const spareFor = 10 * time.Minute

// kind is what an init is begun with; all else it is told by its order.
type kind struct{ isolated, network bool }

func (o order) kind() kind { return kind{o.Isolated, o.Network} }

const (
	wordIsolated = "isolated"
	wordNetwork  = "network"
)

// words are the arguments of the init.
func (k kind) words() (words []string) {
	if k.isolated {
		words = append(words, wordIsolated)
	}
	if k.network {
		words = append(words, wordNetwork)
	}
	return words
}

func kindOf(words []string) kind {
	return kind{isolated: slices.Contains(words, wordIsolated), network: slices.Contains(words, wordNetwork)}
}

type spares struct {
	mu     sync.Mutex
	idle   map[kind]*spare
	mounts func() (fingerprint, error)
}

type fingerprint = [sha256.Size]byte

type spare struct {
	init   *running
	mounts fingerprint // of the machine before its root was made of them; zero where it has none
	end    *time.Timer
}

// mounts tells whether the machine has other ones than before.
func mounts() (fingerprint, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	return sha256.Sum256(text), err
}

// root is what the root of an init is made of.
func (a *spares) root(k kind) (fingerprint, error) {
	if !k.isolated {
		return fingerprint{}, nil
	}
	return a.mounts()
}

// take is an init that waits, if there is one. One whose root is of mounts that the machine has no longer is ended.
func (a *spares) take(k kind) *running {
	a.mu.Lock()
	s := a.idle[k]
	if s == nil {
		a.mu.Unlock()
		return nil
	}
	delete(a.idle, k)
	now, err := a.root(k)
	a.mu.Unlock()
	s.end.Stop()
	if err != nil || now != s.mounts {
		s.init.dismiss()
		return nil
	}
	return s.init
}

// provide begins an init for a step to come. Without one, that step begins its own.
func (a *spares) provide(k kind) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.idle[k] != nil {
		return
	}
	root, err := a.root(k) // before: what changes while it is made counts as later
	if err != nil {
		return
	}
	init, err := begin(k)
	if err != nil {
		return
	}
	s := &spare{init: init, mounts: root}
	s.end = time.AfterFunc(spareFor, func() { a.retire(k, s) })
	a.idle[k] = s
}

// retire ends an init that still waits.
func (a *spares) retire(k kind, s *spare) {
	a.mu.Lock()
	mine := a.idle[k] == s
	if mine {
		delete(a.idle, k)
	}
	a.mu.Unlock()
	if mine {
		s.end.Stop()
		s.init.dismiss()
	}
}
