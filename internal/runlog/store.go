package runlog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/pkg/events"
)

// MostBytes is how much of a run's log is kept.
const MostBytes = 2 << 30

// Kind is what a run is for.
type Kind string

// The kinds, in the order in which a log is looked for.
const (
	Pipeline Kind = "pipeline" // a change tested
	Build    Kind = "build"    // a commit packaged that was not tested by the same worker
)

// Kinds lists all.
var Kinds = []Kind{Pipeline, Build}

// Run names a run of a project.
type Run struct {
	Project string
	Kind    Kind
	Key     string // of the pipeline run, or of the build
}

func (r Run) subject() string {
	return "logs." + events.EscapeKey(r.Project) + "." + string(r.Kind) + "." + events.EscapeKey(r.Key)
}

// Path is where a gateway gives the log out.
func (r Run) Path() string {
	return "/api/v1/logs/" + url.PathEscape(r.Project) + "/" + url.PathEscape(r.Key) + "?kind=" + string(r.Kind)
}

// Headers of a gateway's answer.
const (
	AttemptHeader = "Lemnis-Log-Attempt"
	DigestHeader  = "Lemnis-Log-Digest"  // of a log that is whole
	DroppedHeader = "Lemnis-Log-Dropped" // bytes of it that are not kept
)

// ErrNotFound says that there is no log: there was none, or it is gone.
var ErrNotFound = errors.New("no log")

// Store is the logs of all runs. Its methods may be called from several goroutines.
type Store struct {
	js   jetstream.JetStream
	most int64
}

// New is the store on a bus whose streams are there.
func New(js jetstream.JetStream) *Store { return &Store{js: js, most: MostBytes} }

// header is what a chunk says of itself, as JSON in the message's header.
type header struct {
	Attempt uint64 `json:"attempt"`
	Offset  int64  `json:"offset"`        // of the chunk in the log
	Size    int    `json:"size"`          // before it was compressed
	Raw     bool   `json:"raw,omitempty"` // it is not compressed
	Parts   []part `json:"parts,omitempty"`
	End     *Kept  `json:"end,omitempty"` // of the last chunk only
}

const headerName = "Lemnis-Log"

// part is a piece of a chunk that one step printed; the empty name is the run itself.
type part struct {
	Step  string `json:"step,omitempty"`
	Bytes int    `json:"bytes"`
}

// Kept is what became of a log.
type Kept struct {
	Digest  string `json:"digest"`            // of what is kept, "sha256:<hex>"
	Size    int64  `json:"size"`              // of what is kept
	Dropped int64  `json:"dropped,omitempty"` // bytes that are not
	Reason  string `json:"reason,omitempty"`  // why they are not
}

// Last is where a log stands.
type Last struct {
	Run     Run
	Attempt uint64
	Kept    *Kept // nil: the run goes on, or its worker was lost

	sequence uint64
}

// Find says where the log of a run stands. Without a kind each is looked for.
func (s *Store) Find(ctx context.Context, run Run) (Last, error) {
	kinds := Kinds
	if run.Kind != "" {
		kinds = []Kind{run.Kind}
	}
	stream, err := s.js.Stream(ctx, natsd.Logs)
	if err != nil {
		return Last{}, fmt.Errorf("logs: %w", err)
	}
	for _, run.Kind = range kinds {
		m, err := stream.GetLastMsgForSubject(ctx, run.subject())
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return Last{}, fmt.Errorf("logs: %w", err)
		}
		h, err := parse(m.Header.Get(headerName))
		if err != nil {
			return Last{}, err
		}
		return Last{Run: run, Attempt: h.Attempt, Kept: h.End, sequence: m.Sequence}, nil
	}
	return Last{}, ErrNotFound
}

func parse(text string) (h header, err error) {
	if err := json.Unmarshal([]byte(text), &h); err != nil {
		return h, fmt.Errorf("logs: the header of a chunk: %w", err)
	}
	sum := 0
	for _, p := range h.Parts {
		if p.Bytes < 0 || h.Size-sum < p.Bytes {
			return h, fmt.Errorf("logs: a chunk of %d bytes has parts of more", h.Size)
		}
		sum += p.Bytes
	}
	if sum != h.Size || h.Size > chunkBytes {
		return h, fmt.Errorf("logs: a chunk of %d bytes has parts of %d", h.Size, sum)
	}
	return h, nil
}
