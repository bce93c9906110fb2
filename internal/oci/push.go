package oci

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Media types of the artifact.
const (
	ArtifactType   = "application/vnd.lemnis.executable.v1"
	LayerMediaType = "application/vnd.lemnis.executable.v1+octet-stream"

	manifestMediaType = "application/vnd.oci.image.manifest.v1+json"
	emptyMediaType    = "application/vnd.oci.empty.v1+json"
	titleAnnotation   = "org.opencontainers.image.title"
)

// Metadata is what the manifest says about the executable.
type Metadata struct {
	Annotations map[string]string // org.opencontainers.image.revision and the like
	Tag         string            // also name the manifest so; empty: by digest alone
}

// manifest is the part of an OCI 1.1 image manifest that an executable needs. Maps are written in
// the order of their keys, so the same content gives the same bytes.
type manifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	ArtifactType  string            `json:"artifactType,omitempty"` // of an image there is none
	Config        descriptor        `json:"config"`
	Layers        []descriptor      `json:"layers"`
	Subject       *descriptor       `json:"subject,omitempty"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// raw is a manifest as the library uploads it.
type raw []byte

func (r raw) RawManifest() ([]byte, error)        { return r, nil }
func (r raw) MediaType() (types.MediaType, error) { return manifestMediaType, nil }

// fileLayer is the executable as a layer, read from the disk as often as the upload needs it.
type fileLayer struct {
	path string
	hash v1.Hash
	size int64
}

var _ v1.Layer = (*fileLayer)(nil)

func (l *fileLayer) Digest() (v1.Hash, error)             { return l.hash, nil }
func (l *fileLayer) DiffID() (v1.Hash, error)             { return l.hash, nil }
func (l *fileLayer) Compressed() (io.ReadCloser, error)   { return os.Open(l.path) }
func (l *fileLayer) Uncompressed() (io.ReadCloser, error) { return os.Open(l.path) }
func (l *fileLayer) Size() (int64, error)                 { return l.size, nil }
func (l *fileLayer) MediaType() (types.MediaType, error)  { return LayerMediaType, nil }

func openLayer(path string) (*fileLayer, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	hash, size, err := v1.SHA256(f)
	if err != nil {
		return nil, err
	}
	return &fileLayer{path: path, hash: hash, size: size}, nil
}

// Push uploads the file to repository (host[:port]/path, or a URL) and returns its reference. The
// manifest goes last: what has a reference is complete.
func Push(ctx context.Context, repository, file string, metadata Metadata, options ...Option) (Reference, error) {
	s := newSettings(options)
	repo, err := parseRepository(repository, s)
	if err != nil {
		return Reference{}, fmt.Errorf("push: %w", err)
	}
	layer, err := openLayer(file)
	if err != nil {
		return Reference{}, fmt.Errorf("push: %w", err)
	}
	empty := static.NewLayer([]byte("{}"), emptyMediaType)
	emptyHash, err := empty.Digest()
	if err != nil {
		return Reference{}, fmt.Errorf("push: %w", err)
	}
	remotely := []remote.Option{remote.WithContext(ctx), remote.WithAuth(s.auth()), remote.WithTransport(s.base)}
	for _, l := range []v1.Layer{empty, layer} {
		if err := remote.WriteLayer(repo, l, remotely...); err != nil {
			return Reference{}, fmt.Errorf("push: %w", err)
		}
	}
	ref, err := put(repo, manifest{
		SchemaVersion: 2, MediaType: manifestMediaType, ArtifactType: ArtifactType,
		Config: descriptor{MediaType: emptyMediaType, Digest: emptyHash.String(), Size: 2},
		Layers: []descriptor{{
			MediaType: LayerMediaType, Digest: layer.hash.String(), Size: layer.size,
			Annotations: map[string]string{titleAnnotation: filepath.Base(file)},
		}},
		Annotations: metadata.Annotations,
	}, metadata.Tag, remotely)
	if err != nil {
		return Reference{}, err
	}
	ref.Layer = layer.hash.String()
	return ref, nil
}

// put uploads a manifest, of which all parts are there. Layer of the reference is its configuration's digest.
func put(repo name.Repository, m manifest, tag string, remotely []remote.Option) (Reference, error) {
	body, err := json.Marshal(m)
	if err != nil {
		return Reference{}, fmt.Errorf("push: %w", err)
	}
	sum := sha256.Sum256(body)
	ref := Reference{
		Repository: repo.Name(), Digest: "sha256:" + hex.EncodeToString(sum[:]),
		MediaType: manifestMediaType, Size: int64(len(body)), Layer: m.Config.Digest,
	}
	if err := remote.Put(repo.Digest(ref.Digest), raw(body), remotely...); err != nil {
		return Reference{}, fmt.Errorf("push: %w", err)
	}
	if tag != "" {
		if err := remote.Put(repo.Tag(tag), raw(body), remotely...); err != nil {
			return Reference{}, fmt.Errorf("push: %w", err)
		}
	}
	return ref, nil
}
