package pipeline

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"os"
	"sync"
)

// Log keeps what a run prints. The empty step is the run itself; p is the caller's again afterwards.
type Log interface {
	Print(step string, p []byte) error
}

// transcript is the full log: kept elsewhere, its tail in memory.
type transcript struct {
	mu   sync.Mutex
	log  Log
	file *logFile  // the log, where the run keeps it itself
	live io.Writer // nil: nobody
	tail tail
}

func newTranscript(path string, spec Spec) (*transcript, error) {
	t := &transcript{log: spec.Log, live: spec.Live, tail: tail{most: spec.TailBytes}}
	if t.log == nil {
		f, err := os.Create(path)
		if err != nil {
			return nil, err
		}
		t.file = &logFile{file: f, sum: sha256.New()}
		t.log = t.file
	}
	return t, nil
}

// Write takes what the run itself has to say.
func (t *transcript) Write(p []byte) (int, error) { return t.print("", p) }

func (t *transcript) print(step string, p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.log.Print(step, p); err != nil {
		return 0, err
	}
	if t.live != nil {
		_, _ = t.live.Write(p) // who looks on does not stop the run by looking away
	}
	return t.tail.Write(p)
}

// of is the log of one step.
func (t *transcript) of(step string) io.Writer { return stepLog{t, step} }

type stepLog struct {
	all  *transcript
	step string
}

func (l stepLog) Write(p []byte) (int, error) { return l.all.print(l.step, p) }

func (t *transcript) close(r *Report) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	end := t.tail.kept
	if len(end) > t.tail.most {
		end = end[len(end)-t.tail.most:]
	}
	r.LogTail = string(end)
	if t.file == nil {
		return nil
	}
	r.LogFile, r.LogSize = t.file.file.Name(), t.file.size
	r.LogDigest = "sha256:" + hex.EncodeToString(t.file.sum.Sum(nil))
	return t.file.file.Close()
}

// logFile is a log in a file, hashed on the way.
type logFile struct {
	file *os.File
	sum  hash.Hash
	size int64
}

func (l *logFile) Print(_ string, p []byte) error {
	if _, err := l.file.Write(p); err != nil {
		return err
	}
	l.sum.Write(p)
	l.size += int64(len(p))
	return nil
}
