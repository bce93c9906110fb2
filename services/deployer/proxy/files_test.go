package proxy

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

const fewFiles = "LEMNIS_TEST_FEW_FILES"

// serveWithFewFiles is a front that may open 64 files; it prints its address, and what it has counted for each line it reads.
func serveWithFewFiles(backend string) error {
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 64, Max: 64}); err != nil {
		return err
	}
	f, err := New(Config{Service: "api"})
	if err != nil {
		return err
	}
	if err := f.SetRoutes(Routes{Stable: Upstream{"v1", backend}}); err != nil {
		return err
	}
	fmt.Println(f.Addr())
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		if err := json.NewEncoder(os.Stdout).Encode(f.Snapshot()); err != nil {
			return err
		}
	}
	return nil
}

// A front that has run out of files serves the clients that it has, also where net/http has to take one over; those that come wait,
// longer each time, and are served when there is room.
func TestAFrontWithFewFiles(t *testing.T) {
	upstream := serve(t, "v1", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, "o")
		if r.Method == http.MethodPost {
			w.(http.Flusher).Flush() // the answer is in chunks
		}
		fmt.Fprint(w, "k")
	})
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fewFiles+"="+upstream.URL, "GOMAXPROCS=2") // each loop takes files too
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	said := bufio.NewReader(out)
	address, err := said.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	snapshot := func() (s Snapshot) {
		t.Helper()
		fmt.Fprintln(in)
		line, err := said.ReadBytes('\n')
		if err == nil {
			err = json.Unmarshal(line, &s)
		}
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	come := func() *keptClient {
		t.Helper()
		conn, err := net.Dial("tcp", strings.TrimSpace(address))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		return &keptClient{conn, t, bufio.NewReader(conn)}
	}
	served := func(who string, c *keptClient) {
		t.Helper()
		if status, body := c.answer(); status != http.StatusOK || body != "ok" {
			t.Errorf("%s: %d %q", who, status, body)
		}
	}

	there := make([]*keptClient, 6)
	for i := range there {
		there[i] = come()
		there[i].ask(http.MethodGet, "")
		served("one that comes", there[i])
	}
	began := time.Now()
	crowd := make([]*keptClient, 100)
	for i := range crowd {
		crowd[i] = come()
	}
	eventually(t, "the door to shut again and again", func() bool { return snapshot().Paused >= 8 })
	if took := time.Since(began); took < 7*5*time.Millisecond { // the shortest pauses there can be between them
		t.Errorf("asked 8 times in %s", took)
	}
	for _, c := range there {
		c.ask(http.MethodGet, "")
		served("one that is there", c)
	}
	there[0].ask(http.MethodPost, "an answer in chunks")
	served("one that net/http takes over with its answer", there[0])
	fmt.Fprint(there[1], "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
	served("one that net/http takes over with its request", there[1])

	late := crowd[len(crowd)-1]
	late.ask(http.MethodGet, "")
	for _, c := range crowd[:len(crowd)-1] {
		_ = c.Close()
	}
	served("one that had to wait", late)
	if s := snapshot(); s.Versions["v1"].Errors != 0 || s.Unserved != 0 {
		t.Errorf("%d errors, %d unserved", s.Versions["v1"].Errors, s.Unserved)
	}
}

// A request that net/http can not be given, before it was sent on, is refused and told of, not dropped.
func TestARequestThatCanNotBeTakenOverIsRefused(t *testing.T) {
	logged := make(chan string, 10)
	f := front(t, Config{Log: func(message string, pairs ...any) { logged <- fmt.Sprint(message, pairs) }}, Routes{Stable: serve(t, "v1", nil)})
	<-logged // of the routes
	c := keep(t, f)
	c.ask(http.MethodGet, "")
	c.answer()
	more := noFiles(t)
	fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
	if status, _ := c.answer(); status != http.StatusServiceUnavailable {
		t.Errorf("status %d", status)
	}
	more()
	if text := <-logged; !strings.Contains(text, "request refused") || !strings.Contains(text, "too many open files") {
		t.Errorf("logged %s", text)
	}
	if s := f.Snapshot(); s.Unserved != 1 || s.Versions["v1"].Requests != 1 {
		t.Errorf("%d unserved, %+v", s.Unserved, s.Versions["v1"].Counts)
	}
}
