package deployer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/lemnis/lemnis/internal/oci"
	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/deployer/gate"
)

var (
	// errArtifact says that an artifact is not what was stated, or is nowhere: trying again does not help.
	errArtifact = errors.New("the artifact can not be run")
	// errStart says that it was run and did not get healthy. Lost ports were tried again already.
	errStart = errors.New("the process did not get healthy")
)

// executable returns the artifact's file, pulled if it is not there yet. Its bytes are hashed each time: what runs is what
// the pipeline stated.
func (s *site) executable(ctx context.Context, a events.ArtifactDetail) (string, error) {
	if !gate.IsDigest(a.Digest) {
		return "", fmt.Errorf("%w: %q is no digest", errArtifact, a.Digest)
	}
	folder := filepath.Join(s.options.Data, "executables", strings.TrimPrefix(a.Digest, "sha256:"))
	s.touch(folder) // what is asked for now, the facts may not need yet
	if files, err := filepath.Glob(filepath.Join(folder, "*")); err == nil {
		for _, file := range files {
			if strings.HasPrefix(filepath.Base(file), ".") {
				continue // another pull is at it
			}
			if got, err := hashOf(file); err == nil && got == a.Digest {
				return file, nil
			}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, s.options.FetchTimeout)
	defer cancel()
	ref, err := s.reference(a.Reference)
	if err != nil {
		return "", fmt.Errorf("%w: %w", errArtifact, err)
	}
	found, err := oci.Inspect(ctx, ref, s.options.OCI...)
	if err == nil && found.Layer != a.Digest {
		err = fmt.Errorf("%w: %s holds %s, not %s", errArtifact, a.Reference, found.Layer, a.Digest)
	}
	if err == nil {
		var file string
		if file, err = oci.Pull(ctx, ref, folder, s.options.OCI...); err == nil {
			return file, nil
		}
	}
	for _, final := range []error{oci.ErrDigest, oci.ErrNotFound, oci.ErrNotExecutable, oci.ErrBadReference} {
		if errors.Is(err, final) {
			return "", fmt.Errorf("%w: %w", errArtifact, err)
		}
	}
	return "", err
}

// reference reads repository@digest, at the registry that the options name.
func (s *site) reference(text string) (oci.Reference, error) {
	repository, digest, ok := strings.Cut(text, "@")
	if !ok {
		return oci.Reference{}, fmt.Errorf("reference %q has no digest", text)
	}
	if s.options.Registry != "" {
		_, path, ok := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(repository, "http://"), "https://"), "/")
		if !ok {
			return oci.Reference{}, fmt.Errorf("reference %q has no repository", text)
		}
		repository = s.options.Registry + "/" + path
	}
	return oci.Reference{Repository: repository, Digest: digest}, nil
}

func hashOf(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", err
	}
	return "sha256:" + hex.EncodeToString(sum.Sum(nil)), nil
}
