package deployer

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"sync"
)

const (
	// firstPort and portCount are the range in which services get their addresses: below the ports that the kernel gives
	// to outgoing connections, so that an address is still free after a restart.
	firstPort = 20000
	portCount = 10000
)

var errNoPort = errors.New("every port that services may have is taken")

// ports remembers the port of each service in each environment, so that its URL survives restarts.
type ports struct {
	mu    sync.Mutex
	file  string
	door  Door
	known map[string]int
}

func openPorts(file string, door Door) (*ports, error) {
	p := &ports{file: file, door: door, known: map[string]int{}}
	body, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return p, nil
	}
	if err == nil {
		err = json.Unmarshal(body, &p.known)
	}
	if err != nil {
		return nil, fmt.Errorf("remembered ports: %w", err)
	}
	return p, nil
}

// listen tries ports for a service, the remembered one first, until open takes one.
func (p *ports) listen(name string, open func(port int) error) error {
	p.mu.Lock()
	taken, candidates := map[int]bool{}, p.candidates(name)
	for other, port := range p.known {
		taken[port] = taken[port] || other != name
	}
	p.mu.Unlock() // open may take its time, and the kernel gives a port to one
	err := errNoPort
	for _, port := range candidates {
		if taken[port] && port != 0 {
			continue
		}
		if err = open(port); err == nil {
			return nil
		}
	}
	return err
}

// candidates are the ports that a service may get, the one that it had first. Of a range that somebody has opened to the
// outside the lowest are taken first, so that those services are reached which came first.
func (p *ports) candidates(name string) []int {
	var all []int
	if port := p.known[name]; port > 0 {
		all = append(all, port)
	}
	if p.door.FirstPort > 0 {
		for port := p.door.FirstPort; port <= p.door.LastPort; port++ {
			all = append(all, port)
		}
		return all
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	start := int(h.Sum32() % portCount)
	for i := range 50 {
		all = append(all, firstPort+(start+i*7)%portCount)
	}
	return append(all, 0) // whatever is free
}

func (p *ports) remember(name string, port int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known[name] == port {
		return nil
	}
	p.known[name] = port
	body, err := json.MarshalIndent(p.known, "", "  ")
	if err == nil {
		err = writeFile(p.file, body)
	}
	if err != nil {
		return fmt.Errorf("remember a port: %w", err)
	}
	return nil
}

// writeFile replaces a file as a whole, so that no kill leaves half of it.
func writeFile(file string, body []byte) error {
	f, err := os.CreateTemp(filepath.Dir(file), ".new-")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // after the rename there is nothing to remove
	_, err = f.Write(body)
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}
