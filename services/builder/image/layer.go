package image

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"
)

// mostEntries is how many files one layer may have: all are kept in memory.
const mostEntries = 2_000_000

// ErrTooLarge says that an image has more than can be taken.
var ErrTooLarge = errors.New("the image has too much in it")

// entry is a file of a layer.
type entry struct {
	header *tar.Header
	at     int64 // where its content begins
}

// rewrite writes a layer anew, compressed: sorted, with times as the options say, and without what else differs between builds. spool is a
// file that is given the layer as it was.
func (o Options) rewrite(ctx context.Context, layer io.Reader, spool *os.File, out io.Writer) (diffID string, err error) {
	if err := errors.Join(spool.Truncate(0), rewind(spool)); err != nil {
		return "", err
	}
	if _, err := io.Copy(spool, &bound{ctx, layer}); err != nil {
		return "", err
	}
	if err := rewind(spool); err != nil {
		return "", err
	}
	entries, err := list(spool)
	if err != nil {
		return "", err
	}
	packed, err := gzip.NewWriterLevel(out, gzip.DefaultCompression) // its header says neither name nor time
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	w := tar.NewWriter(io.MultiWriter(sum, packed))
	for _, e := range entries {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		if err := w.WriteHeader(o.plain(e.header)); err != nil {
			return "", fmt.Errorf("%s: %w", e.header.Name, err)
		}
		if e.header.Typeflag == tar.TypeReg {
			if _, err := io.Copy(w, io.NewSectionReader(spool, e.at, e.header.Size)); err != nil {
				return "", fmt.Errorf("%s: %w", e.header.Name, err)
			}
		}
	}
	if err := errors.Join(w.Close(), packed.Close()); err != nil {
		return "", err
	}
	return "sha256:" + hex.EncodeToString(sum.Sum(nil)), nil
}

func rewind(f *os.File) error { _, err := f.Seek(0, io.SeekStart); return err }

// bound reads as long as a context lasts.
type bound struct {
	ctx context.Context
	io.Reader
}

func (b *bound) Read(p []byte) (int, error) {
	if b.ctx.Err() != nil {
		return 0, context.Cause(b.ctx)
	}
	return b.Reader.Read(p)
}

// list reads the entries of a layer, sorted by name. Of the names that share one file, the first has its content: which one an engine
// has written first is chance.
func list(spool *os.File) ([]entry, error) {
	byName := map[string]entry{}
	for r := tar.NewReader(spool); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		at, err := spool.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		if h.Name = clean(h.Name); h.Name == "." {
			continue
		}
		if byName[h.Name] = (entry{h, at}); len(byName) > mostEntries {
			return nil, fmt.Errorf("%w: a layer of more than %d files", ErrTooLarge, mostEntries)
		}
	}
	links := map[string][]string{} // of a file, all its names
	for name, e := range byName {
		if e.header.Typeflag == tar.TypeLink {
			to := clean(e.header.Linkname)
			of := byName[to].header // links have several names too
			if of == nil || of.Typeflag == tar.TypeDir || of.Typeflag == tar.TypeLink {
				return nil, fmt.Errorf("%s is another name of %s, which is no file of its layer", name, to)
			}
			links[to] = append(links[to], name)
		}
	}
	for to, names := range links {
		names = append(names, to)
		slices.Sort(names)
		whole := byName[to]
		for i, name := range names {
			h := *whole.header
			if h.Name = name; i > 0 {
				h.Typeflag, h.Linkname, h.Size = tar.TypeLink, names[0], 0
			}
			byName[name] = entry{&h, whole.at}
		}
	}
	all := make([]entry, 0, len(byName))
	for _, e := range byName {
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b entry) int { return strings.Compare(a.header.Name, b.header.Name) })
	return all, nil
}

func clean(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") + dot(name) }

// dot is the name of the root, which has none else.
func dot(name string) string {
	if path.Clean("/"+name) == "/" {
		return "."
	}
	return ""
}

// plain is a header with what an image is about. Extended attributes are (capabilities of programs), access times are not.
func (o Options) plain(h *tar.Header) *tar.Header {
	p := &tar.Header{
		Typeflag: h.Typeflag, Name: h.Name, Linkname: h.Linkname, Mode: h.Mode, Uid: h.Uid, Gid: h.Gid, Size: h.Size,
		Devmajor: h.Devmajor, Devminor: h.Devminor, ModTime: o.time(h.ModTime),
	}
	if h.Typeflag == tar.TypeDir {
		p.Name += "/"
	}
	for key, value := range h.PAXRecords {
		if strings.HasPrefix(key, "SCHILY.xattr.") {
			if p.PAXRecords == nil {
				p.PAXRecords = map[string]string{}
			}
			p.PAXRecords[key] = value
		}
	}
	return p
}

// time is the commit's for all that the build has made, and for what is newer than the commit. What a base image has keeps its time:
// programs compare those of their files.
func (o Options) time(t time.Time) time.Time {
	if t.After(o.Created) || t.After(o.Began.Add(-time.Second)) { // archives hold whole seconds
		t = o.Created
	}
	return t.Truncate(time.Second)
}
