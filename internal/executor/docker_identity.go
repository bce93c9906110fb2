package executor

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
)

const (
	// engineVolume is an empty volume on the engine, whose label says which engine it is. It stays where the engine keeps its data: the ID that an
	// engine says may be another each time, and so may the name of its host, which is the pod's where it runs beside the builder.
	engineVolume = "lemnis-engine"
	engineLabel  = "dev.lemnis.engine"
)

// identity is which engine that is, whatever it is reached by. Where it lets nobody make volumes it is what is given.
func identity(ctx context.Context, api *client.Client, otherwise string) (string, error) {
	for range 2 { // once it is made; what another process has made meanwhile counts
		found, err := ask(ctx, answers, func(ctx context.Context) (client.VolumeInspectResult, error) {
			return api.VolumeInspect(ctx, engineVolume, client.VolumeInspectOptions{})
		})
		switch id := found.Volume.Labels[engineLabel]; {
		case err == nil && id != "":
			return id, nil
		case err == nil, refuses(err): // somebody else's volume
			return otherwise, nil
		case !errdefs.IsNotFound(err):
			return "", fmt.Errorf("volume %s: %w", engineVolume, err)
		}
		id := make([]byte, 16)
		_, _ = rand.Read(id)
		_, err = ask(ctx, answers, func(ctx context.Context) (client.VolumeCreateResult, error) {
			return api.VolumeCreate(ctx, client.VolumeCreateOptions{Name: engineVolume, Labels: map[string]string{engineLabel: hex.EncodeToString(id)}})
		})
		switch {
		case refuses(err), errdefs.IsNotFound(err):
			return otherwise, nil
		case err != nil && !errdefs.IsConflict(err):
			return "", fmt.Errorf("make volume %s: %w", engineVolume, err)
		}
	}
	return otherwise, nil
}

// refuses tells whether an engine, or what stands before it, will not have volumes.
func refuses(err error) bool {
	return errdefs.IsPermissionDenied(err) || errdefs.IsUnauthorized(err) || errdefs.IsNotImplemented(err)
}
