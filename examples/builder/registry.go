package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/lemnis/lemnis/pkg/events"
)

// push puts the executable into the registry, as an artifact of one layer, and says what Lemnis needs to know of it. A
// library of your registry does this, too; these are the three requests that it takes.
func (b *builder) push(ctx context.Context, file string, m events.MergeDetail) (purl string, d events.ArtifactDetail, err error) {
	executable, err := os.ReadFile(file)
	if err != nil {
		return "", d, err
	}
	name := b.project + "/" + m.Repository
	empty := []byte("{}")
	manifest, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": manifestType, "artifactType": "application/vnd.lemnis.executable.v1",
		"config": map[string]any{"mediaType": "application/vnd.oci.empty.v1+json", "digest": digest(empty), "size": len(empty)},
		"layers": []any{map[string]any{
			"mediaType": "application/vnd.lemnis.executable.v1+octet-stream", "digest": digest(executable), "size": len(executable),
			"annotations": map[string]string{"org.opencontainers.image.title": m.Repository},
		}},
		"annotations": map[string]string{"org.opencontainers.image.revision": m.Commit},
	})
	if err != nil {
		return "", d, err
	}
	for _, blob := range [][]byte{empty, executable} {
		if err := b.blob(ctx, name, blob); err != nil {
			return "", d, err
		}
	}
	if _, err := b.send(ctx, http.MethodPut, b.registry+"/v2/"+name+"/manifests/"+digest(manifest), manifestType, manifest); err != nil {
		return "", d, err
	}
	repository := b.registry[strings.Index(b.registry, "//")+2:] + "/" + name
	purl = "pkg:oci/" + m.Repository + "@" + strings.ReplaceAll(digest(manifest), ":", "%3A") + "?repository_url=" + repository
	return purl, events.ArtifactDetail{
		ID: purl, Service: m.Repository, Repository: m.Repository, Reference: repository + "@" + digest(manifest), Digest: digest(executable), Size: int64(len(executable)),
		Commit: m.Commit, Committed: m.Committed, Change: m.Change, Item: m.Item, Title: m.Title, Author: m.Author, Evidence: m.Evidence,
	}, nil
}

const manifestType = "application/vnd.oci.image.manifest.v1+json"

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func (b *builder) blob(ctx context.Context, name string, data []byte) error {
	to, err := b.send(ctx, http.MethodPost, b.registry+"/v2/"+name+"/blobs/uploads/", "", nil)
	if err != nil {
		return err
	}
	query := to.Query()
	query.Set("digest", digest(data))
	to.RawQuery = query.Encode()
	_, err = b.send(ctx, http.MethodPut, to.String(), "application/octet-stream", data)
	return err
}

// send makes a request and returns the Location that the answer names.
func (b *builder) send(ctx context.Context, method, address, contentType string, body []byte) (*url.URL, error) {
	req, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		why, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		return nil, fmt.Errorf("%s %s: %s: %s", method, req.URL.Path, resp.Status, why)
	}
	return resp.Request.URL.Parse(resp.Header.Get("Location"))
}
