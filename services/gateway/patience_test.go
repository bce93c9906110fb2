package gateway

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"
)

const (
	shortPatience = 2 * time.Second
	largeAnswer   = 32 << 20 // more than the buffers of a connection hold
)

func impatient(t *testing.T, h http.HandlerFunc) net.Conn {
	t.Helper()
	server := httptest.NewServer(patientFor(h, shortPatience, shortPatience/4))
	t.Cleanup(server.Close)
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// A client that never reads holds no goroutine for ever.
func TestWhoNeverReadsIsLeft(t *testing.T) {
	t.Parallel()
	for name, send := range map[string]func(io.Writer) error{
		"written": func(w io.Writer) error { _, err := w.Write(make([]byte, largeAnswer)); return err },
		"copied":  func(w io.Writer) error { _, err := io.Copy(w, bytes.NewReader(make([]byte, largeAnswer))); return err },
	} {
		ended := make(chan error, 1)
		conn := impatient(t, func(w http.ResponseWriter, _ *http.Request) { ended <- send(w) })
		if _, err := fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-ended:
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s: %v", name, err)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("%s: it is still waited for", name)
		}
	}
}

// One that reads slowly gets all, though it takes longer than one write may.
func TestWhoReadsSlowlyGetsAll(t *testing.T) {
	t.Parallel()
	conn := impatient(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(largeAnswer))
		_, _ = io.Copy(w, bytes.NewReader(make([]byte, largeAnswer)))
	})
	if _, err := fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	began, read := time.Now(), int64(0)
	for tick := time.NewTicker(shortPatience / 8); read < largeAnswer; <-tick.C {
		n, err := io.CopyN(io.Discard, answer.Body, largeAnswer/16)
		if read += n; err != nil {
			t.Fatalf("after %d bytes: %v", read, err)
		}
	}
	if took := time.Since(began); took < 3*shortPatience/2 {
		t.Errorf("it was read in %s, which shows nothing", took)
	}
}

// Who is refused and does not send the body that was announced is left.
func TestARefusedBodyIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	conn := impatient(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "who are you?", http.StatusUnauthorized) })
	if _, err := fmt.Fprint(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(conn) // to where the server closes
	if err != nil || !strings.HasPrefix(string(text), "HTTP/1.1 401 ") {
		t.Errorf("%q, %v", text, err)
	}
}

// A connection serves the next request after a pause that is longer than a write may take.
func TestPatienceBeginsAnew(t *testing.T) {
	t.Parallel()
	conn := impatient(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		<-time.After(3 * shortPatience / 2)
		if r.Context().Err() != nil {
			t.Error("the request was given up")
		}
		_, _ = w.Write(body)
	})
	in := bufio.NewReader(conn)
	for _, text := range []string{"one", "two"} {
		if _, err := fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if line, err := in.ReadString('\n'); err != nil || !strings.Contains(line, "100 Continue") {
			t.Fatalf("%q, %v", line, err)
		}
		if _, err := in.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprint(conn, text); err != nil {
			t.Fatal(err)
		}
		answer, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(answer.Body)
		if err != nil || string(body) != text {
			t.Errorf("%q, %v", body, err)
		}
		_ = answer.Body.Close()
		<-time.After(3 * shortPatience / 2)
	}
}
