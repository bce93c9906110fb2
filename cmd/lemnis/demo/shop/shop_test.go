package shop_test

import (
	"bufio"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lemnis/lemnis/cmd/lemnis/demo/shop"
	"github.com/lemnis/lemnis/internal/testreport"
	"github.com/lemnis/lemnis/services/builder/git"
	"github.com/lemnis/lemnis/services/builder/pipeline"
)

func TestCreateIsDeterministic(t *testing.T) {
	heads := map[string]string{}
	for range 2 {
		dir := t.TempDir()
		bare, err := shop.Create(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		repo, err := git.Open(t.Context(), bare, "")
		if err != nil {
			t.Fatal(err)
		}
		for _, branch := range []string{shop.Main, shop.ImproveSearch, shop.FastCheckout} {
			head, err := repo.Head(t.Context(), branch)
			if err != nil {
				t.Fatal(err)
			}
			if was := heads[branch]; was != "" && was != head {
				t.Errorf("%s is %s, was %s", branch, head, was)
			}
			heads[branch] = head
		}
		if _, err := shop.Create(t.Context(), dir); !errors.Is(err, fs.ErrExist) {
			t.Errorf("want fs.ErrExist, got %v", err)
		}
	}
}

// Both changes can be merged, one after the other.
func TestBranchesMerge(t *testing.T) {
	bare, err := shop.Create(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	repo, err := git.Open(t.Context(), bare, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, branch := range []string{shop.ImproveSearch, shop.FastCheckout} {
		base, err := repo.Head(t.Context(), shop.Main)
		if err != nil {
			t.Fatal(err)
		}
		head, err := repo.Head(t.Context(), branch)
		if err != nil {
			t.Fatal(err)
		}
		tree, conflicts, err := repo.MergeTree(t.Context(), base, head)
		if err != nil || len(conflicts) > 0 {
			t.Fatalf("%s: %v %v", branch, conflicts, err)
		}
		who := git.Identity{Name: "Test", Email: "test@shop.example"}
		commit, err := repo.CommitMerge(t.Context(), git.Merge{Tree: tree, Base: base, Head: head, Message: "Merge",
			Author: who, Committer: who, Time: time.Unix(1_800_000_000, 0)})
		if err != nil {
			t.Fatal(err)
		}
		if err := repo.Advance(t.Context(), shop.Main, base, commit); err != nil {
			t.Fatal(err)
		}
	}
}

// Every branch passes its tests; what users then meet differs.
func TestBranchesUnderTraffic(t *testing.T) {
	bare, err := shop.Create(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	repo, err := git.Open(t.Context(), bare, "")
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		branch      string
		cases       int     // at least so many pass
		least, most float64 // share of visits that end in 5xx
	}{
		{shop.Main, 10, 0, 0},
		{shop.ImproveSearch, 12, 0, 0},
		{shop.FastCheckout, 11, 0.05, 0.20},
	}
	for _, test := range tests {
		t.Run(test.branch, func(t *testing.T) {
			commit, err := repo.Head(t.Context(), test.branch)
			if err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(t.TempDir(), "checkout")
			if _, err := repo.Checkout(t.Context(), commit, dir); err != nil {
				t.Fatal(err)
			}
			report, err := pipeline.Run(t.Context(), pipeline.Spec{Dir: dir, Output: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			if !report.Succeeded() || report.Count(testreport.Passed) < test.cases || report.Coverage < 70 {
				t.Fatalf("%+v, %d passed, coverage %.1f\n%s", report.Steps, report.Count(testreport.Passed), report.Coverage, report.LogTail)
			}
			base := start(t, report.Executable)
			share := visit(t, base, 600)
			t.Logf("coverage %.1f %%, executable of %d bytes, %.1f %% of visits failed", report.Coverage, report.Size, 100*share)
			if share < test.least || share > test.most {
				t.Errorf("%.3f of the visits failed, want %.2f to %.2f", share, test.least, test.most)
			}
		})
	}
}

// start runs the shop on a free port; at the end it must stop by itself on SIGTERM.
func start(t *testing.T, executable string) (base string) {
	t.Helper()
	cmd := exec.Command(executable)
	cmd.Env = []string{"PORT=0", "PATH=" + os.Getenv("PATH")}
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	log := bufio.NewReader(out)
	line, err := log.ReadString('\n')
	if err != nil {
		_ = cmd.Process.Kill()
		t.Fatal(err)
	}
	_, address, found := strings.Cut(strings.TrimSpace(line), "listening on ")
	if !found {
		_ = cmd.Process.Kill()
		t.Fatalf("shop said %q", line)
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		_, _ = io.Copy(io.Discard, log)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-drained
		if err := cmd.Wait(); err != nil {
			t.Errorf("shop ended with %v", err)
		}
	})
	return "http://" + address
}

// visit sends n visits and returns the share that ended in 5xx.
func visit(t *testing.T, base string, n uint64) float64 {
	t.Helper()
	failed := 0
	for i := range n {
		req, err := shop.Traffic(i, 50).Request(t.Context(), base)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		switch {
		case resp.StatusCode >= 500:
			failed++
		case resp.StatusCode != http.StatusOK:
			t.Fatalf("%s %s %s: %s", req.Method, req.URL, shop.Traffic(i, 50).Body, resp.Status)
		}
	}
	return float64(failed) / float64(n)
}
