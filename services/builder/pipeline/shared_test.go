package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/internal/natsd/natsdtest"
	"github.com/lemnis/lemnis/internal/stepcache"
)

// hosts are builders with a folder each and one store.
func hosts(t *testing.T, n int) (all []*builds, js jetstream.JetStream) {
	t.Helper()
	_, _, js = natsdtest.Start(t)
	for range n {
		all = append(all, &builds{t: t, kept: filepath.Join(t.TempDir(), "kept"), shared: stepcache.New(js).Repository("shop", "api")})
	}
	return all, js
}

// share is what a builder does once a run is over.
func (b *builds) share(r Report) Report {
	b.t.Helper()
	if err := r.Fresh.Share(b.t.Context(), b.shared); err != nil {
		b.t.Fatal(err)
	}
	return r
}

func TestWhatAnotherBuilderLeftIsNotRunAgain(t *testing.T) {
	t.Parallel()
	all, _ := hosts(t, 3)
	master := reusableFiles(nil)
	first := all[0].share(all[0].run(master))
	if !first.Succeeded() || len(first.Reused()) > 0 {
		t.Fatalf("%+v\n%s", first.Steps, first.LogTail)
	}
	want := []string{"generate", "test", "pack"}
	second := all[1].share(all[1].run(master))
	if !slices.Equal(second.Reused(), want) || second.Digest != first.Digest || second.Count("pass") != 1 || second.Count("skip") != 1 {
		t.Errorf("%+v %+v %s, first %s\n%s", second.Steps, second.Tests, second.Digest, first.Digest, second.LogTail)
	}
	// A change that nothing depends on, and what is made upon it once it is merged, on another builder each.
	change, next := reusableFiles(map[string]string{"ignored": "2"}), reusableFiles(map[string]string{"ignored": "3"})
	for i, c := range []struct{ files, base map[string]string }{{change, master}, {next, change}, {next, next}} {
		b := all[(i+2)%3]
		if r := b.share(b.change(c.files, c.base)); !slices.Equal(r.Reused(), want) || r.Digest != first.Digest {
			t.Errorf("%d: %+v\n%s", i, r.Steps, r.LogTail)
		}
	}
	if r := all[2].change(reusableFiles(map[string]string{"in": "2"}), next); len(r.Reused()) > 0 {
		t.Errorf("what has changed is taken: %+v\n%s", r.Steps, r.LogTail)
	}
	// It is here now, whatever becomes of the store.
	all[1].shared = nil
	if r := all[1].run(master); !slices.Equal(r.Reused(), want) {
		t.Errorf("not kept here: %+v\n%s", r.Steps, r.LogTail)
	}
}

// What a change leaves is no other change's, wherever they run.
func TestWhatAChangeLeavesElsewhereIsNotTakenForOthers(t *testing.T) {
	t.Parallel()
	all, _ := hosts(t, 3)
	files := func(hidden string) map[string]string {
		return map[string]string{"in": "1", "hidden": hidden, ".lemnis.yaml": "steps: [{name: a, run: cp hidden bin, inputs: [in], outputs: [bin]}]\npackage: {executable: bin}\n"}
	}
	master := files("good")
	evil := all[0].share(all[0].change(files("evil"), master))
	for name, r := range map[string]Report{"another": all[1].change(files("fine"), master), "the master copy": all[1].run(master)} {
		if len(r.Reused()) > 0 || r.Digest == evil.Digest {
			t.Errorf("%s: %+v\n%s", name, r.Steps, r.LogTail)
		}
	}
	if r := all[2].change(files("evil"), master); len(r.Reused()) != 1 || r.Digest != evil.Digest {
		t.Errorf("the same tree: %+v\n%s", r.Steps, r.LogTail)
	}
}

