package up_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/lemnis/lemnis/cmd/lemnis/api"
	"github.com/lemnis/lemnis/cmd/lemnis/up/uptest"
	"github.com/lemnis/lemnis/pkg/events"
)

// smallDisk is a folder that is a disk of its own.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	folder := t.TempDir()
	if err := syscall.Mount("lemnis-test", folder, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("a small disk can not be mounted, which takes root: %v; that a full disk refuses publishers, and that all goes on by itself when it has room, is not shown here", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(folder, syscall.MNT_DETACH) })
	return folder
}

// stuff leaves no byte on a disk.
func stuff(t *testing.T, file string) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for _, size := range []int{1 << 20, 4096, 1} {
		for piece := make([]byte, size); err == nil; {
			_, err = f.Write(piece)
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		err = nil
	}
}

// A full disk refuses publishers with 503 and says so; when there is room again all goes on by itself, and what was
// accepted is there.
func TestAFullDisk(t *testing.T) {
	disk := smallDisk(t, "512m")
	o := options(filepath.Join(disk, "data"))
	stack, stop := uptest.Run(t, o)
	defer stop()
	client := api.New(stack.URL())
	defer client.Close()
	var accepted []string
	publish := func(n int) error {
		e := events.New("shop", fmt.Sprintf("T-%d", n), events.TicketCreated{Ticket: events.Ticket{Summary: strings.Repeat("x", 8<<10), Creator: "ann", URI: "https://example.org/T"}})
		e.Source = "/test"
		_, err := client.Publish(t.Context(), e)
		if err == nil {
			accepted = append(accepted, e.ID)
		}
		return err
	}
	ready := func() (int, string) {
		r, err := http.Get(stack.URL() + "/readyz")
		if err != nil {
			return 0, err.Error()
		}
		defer func() { _ = r.Body.Close() }()
		text, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return r.StatusCode, string(text)
	}
	n := 0
	for round := range 2 {
		for range 20 {
			n++
			if err := publish(n); err != nil {
				t.Fatalf("with room, round %d: %v", round, err)
			}
		}
		ballast := filepath.Join(disk, "ballast")
		stuff(t, ballast)
		var refused error
		patiently(t, "publishers are refused", func() bool {
			stuff(t, ballast) // what the store has given back
			n++
			refused = publish(n)
			return refused != nil
		})
		if !strings.Contains(refused.Error(), "503") && !strings.Contains(refused.Error(), "away") && !strings.Contains(refused.Error(), "full") {
			t.Errorf("round %d: %v", round, refused)
		}
		patiently(t, "it says what is missing", func() bool {
			n++
			_ = publish(n)
			status, text := ready()
			return status == http.StatusServiceUnavailable && strings.Contains(text, "the stream LIFECYCLE")
		})
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		patiently(t, "publishing goes on", func() bool { n++; return publish(n) == nil })
		patiently(t, "it is ready", func() bool { status, _ := ready(); return status == http.StatusOK })
	}
	patiently(t, "all that was accepted is there, and was answered", func() bool {
		found, err := client.Events(t.Context(), api.Query{Project: "shop", Type: "ticket.created"})
		if err != nil {
			return false
		}
		claims, facts := map[string]bool{}, map[string]int{}
		for _, e := range found {
			if e.Kind == events.Claim {
				claims[e.ID] = true
			} else {
				facts[e.Cause]++
			}
		}
		for _, id := range accepted {
			if !claims[id] || facts[id] != 1 {
				return false
			}
		}
		return true
	})
}
