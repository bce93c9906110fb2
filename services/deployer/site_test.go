package deployer

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
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
