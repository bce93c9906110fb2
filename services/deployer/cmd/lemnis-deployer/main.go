// Command lemnis-deployer runs the deploy phase: what it deploys are processes on this machine. They end with it in order; when
// it is killed, they and the way to them live on in a process of their own, until it comes back. It is configured by its environment: LEMNIS_NATS_URL, LEMNIS_NATS_KEY_FILE, LEMNIS_REDIS_URL,
// LEMNIS_REPLICAS, LEMNIS_HTTP (health and metrics; none when empty), LEMNIS_LOG,
// LEMNIS_DATA (work folder), LEMNIS_REGISTRY_URL (where artifacts are pulled), LEMNIS_REGISTRY_TOKEN_FILE (a token of the gateway with read@*),
// LEMNIS_TRUSTED_KEYS_FILE (public keys whose signatures count where a project names none), LEMNIS_SECRETS_DIR (holds <project>/<name>: those that projects name),
// LEMNIS_ALLOW_PRIVATE_SINKS (ranges of addresses, separated by commas, where runtime tests may ask for TLS although they are not public),
// LEMNIS_OSV (known vulnerabilities: a folder, a zip or a mirror's URL), LEMNIS_ISOLATION (of commands among runtime tests: auto, required or off),
// LEMNIS_PROXY_LISTEN, LEMNIS_PROXY_HOST and LEMNIS_PROXY_PORTS (where users reach what is deployed; by default loopback),
// LEMNIS_FRONT_ALONE (how long users are served while no deployer is there; default 10m).
package main

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"

	"github.com/lemnis/lemnis/internal/executor"
	"github.com/lemnis/lemnis/internal/oci"
	"github.com/lemnis/lemnis/internal/outward"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/services/deployer"
	"github.com/lemnis/lemnis/services/deployer/keeper"
)

func main() {
	if code, done := keeper.Main(os.Args); done {
		os.Exit(code)
	}
	var closing sync.WaitGroup
	code := service.Main("lemnis-deployer", func(env service.Environment, host service.Host) ([]service.Definition, error) {
		registry, err := url.Parse(env.Registry)
		if err != nil {
			return nil, err
		}
		door, err := deployer.ReadDoor(os.Getenv)
		if err != nil {
			return nil, err
		}
		pull, err := oci.TokenFile(os.Getenv("LEMNIS_REGISTRY_TOKEN_FILE"))
		if err != nil {
			return nil, err
		}
		if registry.Scheme == "http" {
			pull = append(pull, oci.PlainHTTP()) // also to another machine, since the URL says so
		}
		front, alone, err := deployer.ReadFront(os.Getenv)
		if err != nil {
			return nil, err
		}
		allow, err := outward.Parse(os.Getenv(outward.Variable))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", outward.Variable, err)
		}
		isolation, err := executor.ParseIsolation(os.Getenv("LEMNIS_ISOLATION"))
		if err != nil {
			return nil, fmt.Errorf("LEMNIS_ISOLATION: %w", err)
		}
		return []service.Definition{deployer.New(deployer.Options{
			Data: filepath.Join(env.Data, "deployer"), Log: host.Log.Sugar().Infow, Registry: registry.Host, OCI: pull, Closing: &closing, Door: door, Front: front, Alone: alone,
			SecretsDir: os.Getenv("LEMNIS_SECRETS_DIR"), TrustedKeys: os.Getenv("LEMNIS_TRUSTED_KEYS_FILE"), OSV: os.Getenv("LEMNIS_OSV"), Allow: allow,
			Isolation: isolation, Private: service.KeyFiles(os.Environ()),
		})}, nil
	})
	closing.Wait()
	os.Exit(code)
}
