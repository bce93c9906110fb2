// Package natsdtest starts embedded servers for tests and benchmarks.
package natsdtest

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lemnis/lemnis/internal/natsd"
)

// electionTimeout bounds how long a new cluster may take to have a leader.
const electionTimeout = 30 * time.Second

// StartCluster starts n servers under dir that replicate to each other over
// loopback, and returns when streams can be made. The caller stops them.
func StartCluster(dir string, n int) (servers []*natsd.Server, err error) {
	defer func() {
		if err != nil {
			for _, s := range servers {
				s.Stop()
			}
			servers = nil
		}
	}()
	members, err := Members(dir, n)
	if err != nil {
		return nil, err
	}
	for _, o := range members {
		s, err := natsd.Start(o)
		if err != nil {
			return servers, fmt.Errorf("start %s: %w", o.Name, err)
		}
		servers = append(servers, s)
	}
	return servers, awaitLeader(servers[0], n)
}

// Members returns the options of n servers of one cluster, with a common key
// in their folders. A test that restarts one of them starts it with its own
// options again.
func Members(dir string, n int) ([]natsd.Options, error) {
	ports, err := freePorts(n)
	if err != nil {
		return nil, err
	}
	var dirs, routes []string
	for i := range n {
		dirs = append(dirs, filepath.Join(dir, fmt.Sprintf("s%d", i)))
		routes = append(routes, "nats://"+ports[i])
		if err := os.MkdirAll(dirs[i], 0o700); err != nil {
			return nil, err
		}
	}
	if err := natsd.CreateKey(dirs...); err != nil {
		return nil, err
	}
	var members []natsd.Options
	for i := range n {
		members = append(members, natsd.Options{
			Dir: dirs[i], Name: fmt.Sprintf("s%d", i), Listen: "127.0.0.1:0", Replicas: n,
			Cluster: &natsd.ClusterOptions{Name: "lemnis", Listen: ports[i], Routes: routes},
		})
	}
	return members, nil
}

// freePorts holds all of them at once, so that none is given twice.
func freePorts(n int) ([]string, error) {
	var addrs []string
	var held []net.Listener
	defer func() {
		for _, l := range held {
			_ = l.Close()
		}
	}()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		held = append(held, l)
		addrs = append(addrs, l.Addr().String())
	}
	return addrs, nil
}

// awaitLeader makes and drops a replicated stream, which needs the leader and
// all peers.
func awaitLeader(s *natsd.Server, n int) error {
	nc, err := s.Connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	deadline := time.Now().Add(electionTimeout)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_, err = js.CreateStream(ctx, jetstream.StreamConfig{Name: "PROBE", Subjects: []string{"probe"}, Replicas: n})
		if err == nil {
			err = js.DeleteStream(ctx, "PROBE")
		}
		cancel()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("no cluster after %s: %w", electionTimeout, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
