//go:build !chaos

package main

import (
	"context"
	"errors"

	"github.com/lemnis/lemnis/internal/service"
)

func disturbed(context.Context, service.Host, *delays) (service.Host, error) {
	return service.Host{}, errors.New("CHAOS_TWICE: this program was built without the tag chaos")
}
