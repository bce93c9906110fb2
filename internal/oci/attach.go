package oci

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// MaxAttachment is how many bytes the largest attachment has, and how many all have together that are fetched at once.
const MaxAttachment = 64 << 20

// Attachment is what is said of an artifact beside it: a bill of materials, a signature. It is a manifest whose subject is the
// artifact, so that a registry lists it among the artifact's referrers.
type Attachment struct {
	MediaType   string // of the content, and the manifest's artifact type
	Name        string // file name
	Content     []byte
	Annotations map[string]string
	Digest      string // of its manifest, where it was fetched
}

// Attach pushes an attachment of what subject names, which has to be a reference that Push returned. The same attachment gives
// the same digest, so that it may be repeated.
func Attach(ctx context.Context, subject Reference, a Attachment, options ...Option) (Reference, error) {
	s := newSettings(options)
	repo, err := parseRepository(subject.Repository, s)
	if err != nil {
		return Reference{}, fmt.Errorf("attach: %w", err)
	}
	if subject.MediaType == "" || subject.Size == 0 || !isDigest(subject.Digest) {
		return Reference{}, fmt.Errorf("attach: %w: the subject %s is no reference of a push", ErrBadReference, subject)
	}
	content := static.NewLayer(a.Content, types.MediaType(a.MediaType))
	empty := static.NewLayer([]byte("{}"), emptyMediaType)
	remotely := []remote.Option{remote.WithContext(ctx), remote.WithAuth(s.auth()), remote.WithTransport(s.base)}
	parts := make([]descriptor, 2)
	for i, l := range []v1.Layer{empty, content} {
		if err := remote.WriteLayer(repo, l, remotely...); err != nil {
			return Reference{}, fmt.Errorf("attach: %w", err)
		}
		digest, err := l.Digest()
		if err != nil {
			return Reference{}, fmt.Errorf("attach: %w", err)
		}
		parts[i].Digest = digest.String()
	}
	parts[0].MediaType, parts[0].Size = emptyMediaType, 2
	parts[1].MediaType, parts[1].Size = a.MediaType, int64(len(a.Content))
	if a.Name != "" {
		parts[1].Annotations = map[string]string{titleAnnotation: a.Name}
	}
	body, err := json.Marshal(manifest{
		SchemaVersion: 2, MediaType: manifestMediaType, ArtifactType: a.MediaType, Config: parts[0], Layers: parts[1:],
		Subject: &descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size}, Annotations: a.Annotations,
	})
	if err != nil {
		return Reference{}, fmt.Errorf("attach: %w", err)
	}
	sum := sha256.Sum256(body)
	ref := Reference{Repository: repo.Name(), Digest: "sha256:" + hex.EncodeToString(sum[:]), MediaType: manifestMediaType,
		Size: int64(len(body)), Layer: parts[1].Digest}
	if err := remote.Put(repo.Digest(ref.Digest), raw(body), remotely...); err != nil {
		return Reference{}, fmt.Errorf("attach: %w", err)
	}
	return ref, nil
}

// Attached fetches what of one media type is attached to an artifact, in the order of its digests; each is verified to be what
// its digest says and to have the artifact as its subject (ErrDigest). None is no error. Where more than most are there, or
// more than MaxAttachment bytes, the rest is left: whoever may push can attach anything.
func Attached(ctx context.Context, subject Reference, mediaType string, most int, options ...Option) ([]Attachment, error) {
	s := newSettings(options)
	repo, err := parseRepository(subject.Repository, s)
	if err != nil {
		return nil, fmt.Errorf("attached: %w", err)
	}
	if !isDigest(subject.Digest) {
		return nil, fmt.Errorf("attached: %w: digest %q", ErrBadReference, subject.Digest)
	}
	client, err := s.puller(ctx, repo)
	if err != nil {
		return nil, fmt.Errorf("attached: %w", err)
	}
	base := url.URL{Scheme: repo.Scheme(), Host: repo.RegistryStr(), Path: "/v2/" + repo.RepositoryStr() + "/referrers/" + subject.Digest,
		RawQuery: url.Values{"artifactType": {mediaType}}.Encode()}
	var index struct {
		Manifests []descriptor `json:"manifests"`
	}
	if err := ask(ctx, client, base.String(), &index); err != nil {
		return nil, fmt.Errorf("attached: %w", err)
	}
	var all []Attachment
	left := int64(MaxAttachment)
	for _, d := range index.Manifests {
		if len(all) == most {
			break
		}
		if !isDigest(d.Digest) {
			return nil, fmt.Errorf("attached: %w: %q", ErrBadReference, d.Digest)
		}
		var body bytes.Buffer
		if err := fetch(ctx, client, repo, "manifests", d.Digest, -1, &body); err != nil {
			return nil, fmt.Errorf("attached: %w", err)
		}
		var m manifest
		if err := json.Unmarshal(body.Bytes(), &m); err != nil {
			return nil, fmt.Errorf("attached: %w", err)
		}
		if m.ArtifactType != mediaType || len(m.Layers) != 1 {
			continue // a registry need not filter
		}
		if m.Subject == nil || m.Subject.Digest != subject.Digest {
			return nil, fmt.Errorf("attached: %w: %s is no referrer of %s", ErrDigest, d.Digest, subject.Digest)
		}
		layer := m.Layers[0]
		if layer.Size < 0 || layer.Size > left || !isDigest(layer.Digest) {
			continue
		}
		left -= layer.Size
		var content bytes.Buffer
		if err := fetch(ctx, client, repo, "blobs", layer.Digest, layer.Size, &content); err != nil {
			return nil, fmt.Errorf("attached: %w", err)
		}
		all = append(all, Attachment{MediaType: mediaType, Name: layer.Annotations[titleAnnotation], Content: content.Bytes(), Annotations: m.Annotations, Digest: d.Digest})
	}
	return all, nil
}

func ask(ctx context.Context, client *http.Client, url string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return errors.New("referrers: " + resp.Status)
	}
	return json.NewDecoder(http.MaxBytesReader(nil, resp.Body, maxManifest)).Decode(into)
}
