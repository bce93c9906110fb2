package deployer

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/deployer/keeper"
	"github.com/lemnis/lemnis/services/deployer/proxy"
)

// The phase is given back while a request is in flight; that request still gets its answer, and the next owner, who has
// the same folder, serves at the same address when the one before has closed.
func TestThePhaseIsHandedOnWhileRequestsAreInFlight(t *testing.T) {
	shelf, data := newShelf(t), t.TempDir()
	var closing sync.WaitGroup
	project := testProject("dev")
	first := drive(project, Options{Data: data, Grace: 15 * time.Second, Closing: &closing}, nil)
	v1 := shelf.put(t, "v1", "good")
	first.publish(v1)
	address := url(first.await(t, "v1 in dev", published("dev", v1.Digest)))
	instance := behind(t, data)

	response, err := http.Get(address + "/long")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	began := time.Now()
	first.stop()
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("the phase was given back after %s, with a request in flight", took)
	}
	next := drive(project, Options{Data: data}, nil, first.stream.Facts()...)
	defer next.stop()
	if !poll(func() bool { _, err := http.Get(address); return err != nil }) {
		t.Error("the old owner takes new requests")
	}

	if _, err := httpGet(instance + "/release"); err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(response.Body); err != nil || string(body) != "whole" {
		t.Errorf("the request in flight got %q, %v", body, err)
	}
	closing.Wait()
	if !poll(func() bool {
		got, err := httpGet(address)
		return err == nil && strings.HasPrefix(got, "v1 ")
	}) {
		t.Fatal("the next owner does not serve")
	}
}

// behind is where the only process of a data folder serves, behind its proxy.
func behind(t *testing.T, data string) string {
	t.Helper()
	records, err := filepath.Glob(filepath.Join(data, "processes", "*.json"))
	if err != nil || len(records) != 1 {
		t.Fatalf("records of processes: %v %v", records, err)
	}
	body, err := os.ReadFile(records[0])
	if err != nil {
		t.Fatal(err)
	}
	var r struct{ Port int }
	if err := json.Unmarshal(body, &r); err != nil || r.Port == 0 {
		t.Fatalf("record %s: %v", body, err)
	}
	return fmt.Sprintf("http://127.0.0.1:%d", r.Port)
}

// Requests that hang use up their own grace, not that of the processes.
func TestHangingRequestsLeaveProcessesTheirGrace(t *testing.T) {
	shelf := newShelf(t)
	var log notices
	d := drive(testProject("dev"), Options{Data: t.TempDir(), Grace: 300 * time.Millisecond, Log: log.add}, nil)
	v1 := shelf.put(t, "v1", "good")
	d.publish(v1)
	response, err := http.Get(url(d.await(t, "v1 in dev", published("dev", v1.Digest))) + "/long")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	d.stop()
	// SIGTERM ends the app at once, where it is sent before SIGKILL.
	if reason := log.of("process stopped"); reason != "signal: terminated" {
		t.Errorf("the process ended by %q", reason)
	}
	if log.of("closed with requests in flight") == "" {
		t.Error("nobody was told that a request was cut off")
	}
}

// A fault that the deployer before has set ends with its drill, also when that deployer was killed before.
func TestAFaultOfADeployerBeforeEnds(t *testing.T) {
	shelf, data := newShelf(t), t.TempDir()
	d := start(t, testProject("dev"), Options{Data: data})
	v1 := shelf.put(t, "v1", "good")
	d.publish(v1)
	state := d.await(t, "v1 in dev", published("dev", v1.Digest)).Content.(events.ServicePublished).Lemnis
	fault := proxy.Fault{Version: state.Rollout.ID, ErrorRate: 1}
	// The one between, which is gone at once; the deployer takes the front back as the next one would.
	if !poll(func() bool {
		between, err := keeper.Attach(t.Context(), keeper.Config{Folder: data}, nil, func(keeper.Notice) {})
		if err != nil {
			return false
		}
		defer between.Leave()
		return between.Fault(t.Context(), at{"shop", "dev/api"}.String(), fault) == nil
	}) {
		t.Fatal("no fault was set")
	}
	if !poll(func() bool { body, err := httpGet(state.URL); return err == nil && strings.HasPrefix(body, "v1 ") }) {
		t.Error("the fault outlives its drill")
	}
}

// A front that was left by a deployer with another configuration lets users in where this one says, and nowhere else.
func TestADoorFollowsTheConfiguration(t *testing.T) {
	for _, test := range []struct {
		name   string
		now    Door
		reopen bool
	}{
		{"narrower", Door{}, true},
		{"another name", Door{Listen: "0.0.0.0", Host: "localhost"}, true},
		{"the same", Door{Listen: "0.0.0.0", Host: "127.0.0.2"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			shelf, data := newShelf(t), t.TempDir()
			before, err := keeper.Attach(t.Context(), keeper.Config{Folder: data}, nil, func(keeper.Notice) {})
			if err != nil {
				t.Fatal(err)
			}
			was, err := before.Open(t.Context(), at{"shop", "dev/api"}.String(), proxy.Config{Address: "0.0.0.0:0", Open: true, Host: "127.0.0.2"})
			if err != nil {
				t.Fatal(err)
			}
			before.Leave()
			_, port, _ := net.SplitHostPort(was.Addr)
			if err := os.WriteFile(filepath.Join(data, "ports.json"), fmt.Appendf(nil, `{"shop/dev/api":%s}`, port), 0o600); err != nil {
				t.Fatal(err)
			}
			var told atomic.Bool
			d := start(t, testProject("dev"), Options{Data: data, Door: test.now, Log: func(message string, _ ...any) {
				if strings.Contains(message, "opening anew") {
					told.Store(true)
				}
			}})
			v1 := shelf.put(t, "v1", "good")
			d.publish(v1)
			is := url(d.await(t, "v1 in dev", published("dev", v1.Digest)))
			host := test.now.Host
			if host == "" {
				host = "127.0.0.1"
			}
			if is != "http://"+host+":"+port || !strings.HasPrefix(get(t, is), "v1 ") {
				t.Errorf("it is served at %s, and was at %s", is, was.URL)
			}
			if told.Load() != test.reopen {
				t.Errorf("told: %v", told.Load())
			}
			if _, err := httpGet("http://127.0.0.2:" + port); (err == nil) != (test.now.Listen != "") {
				t.Errorf("from outside: %v", err)
			}
		})
	}
}

// notices keeps what the service logs.
type notices struct {
	mu  sync.Mutex
	all map[string]string // the reason or error, by message
}

func (n *notices) add(message string, keysAndValues ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.all == nil {
		n.all = map[string]string{}
	}
	for i := 0; i+1 < len(keysAndValues); i += 2 {
		if key := keysAndValues[i]; key == "reason" || key == "error" {
			n.all[message], _ = keysAndValues[i+1].(string)
		}
	}
}

func (n *notices) of(message string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.all[message]
}