// What is in the store is not what was put there: the step is run, and what it leaves is put there again.
func TestADamagedResultOfAnotherBuilderIsNotTaken(t *testing.T) {
	t.Parallel()
	files := reusableFiles(nil)
	for name, damage := range map[string]func(js jetstream.JetStream, m *jetstream.RawStreamMsg) error{
		"changed": func(js jetstream.JetStream, m *jetstream.RawStreamMsg) error {
			_, err := js.Publish(context.Background(), m.Subject, []byte("another"))
			return err
		},
		"gone": func(js jetstream.JetStream, m *jetstream.RawStreamMsg) error {
			stream, err := js.Stream(context.Background(), natsd.Cache)
			if err == nil {
				err = stream.DeleteMsg(context.Background(), m.Sequence)
			}
			return err
		},
	} {
		for _, part := range []string{".blob.", ".entry."} {
			t.Run(name+part, func(t *testing.T) {
				t.Parallel()
				all, js := hosts(t, 3)
				all[0].share(all[0].run(files))
				stream, err := js.Stream(t.Context(), natsd.Cache)
				if err != nil {
					t.Fatal(err)
				}
				damaged := 0
				for n := range stream.CachedInfo().State.LastSeq {
					m, err := stream.GetMsg(t.Context(), n+1)
					if err != nil || !strings.Contains(m.Subject, part) {
						continue
					}
					damaged++
					if err := damage(js, m); err != nil {
						t.Fatal(err)
					}
				}
				if damaged < 3 {
					t.Fatalf("%d messages", damaged)
				}
				if r := all[1].share(all[1].run(files)); !r.Succeeded() || len(r.Reused()) > 0 {
					t.Errorf("taken: %+v\n%s", r.Steps, r.LogTail)
				}
				if r := all[2].run(files); !r.Succeeded() || len(r.Reused()) != 3 {
					t.Errorf("not put again: %+v\n%s", r.Steps, r.LogTail)
				}
			})
		}
	}
}

// A store that does not answer holds a run up once, and fails nothing.
func TestAStoreThatIsAway(t *testing.T) { //nolint:paralleltest // it changes how long runs wait
	server, _, js := natsdtest.Start(t)
	before := entryPatience
	entryPatience = 200 * time.Millisecond
	t.Cleanup(func() { entryPatience = before })
	b := &builds{t: t, kept: filepath.Join(t.TempDir(), "kept"), shared: stepcache.New(js).Repository("shop", "api")}
	server.Stop()
	r := b.run(reusableFiles(nil))
	if !r.Succeeded() || len(r.Reused()) > 0 || strings.Count(r.LogTail, "what other builders left is not looked at") != 1 {
		t.Errorf("%+v\n%s", r.Steps, r.LogTail)
	}
	if len(r.Fresh) > 0 {
		t.Errorf("it is to be put into nothing: %+v", r.Fresh)
	}
	if r := b.run(reusableFiles(nil)); !r.Succeeded() || len(r.Reused()) != 3 {
		t.Errorf("what is kept here is not taken: %+v\n%s", r.Steps, r.LogTail)
	}
}

// Who may read the store learns nothing of secrets: neither what steps with secrets left, nor a key that is made of them.
func TestResultsOfStepsWithSecretsAreNotShared(t *testing.T) {
	t.Parallel()
	all, _ := hosts(t, 2)
	files := map[string]string{".lemnis.yaml": `steps:
  - {name: open, run: date >open, outputs: [open], needs: []}
  - {name: secret, run: 'echo $S >made', outputs: [made], secrets: {S: 'secret:s'}, needs: []}
  - {name: after, run: cp made bin, outputs: [bin], needs: [secret]}
`}
	for _, b := range all {
		b.secret = "a secret"
	}
	all[0].share(all[0].run(files))
	if r := all[1].run(files); !r.Succeeded() || !slices.Equal(r.Reused(), []string{"open"}) {
		t.Errorf("%+v\n%s", r.Steps, r.LogTail)
	}
}

