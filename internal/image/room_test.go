package image

import (
	"archive/tar"
	"errors"
	"io"
	"testing"
)

// none is a folder of a file system on which nothing is ever free.
const none = "/proc"

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// Whatever is read and written of an image, the disk is looked at.
func TestAnImageLeavesRoomOnTheDisk(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		folder string
		bytes  int64
		want   error
	}{{none, often - 1, nil}, {none, often, ErrDiskFull}, {t.TempDir(), often, nil}} {
		below := newStack(c.folder)
		for what, copied := range map[string]func() (int64, error){
			"read": func() (int64, error) {
				return io.Copy(io.Discard, io.LimitReader(&bound{t.Context(), zeros{}, below}, c.bytes))
			},
			"written": func() (int64, error) {
				return io.Copy(Sparing(c.folder, io.Discard), io.LimitReader(zeros{}, c.bytes))
			},
		} {
			if n, err := copied(); !errors.Is(err, c.want) {
				t.Errorf("%d bytes %s at %s: %v after %d", c.bytes, what, c.folder, err, n)
			}
		}
	}
}

// The bound on memory is there without that anybody asks for it.
func TestNamesOfAnImageHaveABound(t *testing.T) {
	t.Parallel()
	below := newStack(t.TempDir())
	below.held = 256<<20 - 1000
	file := []tar.Header{{Typeflag: tar.TypeReg, Name: "a"}}
	if err := rewriteAll(t, below, file); err != nil {
		t.Errorf("within the bound: %v", err)
	}
	below.held = 256 << 20
	file[0].Name = "b"
	if err := rewriteAll(t, below, file); !errors.Is(err, ErrTooLarge) {
		t.Errorf("beyond it: %v", err)
	}
}
