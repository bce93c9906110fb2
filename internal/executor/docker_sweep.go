package executor

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/moby/moby/client"
)

// A process that makes containers holds a lock on a file of its own in the folder, named by what it labels them with, which says the engine. The lock
// ends with the process, however that ends; whoever gets it removes the containers, then the file.

// Sweep removes the containers that processes on this folder have left, being killed. Where none was, it asks no engine. The
// error may be of some of them only: the next process on the folder tries those again.
func (d *Docker) Sweep(ctx context.Context) error {
	if left, err := os.ReadDir(d.folder); err != nil || len(left) <= 1 { // the folder's own lock
		return nil //nolint:nilerr // nobody was here yet
	}
	if _, err := d.open(ctx); err != nil {
		return err
	}
	return d.told()
}

// alone keeps other processes away from the folder.
func (d *Docker) alone(ctx context.Context) (leave func(), err error) {
	if err := os.MkdirAll(d.folder, 0o700); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(d.folder, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for { // not LOCK_EX alone, which waits whatever the context says
		err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = lock.Close() }, nil
		}
		if errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, syscall.EINTR) {
			select {
			case <-ctx.Done():
				err = context.Cause(ctx)
			case <-time.After(20 * time.Millisecond):
				continue
			}
		}
		_ = lock.Close()
		return nil, err
	}
}

// sign notes that this process lives, after it has looked after those that do not.
func (d *Docker) sign(ctx context.Context, api *client.Client) error {
	leave, err := d.alone(ctx)
	if err != nil {
		return err
	}
	defer leave()
	d.left = d.bury(ctx, api) // steps need not wait for what is not to be removed
	if ctx.Err() != nil {
		return context.Cause(ctx) // it was not tried for long enough
	}
	id := make([]byte, 16)
	_, _ = rand.Read(id)
	d.id = hex.EncodeToString(id)
	d.mine, err = os.OpenFile(filepath.Join(d.folder, d.id), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if _, err := d.mine.WriteString(d.engine); err != nil {
		return err
	}
	return syscall.Flock(int(d.mine.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}

// bury removes what processes left that live no more, and the note of each of which nothing is left.
func (d *Docker) bury(ctx context.Context, api *client.Client) (left error) {
	ctx, cancel := context.WithTimeout(ctx, working)
	defer cancel()
	notes, err := os.ReadDir(d.folder)
	if err != nil {
		return err
	}
	for _, note := range notes {
		if note.Name() != "lock" {
			left = errors.Join(left, d.buryOne(ctx, api, filepath.Join(d.folder, note.Name())))
		}
	}
	return left
}

// buryOne leaves alone what is another engine's: that one has to be asked. A note that names none is of a version before.
func (d *Docker) buryOne(ctx context.Context, api *client.Client, note string) error {
	file, err := os.OpenFile(note, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil // it lives
	}
	var engine []byte
	if err == nil {
		engine, err = io.ReadAll(io.LimitReader(file, 1<<16))
	}
	if err == nil && len(engine) > 0 && string(engine) != d.engine {
		return nil
	}
	if err == nil {
		err = errors.Join(removeAllOf(ctx, api, filepath.Base(note)), d.removeBuilt(ctx, api, filepath.Base(note)))
	}
	if err != nil {
		return err
	}
	return os.Remove(note)
}

func removeAllOf(ctx context.Context, api *client.Client, id string) error {
	found, err := api.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: client.Filters{}.Add("label", label+"="+id)})
	for _, c := range found.Items {
		err = errors.Join(err, remove(ctx, api, c.ID))
	}
	return err
}
