package subscription

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"testing"
)

// What is taken for a plain answer net/http reads as the same, to its end, and would use the connection again.
func FuzzPlain(f *testing.F) {
	for _, seed := range []struct {
		answer string
		status int
	}{
		{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nDate: Sat, 28 Nov 2026 17:00:00 GMT\r\n\r\nok", 200},
		{"HTTP/1.1 204 No Content\r\n\r\n", 204},
		{"HTTP/1.1 202 Accepted\r\ncontent-length:0\r\n\r\n", 202},
		{"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok", 0},
		{"HTTP/1.1 200 OK\r\n\r\n", 0},
		{"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", 0},
		{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok!", 0},
		{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", 0},
		{"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok", 0},
		{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok", 0},
		{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok", 0},
		{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n folded\r\n\r\nok", 0},
		{"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok", 0},
		{"HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\nok", 0},
		{"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 0},
		{"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok", 0},
		{"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n", 0},
	} {
		if got := plain([]byte(seed.answer)); got != seed.status {
			f.Errorf("%q: %d, want %d", seed.answer, got, seed.status)
		}
		f.Add([]byte(seed.answer))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		status := plain(data)
		if status == 0 {
			return
		}
		br := bufio.NewReader(bytes.NewReader(data))
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatalf("%q: %v", data, err)
		}
		defer func() { _ = resp.Body.Close() }()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != status || resp.Close || br.Buffered() > 0 {
			t.Errorf("%q: %d, closed %v, %d left, %v", data, resp.StatusCode, resp.Close, br.Buffered(), err)
		}
	})
}
