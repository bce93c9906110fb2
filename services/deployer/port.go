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

// ports remembers the loopback port of each service in each environment, so that its URL survives restarts.
type ports struct {
	mu    sync.Mutex
	file  string
	known map[string]int
}

func openPorts(file string) (*ports, error) {
	p := &ports{file: file, known: map[string]int{}}
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
	defer p.mu.Unlock()
	taken := map[int]bool{}
	for other, port := range p.known {
		taken[port] = taken[port] || other != name
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	start := int(h.Sum32() % portCount)
	candidates := make([]int, 0, 51)
	if port := p.known[name]; port > 0 {
		candidates = append(candidates, port)
	}
	for i := range 50 {
		candidates = append(candidates, firstPort+(start+i*7)%portCount)
	}
	candidates = append(candidates, 0) // whatever is free
	var err error
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
