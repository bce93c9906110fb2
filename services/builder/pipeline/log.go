package pipeline

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"os"
	"sync"
)

var errOutputLimit = errors.New("output limit")

// transcript is the full log: written to a file, hashed on the way, its tail kept in memory.
type transcript struct {
	mu    sync.Mutex
	file  *os.File
	sum   hash.Hash
	size  int64
	limit int64
	tail  []byte
	keep  int
	full  func() // called once, when the limit is passed
	over  bool
}

func newTranscript(path string, limit int64, keep int) (*transcript, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	return &transcript{file: f, sum: sha256.New(), limit: limit, keep: keep}, nil
}

// Write never returns an error for the limit: the command is ended by its group, not by a broken
// pipe that it could misread as its own failure.
func (t *transcript) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(p)
	if left := t.limit - t.size; int64(len(p)) > left {
		p = p[:max(left, 0)]
		if !t.over {
			t.over = true
			if t.full != nil {
				t.full()
			}
		}
	}
	if _, err := t.file.Write(p); err != nil {
		return 0, err
	}
	t.sum.Write(p)
	t.size += int64(len(p))
	t.tail = append(t.tail, p...)
	if len(t.tail) > 2*t.keep {
		t.tail = append([]byte(nil), t.tail[len(t.tail)-t.keep:]...)
	}
	return n, nil
}

// onFull says what to do when the limit is passed, now or later.
func (t *transcript) onFull(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.full = f
	if t.over && f != nil {
		f()
	}
}

func (t *transcript) close(r *Report) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	tail := t.tail
	if len(tail) > t.keep {
		tail = tail[len(tail)-t.keep:]
	}
	r.LogFile = t.file.Name()
	r.LogDigest = "sha256:" + hex.EncodeToString(t.sum.Sum(nil))
	r.LogSize = t.size
	r.LogTail = string(tail)
	return t.file.Close()
}
