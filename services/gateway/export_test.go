package gateway

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
