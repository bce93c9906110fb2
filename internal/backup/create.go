package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lemnis/lemnis/internal/natsd"
)

// Source is an installation to copy.
type Source struct {
	Conn    *nats.Conn // with the rights of the installation's own key
	Version string     // of this program, for the manifest
	// Registry writes the files of the binary repository to add; nil: they are not copied.
	Registry func(ctx context.Context, add func(name string, write func(io.Writer) error) error) error
	// Keyring is the file that says who connects to an embedded bus; empty, or not there: there is none.
	Keyring string
}

// keyringPart is the keyring in an archive.
const keyringPart = "nats/" + natsd.KeysFile

// registryPrefix begins the names of the registry's files in an archive.
const registryPrefix = "registry/"

// Create copies an installation, while it works, to a tar file or a folder that is not there yet.
func Create(ctx context.Context, from Source, out string) (_ Manifest, err error) {
	js, err := jetstream.New(from.Conn)
	if err != nil {
		return Manifest{}, fmt.Errorf("jetstream: %w", err)
	}
	names, err := streams(ctx, js)
	if err != nil {
		return Manifest{}, err
	}
	m := Manifest{Format: format, Version: from.Version, Server: from.Conn.ConnectedServerVersion(), Created: time.Now().UTC(), Registry: from.Registry != nil}
	if m.TimerFloors, err = timerFloors(ctx, js); err != nil {
		return Manifest{}, err
	}
	to, err := newSink(out, m.Created)
	if err != nil {
		return Manifest{}, err
	}
	defer func() {
		if err != nil {
			to.discard()
		}
	}()
	for _, name := range names {
		s, err := copyStream(ctx, from.Conn, to, name)
		if err != nil {
			return Manifest{}, err
		}
		m.Streams = append(m.Streams, s)
		if name != natsd.Lifecycle {
			continue
		}
		m.Sequence = s.Last
		if m.Identity, err = identityOf(s.Config); err != nil {
			return Manifest{}, err
		}
	}
	if m.Identity == "" {
		return Manifest{}, fmt.Errorf("there is no stream %s: this is no installation of Lemnis", natsd.Lifecycle)
	}
	if err := copyFiles(ctx, from, to); err != nil {
		return Manifest{}, err
	}
	err = to.finish(&m)
	return m, err
}

// copyStream adds a stream, and looks whether its copy is what can be restored.
func copyStream(ctx context.Context, nc *nats.Conn, to *sink, name string) (Stream, error) {
	var d description
	var found content
	err := to.add(streamPart(name), func(w io.Writer) error {
		pr, pw := io.Pipe()
		looked := make(chan error, 1)
		go func() {
			var err error
			found, err = rewrite(io.Discard, pr, 1, nil)
			looked <- errors.Join(err, pr.CloseWithError(err))
		}()
		var err error
		d, err = snapshot(ctx, nc, name, io.MultiWriter(w, pw))
		_ = pw.CloseWithError(err)
		if broken := <-looked; broken != nil {
			return fmt.Errorf("the copy of stream %s by nats-server %s can not be used: %w", name, nc.ConnectedServerVersion(), broken)
		}
		return err
	})
	if err != nil {
		return Stream{}, err
	}
	st, err := d.state()
	if err != nil {
		return Stream{}, err
	}
	if !found.whole || found.last > st.Last || name == natsd.Lifecycle && st.Messages > 0 && found.last != st.Last {
		return Stream{}, fmt.Errorf("the copy of stream %s ends at %d, not at %d", name, found.last, st.Last)
	}
	return Stream{Name: name, Messages: st.Messages, First: st.First, Last: st.Last, Config: d.Config, State: d.State}, nil
}

func identityOf(config json.RawMessage) (string, error) {
	var c struct {
		Metadata map[string]string `json:"metadata"`
	}
	if err := json.Unmarshal(config, &c); err != nil {
		return "", fmt.Errorf("the configuration of %s can not be read: %w", natsd.Lifecycle, err)
	}
	if c.Metadata[natsd.IdentityKey] == "" {
		return "", fmt.Errorf("stream %s has no %s: something else has made it", natsd.Lifecycle, natsd.IdentityKey)
	}
	return c.Metadata[natsd.IdentityKey], nil
}

// copyFiles adds what is not on the bus.
func copyFiles(ctx context.Context, from Source, to *sink) error {
	if from.Keyring != "" {
		text, err := os.ReadFile(from.Keyring)
		if err == nil {
			err = to.add(keyringPart, func(w io.Writer) error { _, err := w.Write(text); return err })
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("copy the keyring: %w", err)
		}
	}
	if from.Registry == nil {
		return nil
	}
	return from.Registry(ctx, func(name string, write func(io.Writer) error) error {
		if !filepath.IsLocal(filepath.FromSlash(name)) {
			return fmt.Errorf("the registry has a file %q outside of itself", name)
		}
		return to.add(registryPrefix+name, write)
	})
}