func TestWhatIsSharedIsBounded(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		files []keptFile
		want  bool
	}{
		{nil, true},
		{[]keptFile{{Size: mostShared - 1}, {Size: 1}}, true},
		{[]keptFile{{Size: mostShared}, {Size: 1}}, false},
		{make([]keptFile, mostSharedFiles), true},
		{make([]keptFile, mostSharedFiles+1), false},
	} {
		if got := shareable(kept{Files: c.files}); got != c.want {
			t.Errorf("%d files: %v", len(c.files), got)
		}
	}
}

// late has another run of the builder be done first, with a result of its own, while one is fetched.
type late struct {
	Shared
	meanwhile func()
}

func (l *late) Blob(ctx context.Context, digest string, size int64, to io.Writer) error {
	if do := l.meanwhile; do != nil {
		l.meanwhile = nil
		do()
	}
	return l.Shared.Blob(ctx, digest, size, to)
}

// Of two runs of the same that end at once the first one's result is what is kept: the second neither shares nor discards it as its own.
func TestTheFirstOfTwoResultsStays(t *testing.T) {
	t.Parallel()
	all, _ := hosts(t, 3)
	files := map[string]string{".lemnis.yaml": "steps: [{name: a, run: head -c 8 /dev/urandom > bin, outputs: [bin]}]\npackage: {executable: bin}\n"}
	elsewhere := all[0].share(all[0].run(files))
	local := &builds{t: t, kept: all[1].kept}
	var first Report
	all[1].shared = &late{all[1].shared, func() { first = local.run(files) }}
	second := all[1].run(files)
	if len(second.Reused()) != 1 || second.Digest != first.Digest || first.Digest == elsewhere.Digest {
		t.Errorf("%+v: %s, of the first %s, elsewhere %s\n%s", second.Steps, second.Digest, first.Digest, elsewhere.Digest, second.LogTail)
	}
	if again := local.run(files); len(again.Reused()) != 1 || again.Digest != first.Digest {
		t.Errorf("the first one's was discarded: %+v\n%s", again.Steps, again.LogTail)
	}
	if len(second.Fresh) > 0 {
		t.Errorf("the first one's is shared as another's: %+v", second.Fresh)
	}
}

// counted is a store that counts, and fails where it is told to.
type counted struct {
	Shared
	put, got, trimmed atomic.Int64
	fails             error
}

func (c *counted) PutBlob(ctx context.Context, digest string, from io.Reader) error {
	c.put.Add(1)
	if c.fails != nil {
		return c.fails
	}
	return c.Shared.PutBlob(ctx, digest, from)
}

func (c *counted) Blob(ctx context.Context, digest string, size int64, to io.Writer) error {
	c.got.Add(1)
	if c.fails != nil {
		return c.fails
	}
	return c.Shared.Blob(ctx, digest, size, to)
}

func (c *counted) Trim(ctx context.Context) error {
	c.trimmed.Add(1)
	return errors.Join(ctx.Err(), c.Shared.Trim(ctx))
}

// A store that fails is put no more, and is trimmed: something may have come to it.
func TestAStoreThatFailsIsPutNoMore(t *testing.T) {
	t.Parallel()
	all, _ := hosts(t, 1)
	r := all[0].run(reusableFiles(nil))
	for name, c := range map[string]struct {
		fails error
		puts  int64
	}{"not": {nil, 3}, "the bus": {errors.New("the bus is away"), 1}} {
		store := &counted{Shared: all[0].shared, fails: c.fails}
		ctx, cancel := context.WithCancel(t.Context())
		if c.fails != nil {
			cancel() // its time is up
		}
		if err := r.Fresh.Share(ctx, store); !errors.Is(err, c.fails) || c.fails != nil && errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
		cancel()
		if puts, trimmed := store.put.Load(), store.trimmed.Load(); puts != c.puts || trimmed != 1 {
			t.Errorf("%s: %d puts, want %d; trimmed %d times", name, puts, c.puts, trimmed)
		}
		for _, l := range r.Fresh { // as if it was new again
			_ = os.Remove(filepath.Join(l.kept.at, putName))
		}
	}
	// What is swept meanwhile is left out, the others are put.
	if err := os.RemoveAll(r.Fresh[0].kept.at); err != nil {
		t.Fatal(err)
	}
	store := &counted{Shared: all[0].shared}
	if err := r.Fresh.Share(t.Context(), store); !errors.Is(err, fs.ErrNotExist) || store.put.Load() != 2 {
		t.Errorf("%d puts: %v", store.put.Load(), err)
	}
}

