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
	"sync"
	"time"

	"github.com/lemnis/lemnis/services/builder/definition"
)

// Shared is a store of what the steps of one repository left, which builders elsewhere reach too. Whoever may write to it is believed.
// That there is no such store here is [errors.ErrUnsupported].
type Shared interface {
	// Entry is what was put under a key of a tree; nil where nothing was.
	Entry(ctx context.Context, tree, key string) ([]byte, error)
	PutEntry(ctx context.Context, tree, key string, entry []byte) error
	// Blob writes what has a digest, hex of SHA-256; it fails where that is not there as a whole.
	Blob(ctx context.Context, digest string, size int64, to io.Writer) error
	PutBlob(ctx context.Context, digest string, from io.Reader) error
	// Trim makes room for what was put; it is called once all is.
	Trim(ctx context.Context) error
}

const (
	mostShared = 256 << 20 // bytes of one step
	// mostSharedFiles is how many files of one step are shared: each takes the room of a chunk at least, and many small ones of one step would
	// push out what all others left.
	mostSharedFiles = 64
	// sharedAtOnce is how many files of one step are fetched at once.
	sharedAtOnce = 8
	trimPatience = 5 * time.Second
	// putFor is how long the store is believed to have what was put: it may have lost it, or made room.
	putFor = 6 * time.Hour
)

// How long a run waits for the store: for one entry, and for all that it looks for. They are variables for tests.
var (
	entryPatience  = 2 * time.Second
	sharedPatience = 20 * time.Second
)

// Fresh are the results that a run was the first to have, or the first of its tree, and that others may have.
type Fresh []left

// left is a result that is new to the tree, for others to take.
type left struct {
	tree, key string
	kept      kept
	at        time.Time // when it was noted
}

// share notes a result for others. That of a step with secrets, or of what needs such a step, is nobody else's: its key is made of
// them, and what it left may hold them.
func (r *run) share(task string, k kept) {
	if r.spec.Shared == nil || r.away || r.private[task] || !shareable(k) {
		return
	}
	r.sharing.Lock()
	defer r.sharing.Unlock()
	r.report.Fresh = append(r.report.Fresh, left{r.spec.Tree, r.keys[task], k, r.spec.Now()})
}

func shareable(k kept) bool {
	sum := int64(0)
	for _, file := range k.Files {
		sum += file.Size
	}
	return sum <= mostShared && len(k.Files) <= mostSharedFiles
}

// Share puts the results where others find them. It is apart from the run, which need not wait for it. Nothing more is put once the store
// fails; what is gone here meanwhile is left out.
func (f Fresh) Share(ctx context.Context, to Shared) error {
	if len(f) == 0 {
		return nil
	}
	var wrong []error
	for _, l := range f {
		err := l.put(ctx, to)
		if err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %w", l.kept.Step, err))
		}
		var gone *fs.PathError
		if ctx.Err() != nil || err != nil && !errors.As(err, &gone) {
			break
		}
	}
	trimming, cancel := context.WithTimeout(context.WithoutCancel(ctx), trimPatience) // also where there was no time to put all
	defer cancel()
	if err := to.Trim(trimming); err != nil {
		wrong = append(wrong, err)
	}
	return errors.Join(wrong...)
}

// putName is a file beside a kept result's: its own were put in the store when it was written, and need not be put there again for another
// tree as long as that is not long ago.
const putName = "put"

func markPut(folder string, at time.Time) error {
	mark := filepath.Join(folder, putName)
	if err := os.WriteFile(mark, nil, 0o600); err != nil {
		return err
	}
	return os.Chtimes(mark, at, at)
}

func wasPut(folder string, now time.Time) bool {
	mark, err := os.Lstat(filepath.Join(folder, putName))
	return err == nil && now.Sub(mark.ModTime()).Abs() < putFor // clocks are put back too
}

