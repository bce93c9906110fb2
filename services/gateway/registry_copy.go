package gateway

import (
	"context"
	"io"
	"net/http"

	"go.uber.org/zap"
)

// copyRegistry gives the files of the binary repository for a backup. A failure half way shows in the tar's missing end.
func (g *Gateway) copyRegistry(w http.ResponseWriter, r *http.Request) {
	files, ok := g.registry.(interface {
		WriteTar(ctx context.Context, w io.Writer) error
	})
	if !ok {
		g.fail(w, r, refuse(http.StatusNotFound, "this gateway has no binary repository"))
		return
	}
	w.Header().Set("Content-Type", "application/x-tar")
	if err := files.WriteTar(r.Context(), w); err != nil && r.Context().Err() == nil {
		g.log.Error("the binary repository could not be copied", zap.Error(err))
	}
}