// An installation without a store does without, and nobody is told.
func TestNoStoreAtAll(t *testing.T) {
	t.Parallel()
	all, js := hosts(t, 1)
	if err := js.DeleteStream(t.Context(), natsd.Cache); err != nil {
		t.Fatal(err)
	}
	if r := all[0].run(reusableFiles(nil)); !r.Succeeded() || len(r.Fresh) > 0 || strings.Contains(r.LogTail, "other builders") {
		t.Errorf("%+v %+v\n%s", r.Steps, r.Fresh, r.LogTail)
	}
}

// A builder that was killed before it had put what steps left puts it when it is another tree's too, and then no more.
func TestWhatWasNotPutIsPutWhenItIsCarried(t *testing.T) {
	t.Parallel()
	all, _ := hosts(t, 3)
	master, change, next := reusableFiles(nil), reusableFiles(map[string]string{"ignored": "2"}), reusableFiles(map[string]string{"ignored": "3"})
	first := all[0].run(master)
	store := &counted{Shared: all[0].shared}
	all[0].shared = store
	all[0].share(all[0].change(change, master))
	if n := store.put.Load(); n != 3 {
		t.Errorf("%d files are put, want 3", n)
	}
	if r := all[1].run(change); len(r.Reused()) != 3 || r.Digest != first.Digest {
		t.Errorf("%+v\n%s", r.Steps, r.LogTail)
	}
	for _, b := range []*builds{all[0], all[1]} { // who has put them, and who has taken them
		again := &counted{Shared: store.Shared}
		b.shared = again
		if r := b.share(b.change(next, change)); len(r.Fresh) != 3 || again.put.Load() != 0 {
			t.Errorf("put again: %d files of %+v", again.put.Load(), r.Fresh)
		}
	}
	if r := all[2].run(next); len(r.Reused()) != 3 || r.Digest != first.Digest {
		t.Errorf("%+v\n%s", r.Steps, r.LogTail)
	}
}

// What the store has lost is put again once it was put, or taken from there, long ago.
func TestWhatTheStoreLostIsPutAgain(t *testing.T) {
	t.Parallel()
	all, js := hosts(t, 3)
	began := time.Now()
	later := func(d time.Duration) func() time.Time { return func() time.Time { return began.Add(d) } }
	trees := make([]map[string]string, 4)
	for i := range trees {
		trees[i] = reusableFiles(map[string]string{"ignored": fmt.Sprint(i)})
	}
	for i, b := range all[:2] { // one puts it, the other takes it
		b.now = later(0)
		if r := b.share(b.run(trees[0])); len(r.Reused()) != 3*i {
			t.Fatalf("%d: %+v\n%s", i, r.Steps, r.LogTail)
		}
	}
	stream, err := js.Stream(t.Context(), natsd.Cache)
	if err != nil {
		t.Fatal(err)
	}
	for i, b := range all[:2] {
		if err := stream.Purge(t.Context()); err != nil {
			t.Fatal(err)
		}
		store := &counted{Shared: all[2].shared}
		b.shared, b.now = store, later(putFor-time.Second)
		if b.share(b.change(trees[1], trees[0])); store.put.Load() != 0 {
			t.Errorf("%d: it was put not long ago, and %d files are put again", i, store.put.Load())
		}
		b.now = later(putFor)
		if b.share(b.change(trees[2], trees[1])); store.put.Load() != 3 {
			t.Errorf("%d: it was put long ago, and %d files are put again", i, store.put.Load())
		}
		if b.share(b.change(trees[3], trees[2])); store.put.Load() != 3 {
			t.Errorf("%d: the mark of what is put again is not new: %d files are put", i, store.put.Load())
		}
		taker := &builds{t: t, kept: filepath.Join(t.TempDir(), "kept"), shared: all[2].shared}
		if r := taker.run(trees[2]); len(r.Reused()) != 3 {
			t.Errorf("%d: not there again: %+v\n%s", i, r.Steps, r.LogTail)
		}
	}
}

