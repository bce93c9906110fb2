package quota

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"
)

// FileName is what the file is called where nobody names another.
const FileName = "quotas.yaml"

// File is quotas that are read again when their file has changed. Its methods may be called from several goroutines.
type File struct {
	path string
	log  *zap.Logger
	now  func() time.Time

	mu     sync.Mutex
	looked time.Time
	state  state
	quotas Quotas
}

// state tells one content of the file from another.
type state struct {
	changed time.Time
	size    int64
}

// lookEvery is how soon a change counts.
const lookEvery = 2 * time.Second

// Open reads a file. One that is not there is one without quotas, until it is.
func Open(path string, log *zap.Logger) (*File, error) {
	f := &File{path: path, log: log, now: time.Now}
	if err := f.read(); err != nil {
		return nil, fmt.Errorf("quotas in %s: %w", path, err)
	}
	f.looked = f.now()
	return f, nil
}

func (f *File) read() error {
	info, err := os.Stat(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		f.state, f.quotas = state{}, Quotas{}
		return nil
	}
	if err != nil {
		return err
	}
	now := state{info.ModTime(), info.Size()}
	if now == f.state {
		return nil
	}
	f.state = now // also when it can not be understood: that is said once
	text, err := os.ReadFile(f.path)
	if err != nil {
		return err
	}
	q, err := Parse(text)
	if err != nil {
		return err
	}
	f.quotas = q
	return nil
}

// Of is the quota of a project now. What is changed so that it can not be understood changes nothing.
func (f *File) Of(project string) Quota { return f.All().Of(project) }

// All are the quotas now.
func (f *File) All() Quotas {
	if f == nil {
		return Quotas{}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := f.now(); now.Sub(f.looked) >= lookEvery {
		f.looked = now
		if err := f.read(); err != nil {
			f.log.Error("the quotas can not be read; those from before stay in force", zap.String("file", f.path), zap.Error(err))
		}
	}
	return f.quotas
}
