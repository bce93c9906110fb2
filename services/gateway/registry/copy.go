package registry

import (
	"context"
	"io"

	"github.com/lemnis/lemnis/internal/backup"
)

// WriteTar writes all that is stored as a tar, for a backup, while the registry works.
func (r *Registry) WriteTar(ctx context.Context, w io.Writer) error {
	return backup.WriteTar(ctx, r.dir, w)
}
