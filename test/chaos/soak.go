package chaos

import (
	"context"
	"errors"
	"io"
	"time"
)

// Soak is
func Soak(ctx context.Context, sc *Scene, length time.Duration, out io.Writer) (bool, error) {
	return false, errors.New("todo")
}
