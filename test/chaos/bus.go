package chaos

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lemnis/lemnis/internal/natsd"
)

// Node is a nats-server.
type Node struct {
	*Process
	Name string
	URL  string
	// cut and heal part the node from the network and join it again.
	cut, heal func() error
}

// newNodes writes the configurations of a bus of n nodes.
func newNodes(dir, store string, programs Programs, n int, net *network) ([]*Node, error) {
	clients, routes := make([]string, n), make([]string, n)
	for i := range n {
		if net != nil {
			clients[i], routes[i] = net.addr(i)+":4222", net.addr(i)+":6222"
			continue
		}
		ports, err := freePorts(2)
		if err != nil {
			return nil, err
		}
		clients[i], routes[i] = ports[0], ports[1]
	}
	var nodes []*Node
	for i := range n {
		name := fmt.Sprintf("n%d", i)
		if store == "" {
			store = dir
		}
		var b strings.Builder
		fmt.Fprintf(&b, "server_name: %s\nlisten: %q\njetstream { store_dir: %q }\n", name, clients[i], filepath.Join(store, name))
		if n > 1 {
			fmt.Fprintf(&b, "cluster {\n  name: lemnis\n  listen: %q\n  routes: [\n", routes[i])
			for j, r := range routes {
				if j != i {
					fmt.Fprintf(&b, "    %q\n", "nats://"+r)
				}
			}
			b.WriteString("  ]\n}\n")
		}
		file := filepath.Join(dir, name+".conf")
		if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
			return nil, err
		}
		command := []string{programs.NATS, "-c", file}
		if net != nil {
			command = append(net.inside(i), command...)
		}
		node := &Node{Process: newProcess(dir, name, nil, command...), Name: name, URL: "nats://" + clients[i]}
		node.cut, node.heal = func() error { node.Pause(); return nil }, func() error { node.Resume(); return nil }
		if net != nil {
			node.cut, node.heal = func() error { return net.cut(i) }, func() error { return net.heal(i) }
		}
		nodes = append(nodes, node)
	}
	return nodes, nil
}

// freePorts finds addresses that nobody listens on, all at once, so that none is given twice.
func freePorts(n int) ([]string, error) {
	addrs, held := make([]string, 0, n), make([]net.Listener, 0, n)
	defer func() {
		for _, l := range held {
			_ = l.Close()
		}
	}()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		addrs, held = append(addrs, l.Addr().String()), append(held, l)
	}
	return addrs, nil
}

// dial connects the proof itself to the bus, which notices faster than a service that a node is away.
func dial(urls string) (*nats.Conn, jetstream.JetStream, error) {
	nc, err := nats.Connect(urls, nats.Name("chaos"), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond), nats.ReconnectJitter(0, 0),
		nats.RetryOnFailedConnect(true), nats.PingInterval(time.Second), nats.MaxPingsOutstanding(2), nats.Timeout(time.Second))
	if err != nil {
		return nil, nil, err
	}
	js, err := jetstream.New(nc)
	return nc, js, err
}

// listens waits until a node takes connections.
func (n *Node) listens(ctx context.Context) error {
	for {
		c, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", n.URL[len("nats://"):])
		if err == nil {
			return c.Close()
		}
		if ctx.Err() != nil || !n.Alive() {
			return fmt.Errorf("%s does not listen: %w\n%s", n.Name, err, n.tail(2000))
		}
		wait(ctx, 10*time.Millisecond)
	}
}

// leader names the node that leads LIFECYCLE.
func leader(ctx context.Context, js jetstream.JetStream) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	s, err := js.Stream(ctx, natsd.Lifecycle)
	if err != nil {
		return "", err
	}
	info := s.CachedInfo()
	if info.Cluster == nil || info.Cluster.Leader == "" {
		return "", errors.New("the stream has no leader")
	}
	return info.Cluster.Leader, nil
}

// whole waits until every replica of LIFECYCLE is current.
func whole(ctx context.Context, js jetstream.JetStream, nodes int) error {
	for nodes > 1 {
		once, cancel := context.WithTimeout(ctx, 2*time.Second)
		s, err := js.Stream(once, natsd.Lifecycle)
		cancel()
		if err == nil && s.CachedInfo().Cluster != nil {
			current := 1
			for _, r := range s.CachedInfo().Cluster.Replicas {
				if r.Current && !r.Offline {
					current++
				}
			}
			if current == nodes {
				return nil
			}
		}
		if ctx.Err() != nil {
			return fmt.Errorf("the bus does not come together again: %w", errors.Join(ctx.Err(), err))
		}
		wait(ctx, 200*time.Millisecond)
	}
	return nil
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
