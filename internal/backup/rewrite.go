package backup

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/s2"
	"github.com/nats-io/nats-server/v2/server/archive"

	"github.com/lemnis/lemnis/internal/natsd"
)

// errOldServer says that a server makes copies in which consumers may be ahead of the events.
var errOldServer = errors.New("its copies do not bound the consumers to the events that are in them; nats-server 2.15 or later is needed")

const consumerPrefix = "consumers/"

// content is what rewrite found in a stream's copy.
type content struct {
	consumers int
	last      uint64 // sequence of the last message; 0: there is none
	whole     bool   // its end is there
}

// rewrite copies a stream's copy, and changes in it what has to be another way in another installation: consumers
// of a reader that is gone are left out, the others have the replicas of their new stream, and those that set
// timers begin where floors says.
func rewrite(w io.Writer, r io.Reader, replicas int, floors map[string]uint64) (content, error) {
	in := archive.NewReader(s2.NewReader(r))
	zipped := s2.NewWriter(w)
	out := archive.NewWriter(zipped)
	kept, all, err := gather(in, replicas, floors)
	if errors.Is(err, archive.ErrInvalidArchive) {
		err = errOldServer
	}
	if err != nil {
		return content{}, err
	}
	for _, e := range kept {
		if err := put(out, e.header, bytes.NewReader(e.body)); err != nil {
			return content{}, err
		}
	}
	found := content{consumers: len(kept) - 1, last: all.last}
	for h := all.next; ; {
		if h == nil {
			if h, err = in.Next(); errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return content{}, fmt.Errorf("the copy of a stream is damaged: %w", err)
			}
		}
		if found.whole = h.Sequence == 0; !found.whole {
			found.last = h.Sequence
		}
		if err := put(out, h, in); err != nil {
			return content{}, err
		}
		h = nil
	}
	return found, errors.Join(out.Close(), zipped.Close())
}

// entry is a small part of a copy: the state, a consumer.
type entry struct {
	header *archive.Header
	body   []byte
}

// ahead is what was read of the messages while the consumers were gathered.
type ahead struct {
	next *archive.Header // of the first message, or of the end
	last uint64
}

// gather reads the state and the consumers, which come first, and writes anew those that are kept. The state counts them.
func gather(in *archive.Reader, replicas int, floors map[string]uint64) ([]entry, ahead, error) {
	h, err := in.Next()
	if err != nil {
		return nil, ahead{}, err
	}
	body, err := io.ReadAll(in)
	if err != nil || h.Name != "state.json" {
		return nil, ahead{}, archive.ErrInvalidArchive
	}
	kept := []entry{{h, body}}
	for {
		if h, err = in.Next(); err != nil {
			return nil, ahead{}, err
		}
		if len(h.Name) <= len(consumerPrefix) || h.Name[:len(consumerPrefix)] != consumerPrefix || h.Sequence != 0 {
			break
		}
		if body, err = io.ReadAll(in); err != nil {
			return nil, ahead{}, err
		}
		changed, keep, err := consumer(h.Name[len(consumerPrefix):], body, replicas, floors)
		if err != nil {
			return nil, ahead{}, err
		}
		if keep {
			kept = append(kept, entry{h, changed})
		}
	}
	if kept[0].body, err = edit(kept[0].body, func(m map[string]any) { m["consumer_count"] = len(kept) - 1 }); err != nil {
		return nil, ahead{}, err
	}
	return kept, ahead{next: h}, nil
}

// consumer changes one; false: it is left out.
func consumer(name string, body []byte, replicas int, floors map[string]uint64) ([]byte, bool, error) {
	keep := true
	body, err := edit(body, func(m map[string]any) {
		config, _ := m["config"].(map[string]any)
		if durable, _ := config["durable_name"].(string); durable == "" { // a reader makes it anew
			keep = false
			return
		}
		if n, ok := config["num_replicas"].(json.Number); ok && n.String() != "0" {
			config["num_replicas"] = replicas
		}
		floor, ok := floors[name]
		position, _ := m["state"].(map[string]any)
		if !ok || position == nil {
			return
		}
		for _, pair := range []string{"delivered", "ack_floor"} {
			if at, ok := position[pair].(map[string]any); ok {
				at["stream_seq"] = floor
			}
		}
		// Consumers count apart from the stream; both floors have to agree.
		position["delivered"] = position["ack_floor"]
		delete(position, "pending")
		delete(position, "redelivered")
	})
	return body, keep, err
}

// edit changes a JSON object, and leaves in it what it does not know.
func edit(body []byte, change func(map[string]any)) ([]byte, error) {
	m := map[string]any{}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if err := d.Decode(&m); err != nil {
		return nil, fmt.Errorf("the copy of a stream is damaged: %w", err)
	}
	change(m)
	return json.Marshal(m)
}

func put(out *archive.Writer, h *archive.Header, body io.Reader) error {
	if b, ok := body.(*bytes.Reader); ok {
		h.PayloadSize = int64(b.Len())
	}
	if err := out.WriteHeader(h); err != nil {
		return err
	}
	if h.HeaderSize+h.PayloadSize == 0 {
		return nil
	}
	if _, err := io.CopyN(out, body, h.HeaderSize+h.PayloadSize); err != nil {
		return fmt.Errorf("the copy of a stream is damaged: %w", err)
	}
	return nil
}

// configure is a stream's configuration in another installation: with other replicas, and for LIFECYCLE with a note
// that it was taken up again.
func configure(s Stream, replicas int) (json.RawMessage, error) {
	var failed error
	config, err := edit(s.Config, func(m map[string]any) {
		m["num_replicas"] = replicas
		delete(m, "placement")
		if s.Name != natsd.Lifecycle {
			return
		}
		metadata, _ := m["metadata"].(map[string]any)
		if metadata == nil {
			failed = fmt.Errorf("%s in the backup has no identity", natsd.Lifecycle)
			return
		}
		noted, _ := metadata[natsd.ForksKey].(string)
		forks, err := natsd.ParseForks(noted)
		if err != nil {
			failed = err
			return
		}
		metadata[natsd.ForksKey] = forks.Add(s.Last).String()
		delete(m, "deny_purge") // of an earlier version's stream, which would never be purged
	})
	return config, errors.Join(err, failed)
}
