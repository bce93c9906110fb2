package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// quickClients are the connections that net/http has not got.
func quickClients(f *Front) int {
	f.clients.mu.Lock()
	defer f.clients.mu.Unlock()
	return f.clients.count
}

// A connection goes the quick way while all on it is plain, and then on without it: no answer is missing, none comes twice, each is counted once.
func TestTheQuickWayAndNotAnyMore(t *testing.T) {
	for name, last := range map[string]struct {
		request, answer string
		quick           int
	}{
		"all plain":            {"GET /small HTTP/1.1\r\nHost: a\r\n\r\n", "small", 1},
		"a small body":         {"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", "abc", 1},
		"nothing":              {"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n", "", 1},
		"an answer in chunks":  {"GET /chunks HTTP/1.1\r\nHost: a\r\n\r\n", "one two", 0},
		"chunks after a body":  {"POST /chunks HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", "one two", 0},
		"an answer that lasts": {"GET /late HTTP/1.1\r\nHost: a\r\n\r\n", "late", 0},
		"a large answer":       {"GET /large HTTP/1.1\r\nHost: a\r\n\r\n", strings.Repeat("x", 100_000), 0},
		"a large request":      {"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("x", 100_000), strings.Repeat("x", 100_000), 0},
		"a request in chunks":  {"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "abc", 0},
		"another method":       {"BREW /small HTTP/1.1\r\nHost: a\r\n\r\n", "small", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := front(t, Config{}, Routes{Stable: serve(t, "v1", func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/small":
					fmt.Fprint(w, "small")
				case "/echo":
					body, _ := io.ReadAll(r.Body)
					w.Header().Set("Content-Length", fmt.Sprint(len(body)))
					_, _ = w.Write(body)
				case "/nothing":
					w.WriteHeader(http.StatusNoContent)
				case "/chunks":
					fmt.Fprint(w, "one ")
					w.(http.Flusher).Flush()
					fmt.Fprint(w, "two")
				case "/late":
					<-time.After(quickPatience + 20*time.Millisecond)
					fmt.Fprint(w, "late")
				case "/large":
					w.Header().Set("Content-Length", "100000")
					fmt.Fprint(w, strings.Repeat("x", 100_000))
				}
			})})
			conn := connected(t, f, 10*time.Second)
			in := bufio.NewReader(conn)
			expect := func(want string) {
				t.Helper()
				response, err := http.ReadResponse(in, nil)
				if err != nil {
					t.Fatal(err)
				}
				if body, err := io.ReadAll(response.Body); string(body) != want || err != nil || response.Header.Get("Date") == "" {
					t.Fatalf("%d %q %v, want %q", response.StatusCode, body, err, want)
				}
			}
			const plain = "GET /small HTTP/1.1\r\nHost: a\r\n\r\n"
			fmt.Fprint(conn, plain[:5])
			fmt.Fprint(conn, plain[5:])
			expect("small")
			if n := quickClients(f); n != 1 {
				t.Errorf("%d connections go the quick way", n)
			}
			fmt.Fprint(conn, plain+last.request+plain) // without waiting for the answers
			for _, want := range []string{"small", last.answer, "small"} {
				expect(want)
			}
			eventually(t, "the connections of the quick way to be as many as they should", func() bool { return quickClients(f) == last.quick })
			eventually(t, "four requests to be over", func() bool {
				got := f.Snapshot().Versions["v1"]
				return got.Requests == 4 && got.Errors == 0 && got.InFlight == 0
			})
		})
	}
}

// How long an answer took is measured to its head, also where its body keeps it from the quick way.
func TestLatencyIsOfTheHead(t *testing.T) {
	f := front(t, Config{}, Routes{Stable: raw(t, "v1", func(conn net.Conn, in *bufio.Reader, _ int) {
		if _, err := http.ReadRequest(in); err == nil {
			fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
			<-time.After(2 * quickPatience)
			fmt.Fprint(conn, "ok")
		}
	})})
	if status, body := get(t, f, "/", "ann"); status != http.StatusOK || body != "ok" {
		t.Errorf("%d %q", status, body)
	}
	late := int64(0)
	for i, n := range f.Snapshot().Versions["v1"].Buckets {
		if i == len(Bounds) || Bounds[i] > quickPatience.Seconds() {
			late += n
		}
	}
	if late != 0 {
		t.Error("the wait for the body counts as the version's latency")
	}
}

