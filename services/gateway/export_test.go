package gateway

import "time"

// Patterns are those of every endpoint.
func (g *Gateway) Patterns() []string { return g.routes().patterns }

// Rules are the patterns that have a rule of their own.
func Rules() []string {
	var all []string
	for pattern := range rules {
		all = append(all, pattern)
	}
	return all
}

// HoldTail keeps what is stored from all who follow the end of the stream until release is called.
func (g *Gateway) HoldTail() (release func()) { g.tails.mu.Lock(); return g.tails.mu.Unlock }

// Followers counts those who follow the end of the stream by the shared reader.
func (g *Gateway) Followers() int {
	g.tails.mu.Lock()
	defer g.tails.mu.Unlock()
	return len(g.tails.all)
}

// BoundLag changes how far the index may be behind.
func (g *Gateway) BoundLag(d time.Duration) { g.index.lag.bound.Store(int64(d)) }
