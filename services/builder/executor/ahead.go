package executor

import (
	"slices"
	"sync"
	"time"
)

// ahead are inits that were begun before there was a step for them: nobody waits for what a large program takes to begin, of
// which an init needs nothing. One of each kind at most, shared by all executors of this process.
var ahead = spares{idle: map[kind]*spare{}}

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
	mu   sync.Mutex
	idle map[kind]*spare
}

type spare struct{ init *running }

// take is an init that waits, if there is one.
func (a *spares) take(k kind) *running {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.idle[k]
	if s == nil {
		return nil
	}
	delete(a.idle, k)
	return s.init
}

// provide begins an init for a step to come. Without one, that step begins its own.
func (a *spares) provide(k kind) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.idle[k] != nil {
		return
	}
	init, err := begin(k)
	if err != nil {
		return
	}
	s := &spare{init}
	a.idle[k] = s
	time.AfterFunc(spareFor, func() { a.retire(k, s) })
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
		s.init.dismiss()
	}
}
