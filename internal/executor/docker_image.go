package executor

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
)

// pulling is how long an image may take to come.
const pulling = 15 * time.Minute

// find brings an image here, where it is not, and keeps in mind which it was. Containers are made of what it finds, whatever
// the name means by then.
func (p *pod) find(ctx context.Context, name string) (client.ImageInspectResult, error) {
	if reserved(name) {
		return client.ImageInspectResult{}, failed{unable(CauseImage, "image %s is the builder's own", name)}
	}
	found, err := imageOf(ctx, p.api, name)
	if errdefs.IsNotFound(err) {
		_, _ = fmt.Fprintf(p.out, "= image %s is not here, and is pulled\n", name)
		if err := p.pull(ctx, name); silent(err) {
			return found, fmt.Errorf("pull image %s: %w", name, err)
		} else if err != nil {
			return found, failed{unable(CauseImage, "image %s is not here, and can not be pulled: %v", name, err)}
		}
		if found, err = imageOf(ctx, p.api, name); err == nil {
			if left := p.engine.pulled(ctx, p.api, name, found); left != nil { // no reason that the step does not run
				_, _ = fmt.Fprintf(p.out, "= images that were pulled before are not all removed: %v\n", left)
			}
		}
	} else if err == nil {
		p.engine.use(name)
	}
	switch {
	case errdefs.IsInvalidArgument(err):
		return found, failed{unable(CauseImage, "image %s: %v", name, err)}
	case err != nil:
		return found, fmt.Errorf("image %s: %w", name, err)
	}
	p.images[name] = pinned(name, found)
	return found, nil
}

func imageOf(ctx context.Context, api *client.Client, name string) (client.ImageInspectResult, error) {
	return ask(ctx, answers, func(ctx context.Context) (client.ImageInspectResult, error) { return api.ImageInspect(ctx, name) })
}

// silent says that it is the engine that does not answer, which is nobody's fault who asked for an image.
func silent(err error) bool {
	return client.IsErrConnectionFailed(err) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, io.ErrUnexpectedEOF)
}

func (p *pod) pull(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, pulling, errLate)
	defer cancel()
	coming, err := p.api.ImagePull(ctx, name, client.ImagePullOptions{})
	if err != nil {
		return err
	}
	if err = coming.Wait(ctx); err != nil && errors.Is(context.Cause(ctx), errLate) {
		return errLate // a slow registry's doing, not the engine's
	}
	return err
}

var errLate = fmt.Errorf("it has not come after %s", pulling)

// pinned is the digest that an image was pulled by; its own where it never was in a registry.
func pinned(name string, found client.ImageInspectResult) string {
	repository, _, _ := strings.Cut(name, "@")
	if at := strings.LastIndex(repository, ":"); at > strings.LastIndex(repository, "/") {
		repository = repository[:at]
	}
	for _, known := range found.RepoDigests {
		if of, digest, is := strings.Cut(known, "@"); is && (of == repository || strings.HasSuffix(repository, "/"+of)) {
			return digest
		}
	}
	return found.ID
}

// Digest tells which image a name means here; empty: none yet. The error says that there is no engine to ask.
func (d *Docker) Digest(ctx context.Context, image string) (string, error) {
	api, err := d.open(ctx)
	if err != nil {
		return "", err
	}
	found, err := imageOf(ctx, api, image)
	if errdefs.IsNotFound(err) || errdefs.IsInvalidArgument(err) {
		return "", nil
	}
	return found.ID, err
}

// nothing is the image of containers that see this machine's system.
const nothing = "lemnis/nothing:latest"

// reserved says whether a name means that image, in whatever version.
func reserved(name string) bool {
	name, _, _ = strings.Cut(name, "@")
	for _, registry := range []string{"docker.io/", "index.docker.io/", "registry-1.docker.io/"} {
		name = strings.TrimPrefix(name, registry)
	}
	name, _, _ = strings.Cut(name, ":")
	return name == "lemnis/nothing"
}

// noFiles is an archive without content: its end.
var noFiles = make([]byte, 1024)

// machine is an image without content. Anybody with the engine may have given the name to another: what it means is looked at.
func (p *pod) machine(ctx context.Context) (id string, err error) { return p.empty(ctx, nothing) }

func (p *pod) empty(ctx context.Context, name string) (id string, err error) {
	found, err := imageOf(ctx, p.api, name)
	switch {
	case err == nil && isEmpty(found):
		return found.ID, nil
	case err == nil || errdefs.IsNotFound(err):
		id, err = ask(ctx, working, func(ctx context.Context) (string, error) { return p.makeEmpty(ctx, name) })
	}
	if err != nil {
		return "", fmt.Errorf("make an image without content: %w", err)
	}
	return id, nil
}

func isEmpty(found client.ImageInspectResult) bool {
	layer := fmt.Sprintf("sha256:%x", sha256.Sum256(noFiles))
	return slices.Equal(found.RootFS.Layers, []string{layer}) && (found.Config == nil || len(found.Config.Env)+len(found.Config.Volumes) == 0)
}

// makeEmpty gives the name to a new image, and returns the id that the engine says this has.
func (p *pod) makeEmpty(ctx context.Context, name string) (id string, err error) {
	said, err := p.api.ImageImport(ctx, client.ImageImportSource{Source: bytes.NewReader(noFiles), SourceName: "-"}, name, client.ImageImportOptions{})
	if err != nil {
		return "", err
	}
	defer func() { _ = said.Close() }()
	for lines := json.NewDecoder(said); ; {
		var line struct{ Status, Error string }
		switch err := lines.Decode(&line); {
		case errors.Is(err, io.EOF) && id == "":
			return "", errors.New("the engine does not say which it is")
		case errors.Is(err, io.EOF):
			return id, nil
		case err != nil:
			return "", err
		case line.Error != "":
			return "", errors.New(line.Error)
		case strings.HasPrefix(line.Status, "sha256:"):
			id = line.Status
		}
	}
}
