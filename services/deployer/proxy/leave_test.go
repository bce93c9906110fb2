package proxy

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// deadlined is a response whose deadlines for the client are counted.
type deadlined struct {
	http.ResponseWriter
	set int
}

func (d *deadlined) SetReadDeadline(time.Time) error { d.set++; return nil }

// What nobody waits for may take as long as it likes: the deadline of a body that was left would end a request without one, which is sent
// again over another connection.
func TestWhoHasNoBodyIsNotHurried(t *testing.T) {
	for name, c := range map[string]struct {
		body io.ReadCloser
		want int
	}{
		"none": {http.NoBody, 0},
		"one":  {io.NopCloser(strings.NewReader("abc")), 1},
	} {
		w := &deadlined{ResponseWriter: httptest.NewRecorder()}
		up := &uploading{body: c.body, client: http.NewResponseController(w), stall: time.Minute, ended: make(chan struct{})}
		if up.leave(); w.set != c.want {
			t.Errorf("%s: %d deadlines, want %d", name, w.set, c.want)
		}
	}
}
