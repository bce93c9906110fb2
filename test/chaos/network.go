package chaos

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
)

// network gives each node of a bus a network name space of its own, so that it can really be cut off: what is sent to it then
// gets no answer at all. They meet on a bridge in a name space of its own, where no rules of this machine's firewall hold.
type network struct {
	name  string
	nodes int
}

// newNetwork needs root and the ip command; the error says what is missing.
func newNetwork(nodes int) (*network, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("it takes root")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return nil, errors.New("there is no ip command (iproute2)")
	}
	n := &network{name: fmt.Sprintf("lc%d", os.Getpid()), nodes: nodes}
	steps := [][]string{
		{"netns", "add", n.hub()},
		{"-n", n.hub(), "link", "add", "hub", "type", "bridge"},
		{"-n", n.hub(), "link", "set", "hub", "up"},
		{"link", "add", n.name, "type", "veth", "peer", "name", "outside", "netns", n.hub()},
		{"addr", "add", n.host() + "/24", "dev", n.name},
		{"link", "set", n.name, "up"},
		{"-n", n.hub(), "link", "set", "outside", "master", "hub", "up"},
	}
	for i := range nodes {
		steps = append(steps,
			[]string{"netns", "add", n.space(i)},
			[]string{"-n", n.hub(), "link", "add", n.link(i), "type", "veth", "peer", "name", "eth0", "netns", n.space(i)},
			[]string{"-n", n.hub(), "link", "set", n.link(i), "master", "hub", "up"},
			[]string{"-n", n.space(i), "addr", "add", n.addr(i) + "/24", "dev", "eth0"},
			[]string{"-n", n.space(i), "link", "set", "eth0", "up"},
			[]string{"-n", n.space(i), "link", "set", "lo", "up"},
		)
	}
	for _, args := range steps {
		if err := ip(args...); err != nil {
			n.Close()
			return nil, err
		}
	}
	return n, nil
}

// third makes the addresses of proofs that run at the same time differ.
func (n *network) third() int            { return os.Getpid() % 250 }
func (n *network) host() string          { return fmt.Sprintf("10.231.%d.1", n.third()) }
func (n *network) addr(i int) string     { return fmt.Sprintf("10.231.%d.%d", n.third(), 10+i) }
func (n *network) hub() string           { return n.name + "hub" }
func (n *network) space(i int) string    { return fmt.Sprintf("%sn%d", n.name, i) }
func (n *network) link(i int) string     { return fmt.Sprintf("n%d", i) }
func (n *network) inside(i int) []string { return []string{"ip", "netns", "exec", n.space(i)} }
func (n *network) cut(i int) error       { return ip("-n", n.hub(), "link", "set", n.link(i), "down") }
func (n *network) heal(i int) error      { return ip("-n", n.hub(), "link", "set", n.link(i), "up") }

// Close takes it all away. What is not there can not be taken away, so errors say nothing.
func (n *network) Close() {
	_ = ip("link", "del", n.name)
	for i := range n.nodes {
		_ = ip("netns", "del", n.space(i))
	}
	_ = ip("netns", "del", n.hub())
}

func ip(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %v: %w: %s", args, err, bytes.TrimSpace(out))
	}
	return nil
}
