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

const (
	mostBytes = 8 << 30   // of an image, uncompressed
	mostHeld  = 256 << 20 // bytes of memory for the headers of a layer, and for the names of what is below it
	heldOf    = 512       // bytes that a header takes beside its text
	heldOfDir = 150       // bytes that a name of what is below takes beside its text
)

var (
	// ErrTooLarge says that an image has more than can be taken.
	ErrTooLarge = errors.New("the image has too much in it")
	// ErrLayer says that a layer has what an image of OCI has no place for, or not the same for every reader.
	ErrLayer = errors.New("the image can not be packaged as it is")
)

// entry is a file of a layer.
type entry struct {
	name   string
	header *tar.Header
	at     int64 // where its content begins
}

// rewrite writes a layer anew, compressed: sorted, with times as the options say, and without what else differs between builds. spool is a
// file that is given the content of its files; below is what the layers under it have, and has this one's afterwards.
func (o Options) rewrite(ctx context.Context, layer io.Reader, spool *os.File, out io.Writer, below *stack) (diffID string, err error) {
	if err := errors.Join(spool.Truncate(0), rewind(spool)); err != nil {
		return "", err
	}
	entries, err := o.list(&bound{ctx, layer, below}, spool, below.most)
	if err == nil {
		err = below.put(entries)
	}
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
		if err := w.WriteHeader(e.header); err != nil {
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

// bound reads as long as a context lasts and there is room.
type bound struct {
	ctx context.Context
	io.Reader
	room *stack
}

func (b *bound) Read(p []byte) (int, error) {
	if b.ctx.Err() != nil {
		return 0, context.Cause(b.ctx)
	}
	n, err := b.Reader.Read(p)
	if b.room.bytes -= int64(n); b.room.bytes < 0 {
		return n, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, int64(mostBytes))
	}
	if full := b.room.disk.took(n); full != nil {
		return n, full
	}
	return n, err
}

// list reads the entries of a layer, sorted by name, and writes their content into spool. Of the names that share one file, the first has
// its content: which one an engine has written first is chance.
func (o Options) list(layer io.Reader, spool io.Writer, most int64) ([]entry, error) {
	byName := map[string]entry{}
	held, at := int64(0), int64(0)
	for r := tar.NewReader(layer); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if h.Name = clean(h.Name); h.Name == "." || h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		if err := fit(h); err != nil {
			return nil, err
		}
		if other, is := byName[h.Name]; is && (h.Typeflag != tar.TypeDir || other.header.Typeflag != tar.TypeDir) {
			return nil, fmt.Errorf("%w: a layer has %s twice", ErrLayer, short(h.Name))
		}
		e := entry{strings.Clone(h.Name), o.plain(h), at}
		held += heldOf + 2*int64(len(e.name)) + int64(len(e.header.Linkname))
		for key, value := range e.header.PAXRecords {
			held += int64(len(key) + len(value))
		}
		if held > most {
			return nil, fmt.Errorf("%w: the headers of a layer take more than %d bytes", ErrTooLarge, most)
		}
		byName[e.name] = e
		n, err := io.Copy(spool, r) //nolint:gosec // what it reads from has a bound
		if err != nil {
			return nil, err
		}
		at += n
	}
	links := map[string][]string{} // of a file, all its names
	for name, e := range byName {
		if e.header.Typeflag == tar.TypeLink {
			to := clean(e.header.Linkname)
			of := byName[to].header // links have several names too
			if of == nil || of.Typeflag == tar.TypeDir || of.Typeflag == tar.TypeLink || strings.HasPrefix(path.Base(to), whiteout) {
				return nil, fmt.Errorf("%w: %s is another name of %s, which is no file of its layer", ErrLayer, short(name), short(to))
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
			byName[name] = entry{name, &h, whole.at}
		}
	}
	all := make([]entry, 0, len(byName))
	for _, e := range byName {
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b entry) int { return strings.Compare(a.name, b.name) })
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
		Typeflag: h.Typeflag, Name: strings.Clone(h.Name), Linkname: strings.Clone(h.Linkname), Mode: h.Mode, Uid: h.Uid, Gid: h.Gid, Size: h.Size,
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
			p.PAXRecords[strings.Clone(key)] = strings.Clone(value) // else all records of the header stay in memory
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
