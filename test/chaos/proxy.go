package chaos

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Proxy stands between the services and Redis: it can be slow, and it can be away.
type Proxy struct {
	listener net.Listener
	dial     func() (net.Conn, error)
	delay    atomic.Int64 // of each piece that goes to the server
	cut      atomic.Bool

	mu    sync.Mutex
	conns map[net.Conn]bool
}

func newProxy(dial func() (net.Conn, error)) (*Proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{listener: listener, dial: dial, conns: map[net.Conn]bool{}}
	go p.serve()
	return p, nil
}

// Addr is host:port.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Slow delays each request by d; 0 ends that.
func (p *Proxy) Slow(d time.Duration) { p.delay.Store(int64(d)) }

// Cut refuses new connections, and ends those there are, until it is called with false.
func (p *Proxy) Cut(cut bool) {
	p.cut.Store(cut)
	if cut {
		p.dropAll()
	}
}

// Close ends it.
func (p *Proxy) Close() {
	_ = p.listener.Close()
	p.dropAll()
}

func (p *Proxy) dropAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
	clear(p.conns)
}

func (p *Proxy) serve() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		if p.cut.Load() {
			_ = client.Close()
			continue
		}
		go p.join(client)
	}
}

func (p *Proxy) join(client net.Conn) {
	server, err := p.dial()
	if err != nil {
		_ = client.Close()
		return
	}
	p.mu.Lock()
	p.conns[client], p.conns[server] = true, true
	p.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { p.pass(server, client, true) })
	both.Go(func() { p.pass(client, server, false) })
	both.Wait()
	p.mu.Lock()
	delete(p.conns, client)
	delete(p.conns, server)
	p.mu.Unlock()
}

// pass copies until either end is closed, then closes both.
func (p *Proxy) pass(to, from net.Conn, delayed bool) {
	defer func() { _ = to.Close(); _ = from.Close() }()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			if d := time.Duration(p.delay.Load()); delayed && d > 0 {
				time.Sleep(d)
			}
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			if err != io.EOF { //nolint:errorlint // Read gives it as it is
				return
			}
			return
		}
	}
}
