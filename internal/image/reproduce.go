package image

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Options say when an image was made.
type Options struct {
	Created time.Time // the commit's time: the image's, and of what the build made
	Began   time.Time // when the build began
}

// Made is an image in an archive.
type Made struct {
	ID   string // digest of its configuration, which names all its files
	Size int64  // bytes of configuration and layers, compressed
}

// Reproduce writes an image that an engine saved into an archive, the same for the same content. Beside the archive it writes further
// files, which go, as the saved one does once it is read. It fails with [ErrTooLarge] or [ErrLayer] where the image is at fault.
func Reproduce(ctx context.Context, saved, archive string, o Options) (made Made, err error) {
	o.Created = o.Created.UTC().Truncate(time.Second)
	from, err := tarball.ImageFromPath(saved, nil)
	if err != nil {
		return Made{}, fmt.Errorf("read the image: %w", err)
	}
	layers, err := from.Layers()
	if err != nil {
		return Made{}, fmt.Errorf("read the image: %w", err)
	}
	config, err := from.ConfigFile()
	if err != nil {
		return Made{}, fmt.Errorf("read the image: %w", err)
	}
	scratch, err := os.MkdirTemp(filepath.Dir(archive), ".image-")
	if err != nil {
		return Made{}, err
	}
	defer func() { _ = os.RemoveAll(scratch) }()
	below := newStack(scratch)
	b := &blobs{folder: scratch, disk: &below.disk}
	manifest := v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1}
	var diffs []v1.Hash
	spool, err := os.Create(filepath.Join(scratch, "spool"))
	if err != nil {
		return Made{}, err
	}
	defer func() { _ = spool.Close() }()
	for i, layer := range layers {
		blob, diff, err := o.layer(ctx, layer, spool, b, below)
		if err != nil {
			return Made{}, fmt.Errorf("layer %d: %w", i+1, err)
		}
		manifest.Layers, diffs = append(manifest.Layers, blob), append(diffs, diff)
		made.Size += blob.Size
	}
	// An image takes its size several times here: what is read makes room for what is written.
	if err := errors.Join(os.Remove(saved), spool.Truncate(0)); err != nil {
		return Made{}, err
	}
	text, err := json.Marshal(o.config(config, diffs))
	if err != nil {
		return Made{}, err
	}
	if manifest.Config, err = b.add(types.OCIConfigJSON, func(w io.Writer) error { _, err := w.Write(text); return err }); err != nil {
		return Made{}, err
	}
	if err := b.archive(archive, manifest); err != nil {
		return Made{}, err
	}
	made.ID, made.Size = manifest.Config.Digest.String(), made.Size+manifest.Config.Size
	return made, nil
}

func (o Options) layer(ctx context.Context, layer v1.Layer, spool *os.File, b *blobs, below *stack) (blob v1.Descriptor, diff v1.Hash, err error) {
	from, err := layer.Uncompressed()
	if err != nil {
		return blob, diff, err
	}
	defer func() { _ = from.Close() }()
	var id string
	blob, err = b.add(types.OCILayer, func(w io.Writer) error {
		id, err = o.rewrite(ctx, from, spool, w, below)
		return err
	})
	if err != nil {
		return blob, diff, err
	}
	diff, err = v1.NewHash(id)
	return blob, diff, err
}

// config is a configuration without what is of one build, and not of the image.
func (o Options) config(c *v1.ConfigFile, diffs []v1.Hash) v1.ConfigFile {
	at := v1.Time{Time: o.Created}
	out := v1.ConfigFile{
		Architecture: c.Architecture, OS: c.OS, OSVersion: c.OSVersion, OSFeatures: c.OSFeatures, Variant: c.Variant, Author: c.Author, Created: at,
		Config: c.Config, RootFS: v1.RootFS{Type: "layers", DiffIDs: diffs},
	}
	out.Config.Hostname, out.Config.Domainname, out.Config.Image, out.Config.MacAddress = "", "", "", ""
	out.Config.AttachStdin, out.Config.AttachStdout, out.Config.AttachStderr = false, false, false
	for _, h := range c.History {
		h.Created = at
		out.History = append(out.History, h)
	}
	if diffs == nil {
		out.RootFS.DiffIDs = []v1.Hash{}
	}
	return out
}

// blobs are files named by their digest.
type blobs struct {
	folder string
	disk   *disk
	all    []v1.Descriptor
}

func (b *blobs) path(d v1.Hash) string { return filepath.Join(b.folder, d.Hex) }

// add takes what write writes.
func (b *blobs) add(kind types.MediaType, write func(io.Writer) error) (d v1.Descriptor, err error) {
	file, err := os.CreateTemp(b.folder, "blob-")
	if err != nil {
		return d, err
	}
	sum, count := sha256.New(), &counter{disk: b.disk}
	if err := errors.Join(write(io.MultiWriter(file, sum, count)), file.Close()); err != nil {
		return d, err
	}
	d = v1.Descriptor{MediaType: kind, Size: count.n, Digest: v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum.Sum(nil))}}
	if _, err := os.Stat(b.path(d.Digest)); err == nil {
		return d, os.Remove(file.Name()) // two layers may be the same
	}
	b.all = append(b.all, d)
	return d, os.Rename(file.Name(), b.path(d.Digest))
}

// counter counts what is written to the disk.
type counter struct {
	n    int64
	disk *disk
}

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), c.disk.took(len(p))
}

// archive writes the layout, and removes the blobs one by one.
func (b *blobs) archive(to string, manifest v1.Manifest) error {
	text, err := json.Marshal(manifest)
	if err != nil {
		return err
	}
	top, err := b.add(types.OCIManifestSchema1, func(w io.Writer) error { _, err := w.Write(text); return err })
	if err != nil {
		return err
	}
	index, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{top}})
	if err != nil {
		return err
	}
	file, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644) //nolint:gosec // as what else is packaged
	if err != nil {
		return err
	}
	w := tar.NewWriter(file)
	put := func(name string, size int64, content io.Reader) {
		if err == nil {
			err = w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size, ModTime: time.Unix(0, 0)})
		}
		if err == nil {
			_, err = io.Copy(io.MultiWriter(w, &counter{disk: b.disk}), content)
		}
	}
	layout := `{"imageLayoutVersion":"1.0.0"}`
	put("oci-layout", int64(len(layout)), bytes.NewReader([]byte(layout)))
	put("index.json", int64(len(index)), bytes.NewReader(index))
	for _, d := range b.all {
		from, unread := os.Open(b.path(d.Digest))
		if unread != nil {
			err = errors.Join(err, unread)
			break
		}
		put("blobs/sha256/"+d.Digest.Hex, d.Size, from)
		err = errors.Join(err, from.Close(), os.Remove(b.path(d.Digest)))
	}
	return errors.Join(err, w.Close(), file.Close())
}
