package executor

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
)

const (
	// mostPulled is how many bytes the images of an engine may take that were pulled for steps, as it counts them: what several share
	// is counted for each.
	mostPulled = 20 << 30
	// restsFor is how long an image stays after it was used, whatever there is: a step may be about to begin with it.
	restsFor = time.Hour
)

// pulled is an image that was not there before a step asked for it: the only kind that is removed. Its file's time is when it was used
// last; processes on the folder share them.
type pulled struct {
	Engine string `json:"engine"`
	Name   string `json:"name"`
	ID     string `json:"id"`
	Bytes  int64  `json:"bytes"`

	file string
	used time.Time
}

// pulledFile is where it is noted that an image was pulled.
func (d *Docker) pulledFile(name string) string {
	sum := sha256.Sum256([]byte(d.engine + "\x00" + name))
	return filepath.Join(d.folder+"-images", hex.EncodeToString(sum[:16])+".json")
}

// use notes that an image is used; one that was not pulled for a step is nobody's here.
func (d *Docker) use(name string) {
	now := time.Now()
	_ = os.Chtimes(d.pulledFile(name), now, now)
}

// pulled notes an image that has just come, and removes those of before that are too many.
func (d *Docker) pulled(ctx context.Context, api *client.Client, name string, found client.ImageInspectResult) error {
	file := d.pulledFile(name)
	text, err := json.Marshal(pulled{Engine: d.engine, Name: name, ID: found.ID, Bytes: found.Size})
	if err == nil {
		err = os.MkdirAll(filepath.Dir(file), 0o700)
	}
	if err == nil {
		err = os.WriteFile(file, text, 0o600)
	}
	if err != nil {
		return err
	}
	return d.makeRoom(ctx, api, time.Now())
}

// makeRoom removes what was pulled for steps beyond mostPulled, what was not used for longest first.
func (d *Docker) makeRoom(ctx context.Context, api *client.Client, now time.Time) (left error) {
	all, err := d.allPulled()
	if err != nil {
		return err
	}
	total := int64(0)
	for _, p := range all {
		total += p.Bytes
	}
	for _, p := range all {
		if total <= mostPulled || now.Sub(p.used) < restsFor {
			break
		}
		switch gone, err := removeImage(ctx, api, p); {
		case err != nil:
			left = errors.Join(left, err)
		case gone:
			total -= p.Bytes
			left = errors.Join(left, os.Remove(p.file))
		}
	}
	return left
}

// allPulled lists what was pulled on this engine, what was not used for longest first.
func (d *Docker) allPulled() (all []pulled, err error) {
	entries, err := os.ReadDir(d.folder + "-images")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		p := pulled{file: filepath.Join(d.folder+"-images", e.Name())}
		text, err := os.ReadFile(p.file)
		if info, unknown := e.Info(); err == nil && unknown == nil {
			p.used = info.ModTime()
		}
		if err != nil || json.Unmarshal(text, &p) != nil || p.Engine != d.engine {
			continue // being written, or another engine's
		}
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b pulled) int { return cmp.Or(a.used.Compare(b.used), cmp.Compare(a.Name, b.Name)) })
	return all, nil
}

// removeImage removes an image by its name, if that still means what was pulled. One that a container uses stays, for another time.
func removeImage(ctx context.Context, api *client.Client, p pulled) (gone bool, err error) {
	found, err := imageOf(ctx, api, p.Name)
	switch {
	case errdefs.IsNotFound(err), err == nil && found.ID != p.ID: // somebody else removed it, or gave the name to another
		return true, nil
	case err != nil:
		return false, fmt.Errorf("image %s: %w", p.Name, err)
	}
	_, err = ask(ctx, working, func(ctx context.Context) (client.ImageRemoveResult, error) {
		return api.ImageRemove(ctx, p.Name, client.ImageRemoveOptions{PruneChildren: true})
	})
	switch {
	case err == nil, errdefs.IsNotFound(err):
		return true, nil
	case errdefs.IsConflict(err):
		return false, nil
	}
	return false, fmt.Errorf("remove image %s: %w", p.Name, err)
}
