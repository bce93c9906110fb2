package executor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
)

// What builds leave in the engine, and how it is removed.

// What a note says beside the short ids of images, one a line.
const (
	noteMark   = "mark"   // of the containers
	noteBefore = "before" // short ids of images that were there
)

// clear removes from the engine what was made. What has been given a name stays; of what somebody uses the note stays too, so that it
// is tried again.
func (s *site) clear(ctx context.Context) (left error) {
	left = leave(ctx, s.api, s.mark, s.others)
	if left == nil {
		left = removeMade(ctx, s.api, s.seen, s.before)
	}
	switch {
	case left == nil:
		left = os.Remove(s.note.Name())
	case errors.Is(left, errUsed):
		left = nil
	}
	return errors.Join(left, s.note.Close())
}

// leave removes a build's containers, and waits until they are gone: an engine that was not waited for is about to remove them itself,
// and they hold the images.
func leave(ctx context.Context, api *client.Client, mark int64, others map[string]bool) error {
	ctx, cancel := context.WithTimeout(ctx, working)
	defer cancel()
	for {
		there, err := marked(ctx, api, mark, true, others)
		if err != nil || len(there) == 0 {
			return err
		}
		for _, id := range there {
			if err := remove(ctx, api, id); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return errors.New("a container of the build does not go")
		case <-time.After(glance):
		}
	}
}

// errUsed says that the engine does not remove an image, since somebody uses it.
var errUsed = errors.New("an image that was built is in use")

// removeMade removes the images of short ids that have no name, the newest first, and those that an engine has made of them without that
// anybody read of it: that were not there before, which is unknown where nothing was.
func removeMade(ctx context.Context, api *client.Client, ids []string, before map[string]bool) (left error) {
	if len(ids) == 0 {
		return nil
	}
	all, err := images(ctx, api)
	if err != nil {
		return err
	}
	whole := map[string]string{}
	made := map[string]bool{}
	for _, id := range ids {
		made[id] = true
	}
	for _, image := range all.Items {
		named := slices.ContainsFunc(slices.Concat(image.RepoTags, image.RepoDigests), func(name string) bool { return !strings.HasPrefix(name, "<none>") })
		if !named {
			whole[short(image.ID)] = image.ID
		}
	}
	for more := len(before) > 0; more; {
		more = false
		for _, image := range all.Items {
			if id := short(image.ID); image.ParentID != "" && made[short(image.ParentID)] && !made[id] && !before[id] && whole[id] != "" {
				made[id], more, ids = true, true, append(ids, id)
			}
		}
	}
	for _, id := range slices.Backward(ids) {
		if whole[id] == "" {
			continue
		}
		_, err := ask(ctx, working, func(ctx context.Context) (client.ImageRemoveResult, error) {
			return api.ImageRemove(ctx, whole[id], client.ImageRemoveOptions{})
		})
		switch {
		case err == nil || errdefs.IsNotFound(err):
		case errdefs.IsConflict(err) && left == nil:
			left = fmt.Errorf("%w: %w", errUsed, err)
		case !errdefs.IsConflict(err):
			left = fmt.Errorf("remove an image that was built: %w", err) // says more than that another is used
		}
	}
	return left
}

// removeBuilt removes what builds of a process have left that was killed.
func (d *Docker) removeBuilt(ctx context.Context, api *client.Client, id string) (left error) {
	notes, err := filepath.Glob(filepath.Join(d.folder+"-built", id+"-*"))
	if err != nil {
		return err
	}
	for _, note := range notes {
		text, err := os.ReadFile(note)
		if err == nil {
			err = removeNoted(ctx, api, string(bytes.ToValidUTF8(text, nil)))
		}
		if err == nil {
			err = os.Remove(note)
		}
		left = errors.Join(left, err)
	}
	return left
}

func removeNoted(ctx context.Context, api *client.Client, text string) error {
	var ids []string
	var mark int64
	before := map[string]bool{}
	for line := range strings.Lines(text) {
		switch words := strings.Fields(line); {
		case len(words) == 2 && words[0] == noteMark:
			mark, _ = strconv.ParseInt(words[1], 10, 64) // one that was not written to its end marks nothing yet
		case len(words) > 0 && words[0] == noteBefore:
			for _, id := range words[1:] {
				before[id] = true
			}
		case len(words) == 1:
			ids = append(ids, words[0])
		}
	}
	if mark > 0 {
		if err := leave(ctx, api, mark, map[string]bool{}); err != nil {
			return err
		}
	}
	return removeMade(ctx, api, ids, before)
}