// A result of the tree itself that is no good leaves nothing in the master copy's, which is taken in its place.
func TestABadResultLeavesNothingInTheNext(t *testing.T) {
	t.Parallel()
	master, change := reusableFiles(nil), reusableFiles(map[string]string{"ignored": "2"})
	bad := kept{Step: "bad", Files: make([]keptFile, mostSharedFiles+1)}
	for i := range bad.Files {
		bad.Files[i] = keptFile{Path: fmt.Sprint(i), Link: "bad"}
	}
	for _, where := range []string{"here", "elsewhere"} {
		all, _ := hosts(t, 2)
		first := all[0].share(all[0].run(master))
		b := all[0]
		for _, l := range first.Fresh {
			if where == "here" {
				folder := filepath.Join(b.kept, tree(change), l.key)
				if err := os.MkdirAll(folder, 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(folder, resultName), []byte(`{"files": [{"link": "bad"}], "bytes": "many"}`), 0o600); err != nil {
					t.Fatal(err)
				}
				continue
			}
			b = all[1]
			text, err := json.Marshal(bad)
			if err == nil {
				err = b.shared.PutEntry(t.Context(), tree(change), l.key, text)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if r := b.change(change, master); len(r.Reused()) != 3 || r.Digest != first.Digest {
			t.Errorf("%s: %+v %s, first %s\n%s", where, r.Steps, r.Digest, first.Digest, r.LogTail)
		}
	}
}

// What needs a result that can not be had is not fetched in vain.
func TestNothingIsFetchedInVain(t *testing.T) {
	t.Parallel()
	all, _ := hosts(t, 2)
	all[0].share(all[0].run(reusableFiles(nil)))
	store := &counted{Shared: all[1].shared, fails: errors.New("it is gone")}
	all[1].shared = store
	if r := all[1].run(reusableFiles(nil)); !r.Succeeded() || len(r.Reused()) > 0 || store.got.Load() != 1 {
		t.Errorf("%d files were asked for: %+v\n%s", store.got.Load(), r.Steps, r.LogTail)
	}
}

// together is a store that hands files out once so many were asked for.
type together struct {
	Shared
	asked atomic.Int64
	all   chan struct{}
}

func (s *together) Blob(ctx context.Context, digest string, size int64, to io.Writer) error {
	if s.asked.Add(1) == sharedAtOnce {
		close(s.all)
	}
	select {
	case <-s.all:
		return s.Shared.Blob(ctx, digest, size, to)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func TestFilesAreFetchedTogether(t *testing.T) {
	t.Parallel()
	all, _ := hosts(t, 2)
	files := map[string]string{".lemnis.yaml": "steps: [{name: a, run: 'mkdir made; for i in 1 2 3 4 5 6 7 8 9 10; do echo $i >made/$i; done', outputs: [made]}]\n"}
	all[0].share(all[0].run(files))
	all[1].shared = &together{Shared: all[1].shared, all: make(chan struct{})}
	if r := all[1].run(files); len(r.Reused()) != 1 {
		t.Errorf("%+v\n%s", r.Steps, r.LogTail)
	}
}
