package deployer

import "sync"

// Drill makes a share of the requests to an artifact fail at the proxy, on purpose and visibly: to see a rollback without
// a bad version. The zero value does nothing.
type Drill struct {
	mu    sync.Mutex
	rates map[drilled]float64
}

type drilled struct{ project, environment, digest string }

// Fail sets the share, 0 to 1, of requests that fail to the artifact with this digest in an environment, from the next
// change of its rollout on.
func (d *Drill) Fail(project, environment, digest string, share float64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.rates == nil {
		d.rates = map[drilled]float64{}
	}
	d.rates[drilled{project, environment, digest}] = share
}

func (d *Drill) rate(project, environment, digest string) float64 {
	if d == nil {
		return 0
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rates[drilled{project, environment, digest}]
}
