package pipeline

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"os"
	"sync"
)

// transcript is the full log: written to a file, hashed on the way, its tail kept in memory.
type transcript struct {
	mu   sync.Mutex
	file *os.File
	live io.Writer // nil: nobody
	sum  hash.Hash
	size int64
	tail tail
}

func newTranscript(path string, keep int, live io.Writer) (*transcript, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	return &transcript{file: f, live: live, sum: sha256.New(), tail: tail{most: keep}}, nil
}

func (t *transcript) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, err := t.file.Write(p); err != nil {
		return 0, err
	}
	if t.live != nil {
		_, _ = t.live.Write(p) // who looks on does not stop the run by looking away
	}
	t.sum.Write(p)
	t.size += int64(len(p))
	return t.tail.Write(p)
}

func (t *transcript) close(r *Report) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	end := t.tail.kept
	if len(end) > t.tail.most {
		end = end[len(end)-t.tail.most:]
	}
	r.LogFile = t.file.Name()
	r.LogDigest = "sha256:" + hex.EncodeToString(t.sum.Sum(nil))
	r.LogSize = t.size
	r.LogTail = string(end)
	return t.file.Close()
}
