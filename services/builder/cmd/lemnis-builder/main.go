// Command lemnis-builder runs the phases develop and integrate. It needs git and go on its PATH. It is
// configured by its environment: LEMNIS_NATS_URL, LEMNIS_NATS_KEY_FILE, LEMNIS_REDIS_URL,
// LEMNIS_REPLICAS, LEMNIS_HTTP (health and metrics; none when empty), LEMNIS_LOG,
// LEMNIS_DATA (work folder), LEMNIS_REGISTRY_URL (where artifacts are pushed), LEMNIS_REGISTRY_TOKEN_FILE (a token of the gateway with publish:integrate@* and read@*),
// LEMNIS_SIGNING_KEY_FILE (key that artifacts are signed with where a project names none), LEMNIS_SECRETS_DIR (holds <project>/<name>: what projects name; without
// a key for all, one is made there for each project), LEMNIS_OSV (known vulnerabilities: a folder, a zip or a mirror's URL),
// LEMNIS_TRUSTED_KEYS_FILE (public keys whose signatures count for what outside builders offer where a project names none),
// LEMNIS_ISOLATION (of the steps of pipelines: auto, required or off), LEMNIS_PIPELINES (how many it runs at once; 1 when empty),
// LEMNIS_ALLOW_PRIVATE_SINKS (ranges of addresses, separated by commas, that APIs of forges may have although they are not public),
// LEMNIS_PUBLIC_URL (where people find the installation, which forges are told; none).
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/lemnis/lemnis/internal/executor"
	"github.com/lemnis/lemnis/internal/oci"
	"github.com/lemnis/lemnis/internal/outward"
	"github.com/lemnis/lemnis/internal/runlog"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/internal/stepcache"
	"github.com/lemnis/lemnis/services/builder"
)

func main() {
	os.Exit(service.Main("lemnis-builder", func(env service.Environment, host service.Host) ([]service.Definition, error) {
		push, err := oci.TokenFile(os.Getenv("LEMNIS_REGISTRY_TOKEN_FILE"))
		if err != nil {
			return nil, err
		}
		isolation, err := executor.ParseIsolation(os.Getenv("LEMNIS_ISOLATION"))
		if err != nil {
			return nil, fmt.Errorf("LEMNIS_ISOLATION: %w", err)
		}
		pipelines, err := builder.ParsePipelines(os.Getenv("LEMNIS_PIPELINES"))
		if err != nil {
			return nil, fmt.Errorf("LEMNIS_PIPELINES: %w", err)
		}
		allow, err := outward.Parse(os.Getenv(outward.Variable))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", outward.Variable, err)
		}
		public, err := builder.ParsePublic(os.Getenv("LEMNIS_PUBLIC_URL"))
		if err != nil {
			return nil, fmt.Errorf("LEMNIS_PUBLIC_URL: %w", err)
		}
		return builder.New(builder.Options{Allow: allow, Public: public, Data: filepath.Join(env.Data, "builder"), Registry: env.Registry, Push: push,
			SecretsDir: os.Getenv("LEMNIS_SECRETS_DIR"), SigningKey: os.Getenv("LEMNIS_SIGNING_KEY_FILE"), TrustedKeys: os.Getenv("LEMNIS_TRUSTED_KEYS_FILE"), OSV: os.Getenv("LEMNIS_OSV"),
			Private: service.KeyFiles(os.Environ()), Logs: runlog.New(host.JS), Cache: stepcache.New(host.JS), Isolation: isolation, Parallel: pipelines, Log: host.Log.Sugar().Warnw}), nil
	}))
}
