package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lemnis/lemnis/internal/natsd"
)

// Target is an empty installation, whose services do not run.
type Target struct {
	Conn     *nats.Conn // with the rights of the installation's own key
	Registry string     // folder of the binary repository; empty: it is not restored
	Keyring  string     // file that says who connects to an embedded bus; empty: it is not restored
	// Replicas of each stream; 0: as in the backup in a cluster, else 1.
	Replicas int
}

// Restore puts an archive, which Open has found to be whole, into an empty installation. Where anything is there, or the
// bus refuses a stream, nothing is left changed.
func Restore(ctx context.Context, a *Archive, to Target) (err error) {
	js, err := jetstream.New(to.Conn)
	if err != nil {
		return fmt.Errorf("jetstream: %w", err)
	}
	if err := mustBeEmpty(ctx, js, to); err != nil {
		return err
	}
	var undo []func() error
	defer func() {
		if err == nil {
			return
		}
		for _, one := range undo {
			err = errors.Join(err, one())
		}
	}()
	// Files first: a registry with artifacts that nobody knows of is harmless, and the other way around is not.
	for _, p := range a.Manifest.Parts {
		place := to.place(p.Name)
		if place == "" {
			continue
		}
		undo = append(undo, func() error { return remove(place) })
		if err := copyOut(a, p.Name, place); err != nil {
			return fmt.Errorf("restore %s: %w", p.Name, err)
		}
	}
	for _, s := range a.Manifest.Streams {
		undo = append(undo, func() error {
			err := js.DeleteStream(context.WithoutCancel(ctx), s.Name)
			if errors.Is(err, jetstream.ErrStreamNotFound) {
				return nil
			}
			return err
		})
		if err := restoreStream(ctx, a, s, to); err != nil {
			return err
		}
	}
	return nil
}

// mustBeEmpty refuses an installation in which anything is.
func mustBeEmpty(ctx context.Context, js jetstream.JetStream, to Target) error {
	there, err := streams(ctx, js)
	if err != nil {
		return err
	}
	if len(there) > 0 {
		return fmt.Errorf("the target is not empty: it has the streams %s; a backup is restored into an installation that was never started", strings.Join(there, ", "))
	}
	for _, folder := range registryFolders {
		if to.Registry == "" {
			break
		}
		found := false
		err := filepath.WalkDir(filepath.Join(to.Registry, folder), func(_ string, e os.DirEntry, err error) error {
			found = found || err == nil && !e.IsDir()
			return nil
		})
		if err != nil || found {
			return errors.Join(fmt.Errorf("the target is not empty: there are files in the registry %s", to.Registry), err)
		}
	}
	if to.Keyring != "" {
		if _, err := os.Stat(to.Keyring); err == nil {
			return fmt.Errorf("the target is not empty: there is %s", to.Keyring)
		}
	}
	return nil
}

// place is where a part goes that is a file; empty: nowhere.
func (t Target) place(part string) string {
	if name, ok := strings.CutPrefix(part, registryPrefix); ok && t.Registry != "" {
		return filepath.Join(t.Registry, filepath.FromSlash(name))
	}
	if part == keyringPart {
		return t.Keyring
	}
	return ""
}

func remove(place string) error {
	if err := os.Remove(place); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func copyOut(a *Archive, part, place string) error {
	r, err := a.open(part)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	_, _, err = spool(place, func(w io.Writer) error { _, err := io.Copy(w, r); return err })
	return err
}

func restoreStream(ctx context.Context, a *Archive, s Stream, to Target) error {
	replicas, err := replicasOf(s, to)
	if err != nil {
		return err
	}
	config, err := configure(s, replicas)
	if err != nil {
		return err
	}
	r, err := a.open(streamPart(s.Name))
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	var floors map[string]uint64
	if s.Name == natsd.Lifecycle {
		floors = a.Manifest.TimerFloors
	}
	pr, pw := io.Pipe()
	written := make(chan error, 1)
	go func() {
		_, err := rewrite(pw, r, replicas, floors)
		written <- err
		_ = pw.CloseWithError(err)
	}()
	err = restore(ctx, to.Conn, s.Name, description{Config: config, State: s.State}, pr)
	_ = pr.CloseWithError(errors.New("the bus takes no more"))
	if broken := <-written; err == nil {
		err = broken
	}
	return err
}

func replicasOf(s Stream, to Target) (int, error) {
	if to.Replicas > 0 {
		return to.Replicas, nil
	}
	if to.Conn.ConnectedClusterName() == "" {
		return 1, nil
	}
	var c jetstream.StreamConfig
	if err := json.Unmarshal(s.Config, &c); err != nil {
		return 0, fmt.Errorf("the configuration of %s can not be read: %w", s.Name, err)
	}
	return max(c.Replicas, 1), nil
}
