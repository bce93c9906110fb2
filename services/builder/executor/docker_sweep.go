package executor

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/moby/moby/client"
)

// A process that makes containers holds a lock on a file of its own in the folder, named by what it labels them with. The lock
// ends with the process, however that ends; whoever gets it removes the containers, then the file.

// Sweep removes the containers that processes on this folder have left, being killed. Where none was, it asks no engine.
func (d *Docker) Sweep(ctx context.Context) error {
	if left, err := os.ReadDir(d.folder); err != nil || len(left) <= 1 { // the folder's own lock
		return nil //nolint:nilerr // nobody was here yet
	}
	_, err := d.open(ctx)
	return err
}

// alone keeps other processes away from the folder.
func (d *Docker) alone() (leave func(), err error) {
	if err := os.MkdirAll(d.folder, 0o700); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(d.folder, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		_ = lock.Close()
		return nil, err
	}
	return func() { _ = lock.Close() }, nil
}

// sign notes that this process lives, after it has looked after those that do not.
func (d *Docker) sign(ctx context.Context, api *client.Client) error {
	leave, err := d.alone()
	if err != nil {
		return err
	}
	defer leave()
	if err := d.bury(ctx, api); err != nil {
		return fmt.Errorf("remove what a process that was killed has left: %w", err)
	}
	id := make([]byte, 16)
	_, _ = rand.Read(id)
	d.id = hex.EncodeToString(id)
	d.mine, err = os.OpenFile(filepath.Join(d.folder, d.id), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	return syscall.Flock(int(d.mine.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}

func (d *Docker) bury(ctx context.Context, api *client.Client) error {
	notes, err := os.ReadDir(d.folder)
	if err != nil {
		return err
	}
	for _, note := range notes {
		if note.Name() == "lock" {
			continue
		}
		at := filepath.Join(d.folder, note.Name())
		file, err := os.OpenFile(at, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			err = errors.Join(removeAllOf(ctx, api, note.Name()), os.Remove(at))
		} else if errors.Is(err, syscall.EWOULDBLOCK) {
			err = nil // it lives
		}
		_ = file.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func removeAllOf(ctx context.Context, api *client.Client, id string) error {
	found, err := api.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: client.Filters{}.Add("label", label+"="+id)})
	for _, c := range found.Items {
		err = errors.Join(err, remove(ctx, api, c.ID))
	}
	return err
}
