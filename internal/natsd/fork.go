package natsd

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// ForksKey is where LIFECYCLE notes, in its metadata, where it was taken up again from a backup:
// "<sequence>-<random>", separated by commas.
const ForksKey = "lemnis-restored"

// Fork is a place at which a stream was taken up again from a backup. What stood behind it before may have been read by
// others, so what comes to stand there now has to be told from it.
type Fork struct {
	After uint64 // the last sequence of the backup
	Name  string
}

// Forks are in the order of their making; a later one is never below an earlier one, since a backup holds those before.
type Forks []Fork

// ParseForks reads what [Forks.String] writes.
func ParseForks(text string) (Forks, error) {
	if text == "" {
		return nil, nil
	}
	var forks Forks
	for one := range strings.SplitSeq(text, ",") {
		sequence, name, _ := strings.Cut(one, "-")
		after, err := strconv.ParseUint(sequence, 10, 64)
		if err != nil || name == "" {
			return nil, fmt.Errorf("%s of stream %s: %q can not be read", ForksKey, Lifecycle, one)
		}
		forks = append(forks, Fork{after, name})
	}
	return forks, nil
}

// String is for the metadata.
func (f Forks) String() string {
	parts := make([]string, len(f))
	for i, one := range f {
		parts[i] = strconv.FormatUint(one.After, 10) + "-" + one.Name
	}
	return strings.Join(parts, ",")
}

// Add notes another one.
func (f Forks) Add(after uint64) Forks {
	var name [4]byte
	_, _ = rand.Read(name[:]) // never fails
	return append(f[:len(f):len(f)], Fork{after, hex.EncodeToString(name[:])})
}

// Identity is that of the stream, at a sequence: its own up to the first fork, and another behind each.
func (f Forks) Identity(stream string, sequence uint64) string {
	name := ""
	for _, one := range f {
		if sequence > one.After {
			name = "." + one.Name
		}
	}
	return stream + name
}

// ReadForks reads those of LIFECYCLE.
func ReadForks(ctx context.Context, js jetstream.JetStream) (Forks, error) {
	ctx, cancel := context.WithTimeout(ctx, ensureTimeout)
	defer cancel()
	var forks Forks
	err := insist(ctx, func(ctx context.Context) error {
		st, err := js.Stream(ctx, Lifecycle)
		if err != nil {
			return err
		}
		forks, err = ParseForks(st.CachedInfo().Config.Metadata[ForksKey])
		return err
	})
	return forks, err
}
