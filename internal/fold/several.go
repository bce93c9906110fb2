package fold

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// several connects to one of several Redis that know nothing of each other: to the first that answers, and to that one until it
// does not any more, then to the next. To go on with another is to go on with a store that was wiped, or that stands where it was
// left, which every user of the store is made for.
type several struct {
	all  []*redis.Options
	dial []func(ctx context.Context, network, address string) (net.Conn, error)

	mu   sync.Mutex
	now  int // index of the one in use
	open map[*pinned]bool
}

// tryTimeout bounds the connecting to one of several, and its first answer.
const tryTimeout = 2 * time.Second

// together makes of several addresses options of one client.
func together(all []*redis.Options) (*redis.Options, error) {
	s := &several{all: all, open: map[*pinned]bool{}}
	first := all[0]
	for i, o := range all {
		if o.Username != first.Username || o.Password != first.Password || o.DB != first.DB {
			return nil, fmt.Errorf("redis address %d has another user, password or database than the first", i+1)
		}
		o.DialTimeout = tryTimeout
		s.dial = append(s.dial, redis.NewDialer(o))
	}
	one := *first
	one.Dialer, one.DialTimeout = s.connect, time.Duration(len(all)+1)*tryTimeout
	return &one, nil
}

func (s *several) connect(ctx context.Context, _, _ string) (net.Conn, error) {
	var reasons []error
	for range s.all {
		i := s.current()
		c, err := s.reach(ctx, i)
		if err == nil {
			return s.pin(i, c)
		}
		if ctx.Err() != nil { // says nothing of the Redis
			return nil, err
		}
		reasons = append(reasons, err)
		s.leave(i)
	}
	return nil, errors.Join(reasons...)
}

func (s *several) current() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

// reach connects to one, which has to answer: a process that hangs takes connections too.
func (s *several) reach(ctx context.Context, i int) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	c, err := s.dial[i](ctx, s.all[i].Network, s.all[i].Addr)
	if err != nil {
		return nil, err
	}
	if err := answers(ctx, c); err != nil {
		return nil, errors.Join(fmt.Errorf("redis at %s: %w", s.all[i].Addr, err), c.Close())
	}
	return c, nil
}

// answers sends a PING, which a Redis that asks for a password answers too, by a refusal.
func answers(ctx context.Context, c net.Conn) error {
	if deadline, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(deadline); err != nil {
			return err
		}
	}
	if _, err := io.WriteString(c, "*1\r\n$4\r\nPING\r\n"); err != nil {
		return err
	}
	var line strings.Builder
	for one := make([]byte, 1); one[0] != '\n'; line.WriteByte(one[0]) { // what follows is the client's
		if _, err := io.ReadFull(c, one); err != nil {
			return err
		}
		if line.Len() > 200 {
			break
		}
	}
	if said := strings.TrimSpace(line.String()); said != "+PONG" && !strings.HasPrefix(said, "-NOAUTH") {
		return fmt.Errorf("it says %q", said)
	}
	return c.SetDeadline(time.Time{})
}

// pin keeps a connection for as long as its Redis is the one in use.
func (s *several) pin(i int, c net.Conn) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now != i {
		return nil, errors.Join(fmt.Errorf("redis at %s was left meanwhile", s.all[i].Addr), c.Close())
	}
	p := &pinned{Conn: c, of: s}
	s.open[p] = true
	return p, nil
}

// leave goes on with the next, unless somebody has done so, and ends all connections to the one before: half of the commands
// here and half there would be neither.
func (s *several) leave(i int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now != i {
		return
	}
	s.now = (i + 1) % len(s.all)
	for p := range s.open {
		_ = p.Conn.Close()
	}
	clear(s.open)
	log.Printf("redis at %s does not answer; going on with %s", s.all[i].Addr, s.all[s.now].Addr)
}

// pinned is a connection to the Redis that is in use. One that was ended looks as if the Redis had ended it, so that the client
// tries again.
type pinned struct {
	net.Conn
	of *several
}

func (p *pinned) Read(b []byte) (int, error) {
	n, err := p.Conn.Read(b)
	return n, ended(err)
}

func (p *pinned) Write(b []byte) (int, error) {
	n, err := p.Conn.Write(b)
	return n, ended(err)
}

func ended(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return io.EOF
	}
	return err
}

// The next Read or Write tells of the end.
func (p *pinned) SetDeadline(t time.Time) error      { return unlessEnded(p.Conn.SetDeadline(t)) }
func (p *pinned) SetReadDeadline(t time.Time) error  { return unlessEnded(p.Conn.SetReadDeadline(t)) }
func (p *pinned) SetWriteDeadline(t time.Time) error { return unlessEnded(p.Conn.SetWriteDeadline(t)) }

func (p *pinned) Close() error {
	p.of.mu.Lock()
	delete(p.of.open, p)
	p.of.mu.Unlock()
	return unlessEnded(p.Conn.Close())
}

func unlessEnded(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
