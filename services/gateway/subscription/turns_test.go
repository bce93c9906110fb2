package subscription

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

// Receivers that announce an answer in an unusual way, and never give it, hold no turn: others are delivered to meanwhile.
func TestAnnouncedAnswerHoldsNoTurn(t *testing.T) {
	for _, announced := range []string{"HTTP/1.0 103 x\r\n\r\n", "HTTP/1.1  103 x\r\n\r\n", "HTTP/1.1 103 x\r\n\r\n"} {
		t.Run(announced[:13], func(t *testing.T) {
			w := newWorld(t)
			w.manager.options.Patience.Timeout = 3 * patience
			w.run(w.manager)
			var first, second atomic.Int32
			over := make(chan struct{})
			bad := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				switch {
				case r.Method == http.MethodOptions:
					rw.Header().Set("WebHook-Allowed-Origin", "*")
				case r.Header.Get("Ce-Key") == "warm": // at once, so that its next one is sent within a turn
					first.Add(1)
					rw.WriteHeader(http.StatusNoContent)
				default:
					conn, _, err := rw.(http.Hijacker).Hijack()
					if err != nil {
						t.Error(err)
						return
					}
					defer func() { _ = conn.Close() }()
					_, _ = io.WriteString(conn, announced)
					second.Add(1)
					<-over
				}
			}))
			t.Cleanup(func() { close(over); bad.Close() })
			good := newReceiver(t, nil)
			for range turnsAtATime + 1 {
				w.create(wanted(bad.URL))
			}
			w.create(wanted(good.URL))
			const warm = 5
			for n := range warm {
				w.state("shop", "warm", fmt.Sprint(n))
				w.until("all answered", func() bool { return int(first.Load()) == (n+1)*(turnsAtATime+1) && len(good.taken()) == n+1 })
				time.Sleep(beside)
			}
			w.state("shop", "2", "one")
			w.until("the answers are announced", func() bool { return second.Load() >= turnsAtATime })
			w.state("shop", "3", "one")
			w.until("the good one has all", func() bool { return len(good.taken()) == warm+2 })
		})
	}
}
