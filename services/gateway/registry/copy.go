package registry

import (
	"context"
	"io"

	"github.com/lemnis/lemnis/internal/backup"
)

// WriteTar writes all that is stored as a tar, for a backup, while the registry works. Nothing is collected meanwhile: the
// blobs of a manifest that was copied have to be there when it comes to them.
func (r *Registry) WriteTar(ctx context.Context, w io.Writer) error {
	unlock, err := r.share()
	if err != nil {
		return err
	}
	defer unlock()
	return backup.WriteTar(ctx, r.dir, w)
}