func (l left) put(ctx context.Context, to Shared) error {
	there := wasPut(l.kept.at, l.at)
	for i, file := range l.kept.Files {
		if file.Link != "" || there {
			continue
		}
		if err := putFile(ctx, to, file.Digest, filepath.Join(l.kept.at, fmt.Sprint(i))); err != nil {
			return err
		}
	}
	text, err := json.Marshal(l.kept)
	if err != nil {
		return err
	}
	if err := to.PutEntry(ctx, l.tree, l.key, text); err != nil {
		return err
	}
	if !there {
		_ = markPut(l.kept.at, l.at) // else they are put once more
	}
	return nil
}

func putFile(ctx context.Context, to Shared, digest, name string) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	return to.PutBlob(ctx, digest, file)
}

// seek looks for what a builder elsewhere left of a task; its files are not here yet. A store that does not answer is asked no more.
func (r *run) seek(ctx context.Context, t definition.Task) (k kept, there bool) {
	key := r.keys[t.Name]
	if r.spec.Shared == nil || r.away || key == "" || r.private[t.Name] {
		return kept{}, false
	}
	for _, tree := range r.trees() {
		k = kept{} // the one before may have left something in it
		text, err := r.entry(ctx, tree, key)
		if err != nil {
			r.away = true
		}
		if errors.Is(err, errors.ErrUnsupported) {
			return kept{}, false
		}
		if err != nil {
			_, _ = fmt.Fprintf(r.log, "what other builders left is not looked at: %v\n", err)
			return kept{}, false
		}
		if text == nil {
			continue
		}
		if err = json.Unmarshal(text, &k); err == nil && !shareable(k) {
			err = errors.New("it is larger than what is shared")
		}
		if err != nil {
			_, _ = fmt.Fprintf(r.log, "the result of %s of another builder is not taken: %v\n", t.Name, err)
			continue
		}
		k.from = tree
		return k, true
	}
	return kept{}, false
}

func (r *run) entry(ctx context.Context, tree, key string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, entryPatience)
	defer cancel()
	return r.spec.Shared.Entry(ctx, tree, key)
}

// fetch keeps here, for this tree, what a builder elsewhere left.
func (r *run) fetch(ctx context.Context, task string, k *kept) error {
	key := r.keys[task]
	placed, err := r.fill(key, k, func(folder string) error {
		if err := r.fetchFiles(ctx, folder, k.Files); err != nil {
			return err
		}
		return markPut(folder, r.spec.Now())
	})
	if err != nil {
		return err
	}
	at := filepath.Join(r.own(), key)
	if !placed { // another run was first: what it left is as good, and is what lies there
		*k = kept{from: k.from}
		text, err := os.ReadFile(filepath.Join(at, resultName))
		if err == nil {
			err = json.Unmarshal(text, k)
		}
		if err != nil {
			return err
		}
	}
	k.at = at
	if placed && k.from != r.spec.Tree {
		r.share(task, *k)
	}
	k.from = ""
	return nil
}

// fetchFiles fetches some files at once; none after one that can not be had.
func (r *run) fetchFiles(ctx context.Context, folder string, files []keptFile) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var fetching sync.WaitGroup
	slots := make(chan struct{}, sharedAtOnce)
	for i, file := range files {
		if file.Link != "" {
			continue
		}
		slots <- struct{}{}
		fetching.Go(func() {
			defer func() { <-slots }()
			if err := r.fetchFile(ctx, filepath.Join(folder, fmt.Sprint(i)), file); err != nil {
				cancel(fmt.Errorf("%s: %w", file.Path, err))
			}
		})
	}
	fetching.Wait()
	return context.Cause(ctx)
}

func (r *run) fetchFile(ctx context.Context, name string, file keptFile) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	to, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(r.spec.Shared.Blob(ctx, file.Digest, file.Size, to), to.Close())
}

// secretive are the tasks that have secrets, or need one that has.
func secretive(tasks []definition.Task) map[string]bool {
	all := map[string]bool{}
	for _, t := range tasks { // each comes after what it needs
		all[t.Name] = len(t.Step.Secrets) > 0 || slices.ContainsFunc(t.Needs, func(need string) bool { return all[need] })
	}
	return all
}
