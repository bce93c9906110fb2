package oci

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
)

var (
	// ErrDigest says that the registry's bytes do not hash to the digest asked for.
	ErrDigest = errors.New("digest mismatch")
	// ErrNotFound says that the registry has no such manifest or blob.
	ErrNotFound = errors.New("not in the registry")
	// ErrNotExecutable says that the artifact is not of the form that Push writes.
	ErrNotExecutable = errors.New("not an executable's artifact")
)

const (
	maxManifest = 4 << 20
	maxLayer    = 2 << 30
)

// Artifact is what a manifest says of an executable.
type Artifact struct {
	Name        string // file name
	Layer       string // digest of the executable
	Size        int64  // bytes of the executable
	Annotations map[string]string
}

// Inspect reads and verifies the manifest alone.
func Inspect(ctx context.Context, ref Reference, options ...Option) (Artifact, error) {
	s := newSettings(options)
	_, _, artifact, err := inspect(ctx, ref, s)
	if err != nil {
		return Artifact{}, fmt.Errorf("inspect: %w", err)
	}
	return artifact, nil
}

// Pull fetches the executable into dir, under the name that it was pushed with, mode 0755, and
// returns its path. Manifest and layer are verified (ErrDigest) before the file appears there.
func Pull(ctx context.Context, ref Reference, dir string, options ...Option) (file string, err error) {
	s := newSettings(options)
	repo, client, artifact, err := inspect(ctx, ref, s)
	if err != nil {
		return "", fmt.Errorf("pull: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("pull: %w", err)
	}
	f, err := os.CreateTemp(dir, ".pull-")
	if err != nil {
		return "", fmt.Errorf("pull: %w", err)
	}
	defer func() { _ = os.Remove(f.Name()) }() // after the rename there is nothing to remove
	err = fetch(ctx, client, repo, "blobs", artifact.Layer, artifact.Size, f)
	if err == nil {
		err = f.Chmod(0o755)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", fmt.Errorf("pull: %w", err)
	}
	file = filepath.Join(dir, artifact.Name)
	if err := os.Rename(f.Name(), file); err != nil {
		return "", fmt.Errorf("pull: %w", err)
	}
	return file, nil
}

// Contents are the digests of what a manifest names, verified: of its configuration and its layers. It may be of an executable, which is
// told beside them, or of an image (nil); an index of images names neither.
func Contents(ctx context.Context, ref Reference, options ...Option) ([]string, *Artifact, error) {
	_, _, body, err := manifestOf(ctx, ref, newSettings(options))
	if err != nil {
		return nil, nil, fmt.Errorf("contents: %w", err)
	}
	var m manifest
	if err := json.Unmarshal(body, &m); err != nil {
		return nil, nil, fmt.Errorf("contents: %w: %w", ErrNotExecutable, err)
	}
	if len(m.Layers) == 0 {
		return nil, nil, fmt.Errorf("contents: %w: no layers", ErrNotExecutable)
	}
	all := []string{m.Config.Digest}
	for _, l := range m.Layers {
		all = append(all, l.Digest)
	}
	if executable, err := readManifest(body); err == nil {
		return all, &executable, nil
	}
	return all, nil, nil
}

func inspect(ctx context.Context, ref Reference, s settings) (name.Repository, *http.Client, Artifact, error) {
	repo, client, body, err := manifestOf(ctx, ref, s)
	if err != nil {
		return name.Repository{}, nil, Artifact{}, err
	}
	artifact, err := readManifest(body)
	if err != nil {
		return name.Repository{}, nil, Artifact{}, err
	}
	return repo, client, artifact, nil
}

func manifestOf(ctx context.Context, ref Reference, s settings) (name.Repository, *http.Client, []byte, error) {
	fail := func(err error) (name.Repository, *http.Client, []byte, error) {
		return name.Repository{}, nil, nil, err
	}
	repo, err := parseRepository(ref.Repository, s)
	if err != nil {
		return fail(err)
	}
	if !isDigest(ref.Digest) {
		return fail(fmt.Errorf("%w: digest %q", ErrBadReference, ref.Digest))
	}
	client, err := s.puller(ctx, repo)
	if err != nil {
		return fail(err)
	}
	var body bytes.Buffer
	if err := fetch(ctx, client, repo, "manifests", ref.Digest, -1, &body); err != nil {
		return fail(err)
	}
	return repo, client, body.Bytes(), nil
}

func readManifest(body []byte) (Artifact, error) {
	var m manifest
	if err := json.Unmarshal(body, &m); err != nil {
		return Artifact{}, fmt.Errorf("%w: %w", ErrNotExecutable, err)
	}
	if m.ArtifactType != ArtifactType || len(m.Layers) != 1 {
		return Artifact{}, fmt.Errorf("%w: artifact type %q, %d layers", ErrNotExecutable, m.ArtifactType, len(m.Layers))
	}
	layer := m.Layers[0]
	title := layer.Annotations[titleAnnotation]
	if title == "" || title != filepath.Base(title) || strings.HasPrefix(title, ".") || strings.ContainsAny(title, "/\\\x00") {
		return Artifact{}, fmt.Errorf("%w: file name %q", ErrNotExecutable, title)
	}
	if !isDigest(layer.Digest) || layer.Size < 0 || layer.Size > maxLayer {
		return Artifact{}, fmt.Errorf("%w: layer %s of %d bytes", ErrNotExecutable, layer.Digest, layer.Size)
	}
	return Artifact{Name: title, Layer: layer.Digest, Size: layer.Size, Annotations: m.Annotations}, nil
}

// fetch copies what is named by a digest to w, and says ErrDigest when it was something else. A
// size below zero is not known. The library's own reader is not used, because its error for other
// bytes has a private type.
func fetch(ctx context.Context, client *http.Client, repo name.Repository, kind, digest string, size int64, w io.Writer) error {
	u := url.URL{Scheme: repo.Scheme(), Host: repo.RegistryStr(), Path: "/v2/" + repo.RepositoryStr() + "/" + kind + "/" + digest}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	if kind == "manifests" {
		req.Header.Set("Accept", manifestMediaType)
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	switch {
	case resp.StatusCode == http.StatusNotFound:
		return fmt.Errorf("%w: %s@%s", ErrNotFound, repo.Name(), digest)
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("%s of %s@%s: %s", kind, repo.Name(), digest, resp.Status)
	}
	limit := size
	if size < 0 {
		limit = maxManifest
	}
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(w, sum), io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return err
	}
	got := "sha256:" + hex.EncodeToString(sum.Sum(nil))
	if n > limit || size >= 0 && n != size || got != digest {
		return fmt.Errorf("%w: asked for %s of %d bytes, got %s of %d", ErrDigest, digest, size, got, n)
	}
	return nil
}
