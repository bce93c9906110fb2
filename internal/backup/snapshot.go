package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	apiPrefix = "$JS.API."
	chunkSize = 256 << 10
	// silence is how long the server may say nothing in the middle of a copy.
	silence = 30 * time.Second
)

// description is what a server says of a stream as it hands it out, kept as it came: a later server may say more.
type description struct {
	Config json.RawMessage `json:"config"`
	State  json.RawMessage `json:"state"`
}

// state is the part of a stream's state that is read here.
type state struct {
	Messages uint64 `json:"messages"`
	First    uint64 `json:"first_seq"`
	Last     uint64 `json:"last_seq"`
}

func (d description) state() (s state, err error) {
	if err = json.Unmarshal(d.State, &s); err != nil {
		err = fmt.Errorf("the stream's state can not be read: %w", err)
	}
	return s, err
}

// ask sends a request to the JetStream API; what the server refuses is an error.
func ask(ctx context.Context, nc *nats.Conn, subject string, request, response any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	m, err := nc.RequestWithContext(ctx, apiPrefix+subject, body)
	if err != nil {
		return fmt.Errorf("ask the bus (%s): %w", subject, err)
	}
	return answer(m, response)
}

// answer reads a response of the JetStream API.
func answer(m *nats.Msg, response any) error {
	var refused struct {
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(m.Data, &refused); err != nil {
		return fmt.Errorf("the answer of the bus can not be read: %w", err)
	}
	if refused.Error != nil {
		return refused.Error
	}
	return json.Unmarshal(m.Data, response)
}

// snapshot copies a stream with its consumers to w, as the server gives it.
func snapshot(ctx context.Context, nc *nats.Conn, stream string, w io.Writer) (description, error) {
	inbox := nc.NewInbox()
	chunks, err := nc.SubscribeSync(inbox)
	if err != nil {
		return description{}, fmt.Errorf("copy stream %s: %w", stream, err)
	}
	defer func() { _ = chunks.Unsubscribe() }()
	if err := chunks.SetPendingLimits(-1, -1); err != nil { // the window bounds them
		return description{}, fmt.Errorf("copy stream %s: %w", stream, err)
	}
	var d description
	err = ask(ctx, nc, "STREAM.SNAPSHOT."+stream, map[string]any{"deliver_subject": inbox, "chunk_size": chunkSize}, &d)
	if err != nil {
		return description{}, fmt.Errorf("copy stream %s: %w", stream, err)
	}
	for {
		wait, cancel := context.WithTimeout(ctx, silence)
		m, err := chunks.NextMsgWithContext(wait)
		cancel()
		if err != nil {
			return description{}, fmt.Errorf("copy stream %s: %w", stream, err)
		}
		if len(m.Data) == 0 {
			if status := m.Header.Get("Status"); status != "" && status != "204" {
				return description{}, fmt.Errorf("copy stream %s: the bus gave up: %s %s", stream, status, m.Header.Get("Description"))
			}
			return d, nil
		}
		if _, err := w.Write(m.Data); err != nil {
			return description{}, fmt.Errorf("copy stream %s: %w", stream, err)
		}
		if m.Reply != "" {
			if err := m.Respond(nil); err != nil {
				return description{}, fmt.Errorf("copy stream %s: %w", stream, err)
			}
		}
	}
}

// restore makes a stream of a copy. The server makes it whole or not at all.
func restore(ctx context.Context, nc *nats.Conn, stream string, d description, r io.Reader) error {
	var begun struct {
		Deliver string `json:"deliver_subject"`
	}
	if err := ask(ctx, nc, "STREAM.RESTORE."+stream, d, &begun); err != nil {
		return fmt.Errorf("restore stream %s: %w", stream, err)
	}
	send := func(chunk []byte) (*nats.Msg, error) {
		wait, cancel := context.WithTimeout(ctx, silence)
		defer cancel()
		return nc.RequestWithContext(wait, begun.Deliver, chunk)
	}
	chunk := make([]byte, chunkSize)
	for first := true; ; first = false {
		n, err := io.ReadFull(r, chunk)
		if n > 0 {
			m, sent := send(chunk[:n])
			// In a cluster, another server may not have heard yet where the chunks are taken.
			for deadline := time.Now().Add(silence / 3); first && errors.Is(sent, nats.ErrNoResponders) && time.Now().Before(deadline); {
				<-time.After(50 * time.Millisecond)
				m, sent = send(chunk[:n])
			}
			if sent == nil && len(m.Data) > 0 {
				sent = answer(m, &struct{}{})
			}
			if sent != nil {
				return fmt.Errorf("restore stream %s: %w", stream, sent)
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("restore stream %s: %w", stream, err)
		}
	}
	m, err := send(nil)
	if err == nil {
		err = answer(m, &struct{}{})
	}
	if err != nil {
		return fmt.Errorf("restore stream %s: %w", stream, err)
	}
	return nil
}
