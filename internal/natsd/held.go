package natsd

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// maxHeld is how many consumers a principal may have at a time, so that
	// none can use up what the server has for all.
	maxHeld = 200
	// maxHeldLocal is the same where everybody is one principal.
	maxHeldLocal = 1000
	// recount is how soon a principal that has as many as it may is looked at
	// again: consumers go by themselves when nobody reads them.
	recount = time.Second
)

// held are the names of the consumers that a principal has, or had: what went
// by itself is found out when there is no more room.
type held struct {
	mu      sync.Mutex
	names   map[string]bool
	counted time.Time
}

func (h *held) add(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.names == nil {
		h.names = map[string]bool{}
	}
	h.names[name] = true
}

func (h *held) drop(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.names, name)
}

// roomForOneMore says why the principal gets no other consumer; nil when it
// does.
func (g *guard) roomForOneMore() error {
	most := maxHeld
	if g.principal == Local {
		most = maxHeldLocal
	}
	h := &g.held
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.names) < most {
		return nil
	}
	if time.Since(h.counted) > recount {
		all, err := g.consumers()
		if err != nil {
			return err
		}
		h.counted = time.Now()
		clear(h.names)
		for _, c := range all {
			h.names[c.Name] = true
		}
	}
	if len(h.names) >= most {
		return fmt.Errorf("%s has %d consumers, and may have no more; those that nobody reads go by themselves", g.principal, len(h.names))
	}
	return nil
}

// last answers with the last fact that a filter lets through, as the stream's
// leader has it: where there are several servers, a consumer may be placed on
// one that is behind, and then does not say where the facts end.
func (g *guard) last(m *nats.Msg) {
	var ask struct {
		Filter string `json:"last_by_subj"`
	}
	if err := json.Unmarshal(m.Data, &ask); err != nil || !g.reads(ask.Filter) {
		g.refuse(m, 403, "only the last fact by a filter under lifecycle. and a project that may be read can be asked for")
		return
	}
	body, err := json.Marshal(ask)
	if err != nil {
		g.refuse(m, 400, err.Error())
		return
	}
	g.relay(m, "STREAM.MSG.GET."+Lifecycle, body)
}
