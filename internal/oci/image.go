package oci

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// ErrNotImage says that a file is no archive of one image.
var ErrNotImage = errors.New("not an image's archive")

// Image is an image in an archive: an image layout of OCI in a tar file, with one image in it.
type Image struct {
	ID string // digest of its configuration

	file     *os.File
	blobs    map[string]*io.SectionReader // by digest
	manifest manifest
}

// OpenImage opens an archive. Whoever opens it closes it.
func OpenImage(archive string) (*Image, error) {
	file, err := os.Open(archive)
	if err != nil {
		return nil, err
	}
	i := &Image{file: file, blobs: map[string]*io.SectionReader{}}
	if err := i.read(); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("%s: %w: %w", archive, ErrNotImage, err)
	}
	return i, nil
}

// Close closes the archive.
func (i *Image) Close() error { return i.file.Close() }

func (i *Image) read() error {
	var index struct {
		Manifests []descriptor `json:"manifests"`
	}
	for r := tar.NewReader(i.file); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		at, err := i.file.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		content := io.NewSectionReader(i.file, at, h.Size)
		if hexes, is := strings.CutPrefix(h.Name, "blobs/sha256/"); is {
			i.blobs["sha256:"+hexes] = content
		}
		if h.Name == "index.json" {
			if err := decode(content, &index); err != nil {
				return fmt.Errorf("index.json: %w", err)
			}
		}
	}
	if len(index.Manifests) != 1 {
		return fmt.Errorf("it has %d images", len(index.Manifests))
	}
	text, err := i.blob(index.Manifests[0].Digest)
	if err == nil {
		err = decode(text, &i.manifest)
	}
	if err != nil {
		return err
	}
	for _, d := range append([]descriptor{i.manifest.Config}, i.manifest.Layers...) {
		if _, err := i.blob(d.Digest); err != nil {
			return err
		}
	}
	i.ID = i.manifest.Config.Digest
	return nil
}

func decode(from *io.SectionReader, into any) error {
	if from.Size() > maxManifest {
		return fmt.Errorf("%d bytes of JSON", from.Size())
	}
	return json.NewDecoder(io.NewSectionReader(from, 0, from.Size())).Decode(into)
}

func (i *Image) blob(digest string) (*io.SectionReader, error) {
	b := i.blobs[digest]
	if b == nil {
		return nil, fmt.Errorf("it has no %s", digest)
	}
	return io.NewSectionReader(b, 0, b.Size()), nil
}

// Layers opens the layers, the lowest first, as tar archives that are not compressed. Each has to be closed.
func (i *Image) Layers() (open []func() (io.ReadCloser, error)) {
	for _, d := range i.manifest.Layers {
		open = append(open, func() (io.ReadCloser, error) {
			b, err := i.blob(d.Digest)
			if err != nil {
				return nil, err
			}
			return gzip.NewReader(b)
		})
	}
	return open
}

// blobLayer is a blob of an archive as the library uploads it.
type blobLayer struct {
	descriptor
	image *Image
}

var _ v1.Layer = blobLayer{}

func (l blobLayer) Digest() (v1.Hash, error) { return v1.NewHash(l.descriptor.Digest) }
func (l blobLayer) DiffID() (v1.Hash, error) { return v1.NewHash(l.descriptor.Digest) }
func (l blobLayer) Size() (int64, error)     { return l.descriptor.Size, nil }
func (l blobLayer) MediaType() (types.MediaType, error) {
	return types.MediaType(l.descriptor.MediaType), nil
}
func (l blobLayer) Uncompressed() (io.ReadCloser, error) { return l.Compressed() }
func (l blobLayer) Compressed() (io.ReadCloser, error) {
	b, err := l.image.blob(l.descriptor.Digest)
	return io.NopCloser(b), err
}

// verify makes sure that a blob is what it is named.
func (l blobLayer) verify() error {
	b, err := l.image.blob(l.descriptor.Digest)
	if err != nil {
		return err
	}
	sum := sha256.New()
	n, err := io.Copy(sum, b)
	if err != nil {
		return err
	}
	if got := "sha256:" + hex.EncodeToString(sum.Sum(nil)); got != l.descriptor.Digest || n != l.descriptor.Size {
		return fmt.Errorf("%w: the archive has %s of %d bytes as %s of %d", ErrDigest, got, n, l.descriptor.Digest, l.descriptor.Size)
	}
	return nil
}

// PushImage uploads the image of an archive, as Push does an executable. Layer of the reference is the image's ID.
func PushImage(ctx context.Context, repository, archive string, metadata Metadata, options ...Option) (Reference, error) {
	s := newSettings(options)
	repo, err := parseRepository(repository, s)
	if err != nil {
		return Reference{}, fmt.Errorf("push: %w", err)
	}
	i, err := OpenImage(archive)
	if err != nil {
		return Reference{}, fmt.Errorf("push: %w", err)
	}
	defer func() { _ = i.Close() }()
	remotely := []remote.Option{remote.WithContext(ctx), remote.WithAuth(s.auth()), remote.WithTransport(s.base)}
	var parts []blobLayer
	for _, d := range append([]descriptor{i.manifest.Config}, i.manifest.Layers...) {
		l := blobLayer{d, i}
		if err := l.verify(); err != nil {
			return Reference{}, fmt.Errorf("push: %w", err)
		}
		parts = append(parts, l)
	}
	for _, l := range parts {
		if err := remote.WriteLayer(repo, l, remotely...); err != nil {
			return Reference{}, fmt.Errorf("push: %w", err)
		}
	}
	m := i.manifest
	m.Annotations = metadata.Annotations
	if m.Layers == nil {
		m.Layers = []descriptor{}
	}
	return put(repo, m, metadata.Tag, remotely)
}