// A client that sends all its requests before it reads an answer gets each, in order, although the kernel has no room for all of them.
func TestAnswersWaitForTheirReader(t *testing.T) {
	const count = 500
	body := strings.Repeat("x", 12<<10)
	f := front(t, Config{}, Routes{Stable: raw(t, "v1", func(conn net.Conn, in *bufio.Reader, _ int) {
		for {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s%s", len(r.URL.Path)+len(body), r.URL.Path, body)
		}
	})})
	conn := connected(t, f, 10*time.Second)
	eventually(t, "the client to be there", func() bool {
		there := false
		look(f, func(s *share) {
			for c := range s.clients {
				there = syscall.SetsockoptInt(c.fd, syscall.SOL_SOCKET, syscall.SO_SNDBUF, 16<<10) == nil
			}
		})
		return there
	})
	sent := make(chan error)
	go func() {
		for n := range count {
			if _, err := fmt.Fprintf(conn, "GET /%d HTTP/1.1\r\nHost: a\r\n\r\n", n); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	eventually(t, "the kernel's room to be full", func() bool {
		full := 0
		look(f, func(s *share) {
			for c := range s.clients {
				if c.stage == clientAnswers {
					full++
				}
			}
		})
		return full == 1
	})
	in := bufio.NewReader(conn)
	for n := range count {
		response, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(response.Body); string(got) != fmt.Sprintf("/%d%s", n, body) || err != nil {
			t.Fatalf("answer %d: %.20q %v", n, got, err)
		}
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
	if n := quickClients(f); n != 1 {
		t.Errorf("%d connections go the quick way", n)
	}
}

// Clients that come while there are too many files wait at the door.
func TestADoorOpensAgain(t *testing.T) {
	f := front(t, Config{}, Routes{Stable: serve(t, "v1", nil)})
	release := hold(t, f)
	c := keep(t, f) // the kernel has it
	c.ask(http.MethodGet, "")
	more := noFiles(t)
	release()
	eventually(t, "the door to shut", func() bool {
		shut := false
		look(f, func(s *share) { shut = shut || len(s.loop.doors) == 1 && s.loop.doors[0] == f.door })
		return shut
	})
	if n := quickClients(f); n != 0 {
		t.Errorf("%d clients are in", n)
	}
	more()
	if status, body := c.answer(); status != http.StatusOK || body != "v1" {
		t.Errorf("%d %q", status, body)
	}
}

// noFiles has the process open none until more.
func noFiles(t *testing.T) (more func()) {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 0, Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	more = sync.OnceFunc(func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(more)
	return more
}

// A request that net/http can not go on with, since no file can be opened, is answered, counted and told of.
func TestNoRequestVanishesWithoutFiles(t *testing.T) {
	for name, answer := range map[string]string{
		"an answer in chunks":  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
		"an answer that lasts": "",
		"no connection":        "none",
	} {
		t.Run(name, func(t *testing.T) {
			asked, may := make(chan struct{}, 1), make(chan struct{})
			logged := make(chan string, 10)
			f := front(t, Config{Log: func(message string, pairs ...any) { logged <- fmt.Sprint(message, pairs) }}, Routes{Stable: raw(t, "v1", func(conn net.Conn, in *bufio.Reader, _ int) {
				for i := 0; ; i++ {
					r, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, r.Body)
					if i == 0 {
						fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
						continue
					}
					asked <- struct{}{}
					<-may
					fmt.Fprint(conn, answer)
				}
			})})
			<-logged // of the routes
			c := keep(t, f)
			c.ask(http.MethodPost, "once")
			if status, body := c.answer(); status != http.StatusOK || body != "ok" {
				t.Fatalf("%d %q", status, body)
			}
			if answer == "none" {
				f.closeIdle()
				look(f, func(*share) {})
			}
			more := noFiles(t)
			c.ask(http.MethodPost, "once")
			if answer != "none" {
				within(t, "request", asked)
				if answer != "" {
					close(may)
				} else {
					defer close(may)
				}
			}
			if status, _ := c.answer(); status != http.StatusBadGateway {
				t.Errorf("status %d", status)
			}
			more()
			select {
			case text := <-logged:
				if !strings.Contains(text, "request failed") || !strings.Contains(text, "too many open files") {
					t.Errorf("logged %s", text)
				}
			case <-time.After(5 * time.Second):
				t.Error("nothing was logged")
			}
			eventually(t, "the error to be counted", func() bool {
				got := f.Snapshot().Versions["v1"]
				return got.Requests == 2 && got.Errors == 1 && got.InFlight == 0
			})
		})
	}
}

// What many requests at once were read into is not kept for ever.
func TestBuffersThatWaitAreFew(t *testing.T) {
	f := front(t, Config{}, Routes{})
	look(f, func(s *share) {
		for range 2 * buffersMost {
			s.loop.reuse(&quickRequest{})
		}
		if n := len(s.loop.requests); n > buffersMost {
			t.Errorf("%d wait", n)
		}
	})
}

// A loop that is alone waits where its upstreams run.
func TestLoopsOfFewProcessors(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	t.Cleanup(func() { runtime.GOMAXPROCS(before) })
	for processors, want := range map[int]int{1: 1, 2: 2, 4: 2, 6: 3} {
		runtime.GOMAXPROCS(processors)
		all, err := joinLoops()
		if err != nil {
			t.Fatal(err)
		}
		if leaveLoops(); len(all) != want {
			t.Errorf("%d loops on %d processors", len(all), processors)
		}
	}
}

// Fronts with one client each do not all leave them to the same loop.
func TestLoopsShareTheFronts(t *testing.T) {
	before := runtime.GOMAXPROCS(6)
	t.Cleanup(func() { runtime.GOMAXPROCS(before) })
	busy := map[*loop]int{}
	for range 6 {
		f := front(t, Config{}, Routes{Stable: serve(t, "v1", nil)})
		c := keep(t, f)
		c.ask(http.MethodGet, "")
		c.answer()
		look(f, func(s *share) { busy[s.loop] += len(s.clients) })
	}
	for l, n := range busy {
		if len(busy) != 3 || n != 2 {
			t.Errorf("loop %p has %d of 6 clients", l, n)
		}
	}
}

// A fault ends the connection that it is of, wherever in the loop it comes, and no other.
func TestAFaultEndsOneConnection(t *testing.T) {
	log.SetOutput(io.Discard)
	t.Cleanup(func() { log.SetOutput(os.Stderr) })
	for name, fault := range map[string]func(f *Front, c *keptClient){
		"when it is due": func(f *Front, _ *keptClient) {
			look(f, func(s *share) {
				for c := range s.clients { // late will find no request
					c.stage, c.up = clientAsks, &link{socket: socket{loop: s.loop, out: []byte("x")}}
					c.up.fd, _ = syscall.Dup(c.fd)
					s.loop.hurry(c, time.Now())
				}
			})
		},
		"with a new link": func(f *Front, c *keptClient) {
			f.closeIdle()
			look(f, func(s *share) { s.loop.dial = func(string) (int, error) { return -1, nil } })
			c.ask(http.MethodGet, "")
		},
		"with an answer": func(f *Front, c *keptClient) {
			look(f, func(s *share) { s.idle = nil }) // the link can not be kept
			c.ask(http.MethodGet, "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			before := runtime.GOMAXPROCS(1) // the loop that has the fault serves the other client
			t.Cleanup(func() { runtime.GOMAXPROCS(before) })
			f := front(t, Config{}, Routes{Stable: serve(t, "v1", nil)})
			c := keep(t, f)
			c.ask(http.MethodGet, "")
			c.answer()
			fault(f, c)
			if _, err := c.in.ReadByte(); err == nil {
				t.Error("its client is answered")
			}
			look(f, func(s *share) { s.loop.dial, s.idle = dialled, map[string][]*link{} })
			if n := quickClients(f); n != 0 {
				t.Errorf("%d connections are left", n)
			}
			if status, body := get(t, f, "/", "ann"); status != http.StatusOK || body != "v1" {
				t.Errorf("another client: %d %q", status, body)
			}
			eventually(t, "the requests to be over", func() bool { return f.Snapshot().Versions["v1"].InFlight == 0 })
			if got := f.Snapshot().Versions["v1"]; got.Requests > 3 {
				t.Errorf("%d requests are counted", got.Requests)
			}
		})
	}
}

// What a loop has taken to do it does, also when it ends meanwhile.
func TestALoopEndsWithNothingLeft(t *testing.T) {
	l, err := newLoop()
	if err != nil {
		t.Fatal(err)
	}
	done := false
	go l.run()
	l.post(func() {
		if !l.post(func() { done = true }) {
			t.Error("nothing is taken before the loop ends")
		}
		l.stop()
	})
	within(t, "end", l.ended)
	if !done {
		t.Error("what was taken was not done")
	}
	if l.post(func() {}) {
		t.Error("a loop that has ended takes more")
	}
}

// Those that come all at once do not keep the loop from those that are there.
func TestADoorLetsInSomeAtATime(t *testing.T) {
	f := front(t, Config{}, Routes{Stable: serve(t, "v1", nil)})
	held, free, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	f.door.loop.post(func() {
		close(held)
		<-free
		before := turns.Load()
		f.door.ready(0)
		if n := turns.Load() - before; n != acceptMost {
			t.Errorf("%d were let in at once", n)
		}
		close(done)
	})
	within(t, "hold", held)
	clients := make([]*keptClient, acceptMost+20)
	for i := range clients {
		clients[i] = keep(t, f)
		clients[i].ask(http.MethodGet, "")
	}
	close(free)
	within(t, "door", done)
	for _, c := range clients {
		if status, body := c.answer(); status != http.StatusOK || body != "v1" {
			t.Errorf("%d %q", status, body)
		}
	}
}

func TestAddressesWithAZone(t *testing.T) {
	all, err := net.Interfaces()
	if err != nil || len(all) == 0 {
		t.Skipf("SKIPPED: addresses with a zone were NOT tried: no interface to name: %v", err)
	}
	l := &loop{}
	from := &syscall.SockaddrInet6{Addr: [16]byte{0xfe, 0x80, 15: 1}, ZoneId: uint32(all[0].Index)}
	if got := l.address(from); got != "fe80::1%"+all[0].Name {
		t.Error(got)
	}
	l.zones[from.ZoneId] = "remembered"
	if got := l.address(from); got != "fe80::1%remembered" {
		t.Errorf("asked for again: %s", got)
	}
	l.zoned = time.Now().Add(-2 * zonesFor)
	if got := l.address(from); got != "fe80::1%"+all[0].Name {
		t.Errorf("never asked for again: %s", got)
	}
	for i := range uint32(3 * zonesMost) {
		l.zone(1<<20 + i)
	}
	if len(l.zones) > zonesMost {
		t.Errorf("%d are remembered", len(l.zones))
	}
	from.ZoneId = 0
	if got := l.address(from); got != "fe80::1" {
		t.Error(got)
	}
}

// Clients and links that wait cost a loop nothing until the first of them has waited too long.
func TestALoopRestsUntilSomethingIsDue(t *testing.T) {
	f := front(t, Config{}, Routes{Stable: serve(t, "v1", nil)})
	c := keep(t, f)
	c.ask(http.MethodGet, "")
	c.answer()
	at := time.Now()
	for _, step := range []struct {
		after                 time.Duration
		clients, links, waits int
	}{{0, 1, 1, 1}, {idleFor - 5*time.Second, 1, 1, 1}, {10 * time.Second, 1, 0, 1}, {idlePatience - idleFor, 0, 0, 0}} {
		at = at.Add(step.after)
		clients, links, waits := 0, 0, 0
		look(f, func(s *share) {
			if wait := s.loop.sweep(at); wait >= 0 {
				waits++
				if wait < int(2*seldom/time.Millisecond) {
					t.Errorf("a loop rests for %d ms only", wait)
				}
			}
			clients, links = clients+len(s.clients), links+len(s.idle)
		})
		if clients != step.clients || links != step.links || waits != step.waits {
			t.Errorf("after %s: %d clients, %d upstreams with links, %d loops that wait for something", step.after, clients, links, waits)
		}
	}
	if _, err := c.in.ReadByte(); err != io.EOF {
		t.Errorf("a client that has waited too long: %v", err)
	}
}

// A front that closes lets the request in flight end, says that it was the last, and closes what waits for one.
func TestCloseOnTheQuickWay(t *testing.T) {
	asked, answer := make(chan struct{}), make(chan struct{})
	f, err := New(Config{Service: "api"})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.SetRoutes(Routes{Stable: raw(t, "v1", func(conn net.Conn, in *bufio.Reader, _ int) {
		for {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			if r.URL.Path == "/wait" {
				close(asked)
				<-answer
			}
			fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})}); err != nil {
		t.Fatal(err)
	}
	f.quickPatience = time.Minute
	connect := func(path string) (net.Conn, *bufio.Reader) {
		conn, err := net.Dial("tcp", f.Addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", path)
		return conn, bufio.NewReader(conn)
	}
	read := func(in *bufio.Reader) *http.Response {
		response, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, response.Body)
		return response
	}
	_, idle := connect("/")
	read(idle)
	_, busy := connect("/wait")
	within(t, "request", asked)
	closed := make(chan error)
	go func() { closed <- f.Close(context.Background()) }()
	if _, err := idle.ReadByte(); err != io.EOF {
		t.Errorf("a connection that waits ends with %v", err)
	}
	close(answer)
	if response := read(busy); !response.Close || response.StatusCode != http.StatusOK {
		t.Errorf("%d, close %v", response.StatusCode, response.Close)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

// closing begins to close a front, and tells when its loops know it.
func closing(t *testing.T, f *Front) (closed chan error) {
	t.Helper()
	closed = make(chan error, 1)
	go func() { closed <- f.Close(context.Background()) }()
	eventually(t, "the front to close", f.clients.closing.Load)
	return closed
}

// The last answer arrives in order although the client goes on asking: what it sends is not answered, but read.
func TestTheLastAnswerIsNotCutOff(t *testing.T) {
	asked, may := make(chan struct{}), make(chan struct{})
	f := front(t, Config{}, Routes{Stable: raw(t, "v1", func(conn net.Conn, in *bufio.Reader, _ int) {
		if _, err := http.ReadRequest(in); err == nil {
			close(asked)
			<-may
			fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})})
	f.quickPatience = time.Minute
	c := keep(t, f)
	c.ask(http.MethodGet, "")
	within(t, "request", asked)
	closed := closing(t, f)
	for range 200 { // more than the front reads at once
		c.ask(http.MethodPost, strings.Repeat("x", 100))
	}
	close(may)
	if status, body := c.answer(); status != http.StatusOK || body != "ok" {
		t.Errorf("%d %q", status, body)
	}
	if _, err := c.in.ReadByte(); err != io.EOF {
		t.Errorf("after the last answer: %v", err)
	}
	_ = c.Close()
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

// A client that does not stop to send after its last answer holds up a front that closes no longer than one that is silent.
func TestAClientThatDoesNotEndIsEnded(t *testing.T) {
	for name, sends := range map[string]int{"silent": 0, "sends": 4 * discardMost} {
		t.Run(name, func(t *testing.T) {
			f := front(t, Config{}, Routes{Stable: serve(t, "v1", nil)})
			c := keep(t, f)
			eventually(t, "the client to be there", func() bool { return quickClients(f) == 1 })
			closed := closing(t, f)
			c.ask(http.MethodGet, "")
			if status, body := c.answer(); status != http.StatusOK || body != "v1" {
				t.Errorf("%d %q", status, body)
			}
			go func() { _, _ = c.Write(make([]byte, sends)) }()
			if err := <-closed; err != nil {
				t.Error(err)
			}
		})
	}
}

// A request that has come, although the loop has not been told of it, is answered by a front that closes.
func TestCloseSeesARequestThatHasCome(t *testing.T) {
	f := front(t, Config{}, Routes{Stable: serve(t, "v1", nil)})
	c := keep(t, f)
	c.ask(http.MethodGet, "")
	c.answer()
	release := hold(t, f)
	closed := closing(t, f)
	c.ask(http.MethodPost, "once")
	release()
	if status, body := c.answer(); status != http.StatusOK || body != "v1" {
		t.Errorf("%d %q", status, body)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

// Half a request does not hold up a front that closes, whenever its first bytes have come.
func TestHalfARequestHoldsUpNoClose(t *testing.T) {
	for name, when := range map[string]string{"before": "GET / HT", "as the first": "", "as the next": "again"} {
		t.Run(name, func(t *testing.T) {
			f := front(t, Config{}, Routes{Stable: serve(t, "v1", nil)})
			c := keep(t, f)
			eventually(t, "the client to be there", func() bool { return quickClients(f) == 1 })
			if when == "again" {
				c.ask(http.MethodGet, "")
				c.answer()
			}
			reads := func() bool {
				n := 0
				look(f, func(s *share) {
					for c := range s.clients {
						if c.stage == clientReads {
							n++
						}
					}
				})
				return n == 1
			}
			var closed chan error
			switch when {
			case "":
				closed = closing(t, f)
				fmt.Fprint(c, "GET / HT")
			case "again":
				release := hold(t, f)
				closed = closing(t, f)
				fmt.Fprint(c, "GET / HT")
				release()
			default:
				fmt.Fprint(c, when)
				eventually(t, "the client to ask", reads)
				closed = closing(t, f)
			}
			select {
			case err := <-closed:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(8 * newPatience):
				t.Error("the front waits for half a request")
			}
		})
	}
}

// A front that may not wait for a request cuts it.
func TestCloseCutsTheQuickWay(t *testing.T) {
	asked := make(chan struct{})
	never := make(chan struct{})
	defer close(never)
	f, err := New(Config{Service: "api"})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.SetRoutes(Routes{Stable: raw(t, "v1", func(_ net.Conn, in *bufio.Reader, _ int) {
		if _, err := http.ReadRequest(in); err == nil {
			close(asked)
			<-never
		}
	})}); err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", f.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	within(t, "request", asked)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.Close(ctx); err == nil {
		t.Error("nothing says that a request was cut")
	}
	eventually(t, "the request to be over", func() bool { return f.Snapshot().Versions["v1"].InFlight == 0 })
}

// hold has the loops of a front wait until release.
func hold(t *testing.T, f *Front) (release func()) {
	t.Helper()
	held, free := make(chan struct{}), make(chan struct{})
	for _, l := range f.loops {
		l.post(func() { held <- struct{}{}; <-free })
		within(t, "hold", held)
	}
	release = sync.OnceFunc(func() { close(free) })
	t.Cleanup(release)
	return release
}

// keptClient is a connection of a user that stays.
type keptClient struct {
	net.Conn
	t  *testing.T
	in *bufio.Reader
}

func keep(t *testing.T, f *Front) *keptClient {
	t.Helper()
	conn, err := net.Dial("tcp", f.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	return &keptClient{conn, t, bufio.NewReader(conn)}
}

func (c *keptClient) ask(method, body string) {
	c.t.Helper()
	length := ""
	if method == http.MethodPost {
		length = fmt.Sprintf("Content-Length: %d\r\n", len(body))
	}
	if _, err := fmt.Fprintf(c, "%s / HTTP/1.1\r\nHost: a\r\n%s\r\n%s", method, length, body); err != nil {
		c.t.Fatal(err)
	}
}

func (c *keptClient) answer() (int, string) {
	c.t.Helper()
	response, err := http.ReadResponse(c.in, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

// What an upstream sends beyond its answer is nobody else's, however late it comes.
func TestSurplusReachesNobody(t *testing.T) {
	const good, bad = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad"
	full := strings.Repeat("x", quickAnswerMost-len("HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n"))
	for name, first := range map[string]string{
		"in a later piece": "", "behind an answer that fills the buffer": fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(full), full) + bad,
	} {
		t.Run(name, func(t *testing.T) {
			surplus := make(chan struct{})
			sent := make(chan struct{}, 100)
			f := front(t, Config{}, Routes{Stable: raw(t, "v1", func(conn net.Conn, in *bufio.Reader, n int) {
				for i := 1; ; i++ {
					if _, err := http.ReadRequest(in); err != nil {
						return
					}
					if i == 1 && first != "" {
						fmt.Fprint(conn, first)
						continue
					}
					fmt.Fprint(conn, good)
					if i == 1 && first == "" {
						go func() {
							<-surplus
							fmt.Fprint(conn, bad)
							sent <- struct{}{}
						}()
					}
				}
			})})
			clients := make([]*keptClient, len(f.loops)+1) // of which two have the same loop
			for i := range clients {
				clients[i] = keep(t, f)
				clients[i].ask(http.MethodGet, "")
				if _, body := clients[i].answer(); body != "good" && body != full {
					t.Fatalf("%.20q", body)
				}
			}
			release := hold(t, f)
			for _, c := range clients[1:] {
				c.ask(http.MethodGet, "")
			}
			<-time.After(10 * time.Millisecond) // the loop is to hear of the requests first
			close(surplus)
			if first == "" {
				within(t, "surplus", sent)
			}
			<-time.After(10 * time.Millisecond)
			release()
			for _, c := range clients[1:] {
				if _, body := c.answer(); body != "good" && body != full {
					t.Errorf("another client got %.20q", body)
				}
			}
		})
	}
}

// A client that has said that it sends nothing more is answered while that takes no longer than the quick way waits; after that it
// is taken for one that has left, as net/http does.
func TestHalfClosedClients(t *testing.T) {
	left := make(chan struct{})
	f := front(t, Config{}, Routes{Stable: serve(t, "v1", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/late" {
			<-r.Context().Done()
			close(left)
			return
		}
		fmt.Fprint(w, "v1")
	})})
	for path, want := range map[string]string{"/": "v1", "/late": ""} {
		c := keep(t, f)
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", path)
		_ = c.Conn.(*net.TCPConn).CloseWrite()
		if all, err := io.ReadAll(c.in); !strings.HasSuffix(string(all), want) || (len(all) > 0) != (want != "") || err != nil {
			t.Errorf("%s: %q %v", path, all, err)
		}
	}
	within(t, "end at the upstream", left)
}
