package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/lemnis/lemnis/services/builder/definition"
)

// Shared is a store of what the steps of one repository left, which builders elsewhere reach too. Whoever may write to it is believed.
type Shared interface {
	// Entry is what was put under a key of a tree; nil where nothing was.
	Entry(ctx context.Context, tree, key string) ([]byte, error)
	PutEntry(ctx context.Context, tree, key string, entry []byte) error
	// Blob writes what has a digest, hex of SHA-256; it fails where that is not there as a whole.
	Blob(ctx context.Context, digest string, size int64, to io.Writer) error
	PutBlob(ctx context.Context, digest string, from io.Reader) error
}

const (
	mostShared = 256 << 20 // bytes of one step
	// mostSharedFiles is how many files of one step are shared: each takes the room of a chunk at least, and many small ones of one step would
	// push out what all others left.
	mostSharedFiles = 64
)

// How long a run waits for the store: for one entry, and for all that it looks for. They are variables for tests.
var (
	entryPatience  = 2 * time.Second
	sharedPatience = 20 * time.Second
)

// left is a result that is new to the tree, for others to take.
type left struct {
	tree, key string
	kept      kept
	carried   bool // of the master copy: whoever ran it has put its files
}

// share notes a result for [Report.Share]. That of a step with secrets, or of what needs such a step, is nobody else's: its key is made of
// them, and what it left may hold them.
func (r *run) share(task string, k kept, carried bool) {
	if r.spec.Shared == nil || r.private[task] || !shareable(k) {
		return
	}
	r.sharing.Lock()
	defer r.sharing.Unlock()
	r.report.left = append(r.report.left, left{r.spec.Tree, r.keys[task], k, carried})
}

func shareable(k kept) bool {
	sum := int64(0)
	for _, file := range k.Files {
		sum += file.Size
	}
	return sum <= mostShared && len(k.Files) <= mostSharedFiles
}

// Share puts the results that the run was the first to have, or the first of its tree, where others find them. It is apart from the run,
// which need not wait for it.
func (r Report) Share(ctx context.Context, to Shared) error {
	var wrong []error
	for _, l := range r.left {
		if err := l.put(ctx, to); err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %w", l.kept.Step, err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(wrong...)
}

func (l left) put(ctx context.Context, to Shared) error {
	for i, file := range l.kept.Files {
		if file.Link != "" || l.carried {
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
	return to.PutEntry(ctx, l.tree, l.key, text)
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
		text, err := r.entry(ctx, tree, key)
		if err != nil {
			r.away = true
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
		for i, file := range k.Files {
			if file.Link != "" {
				continue
			}
			to, err := os.OpenFile(filepath.Join(folder, fmt.Sprint(i)), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
			if err != nil {
				return err
			}
			if err := errors.Join(r.spec.Shared.Blob(ctx, file.Digest, file.Size, to), to.Close()); err != nil {
				return fmt.Errorf("%s: %w", file.Path, err)
			}
		}
		return nil
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
		r.share(task, *k, true)
	}
	k.from = ""
	return nil
}

// secretive are the tasks that have secrets, or need one that has.
func secretive(tasks []definition.Task) map[string]bool {
	all := map[string]bool{}
	for _, t := range tasks { // each comes after what it needs
		all[t.Name] = len(t.Step.Secrets) > 0 || slices.ContainsFunc(t.Needs, func(need string) bool { return all[need] })
	}
	return all
}
