package up

import (
	"os"
	"path/filepath"
	"sync"

	"github.com/lemnis/lemnis/internal/privacy"
	"github.com/lemnis/lemnis/internal/runlog"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/internal/stepcache"
	"github.com/lemnis/lemnis/services/builder"
	"github.com/lemnis/lemnis/services/deployer"
	"github.com/lemnis/lemnis/services/feedback"
	"github.com/lemnis/lemnis/services/monitor"
	"github.com/lemnis/lemnis/services/planner"
)

// definitions are the services of the six phases.
func (s *Stack) definitions(host service.Host, vault *privacy.Vault) []service.Definition {
	o := s.options
	registry := s.inner()
	log := func(name string) func(string, ...any) { return host.Log.Named(name).Sugar().Infow }
	var closing sync.WaitGroup
	s.closers = append(s.closers, func() error { closing.Wait(); return nil })
	var cache *stepcache.Store
	if o.NATS != "" { // else there is no other builder
		cache = stepcache.New(host.JS)
	}
	private := append(service.KeyFiles(os.Environ()), o.Data, o.NATSKey)
	return append(builder.New(builder.Options{Allow: o.PrivateSinks, Public: o.Public, Data: filepath.Join(o.Data, "builder"), Registry: registry, Push: s.doors.registry(s.doors.builder),
		SecretsDir: o.SecretsDir, OSV: o.OSV, Private: private, Isolation: o.Isolation, Parallel: o.Pipelines, Logs: runlog.New(host.JS), Cache: cache, Log: host.Log.Named("builder").Sugar().Warnw}),
		planner.New(),
		deployer.New(deployer.Options{
			Data: filepath.Join(o.Data, "deployer"), Log: log("deployer"), Registry: registry, OCI: s.doors.registry(s.doors.placer), StartTimeout: o.StartTimeout, Drill: o.Drill, Closing: &closing,
			SecretsDir: o.SecretsDir, OSV: o.OSV, Allow: o.PrivateSinks, Front: o.Front, Alone: o.Alone,
			Isolation: o.Isolation, Private: private,
		}),
		monitor.New(monitor.Options{Log: log("monitor"), SecretsDir: o.SecretsDir, Allow: o.PrivateSinks}),
		feedback.New(feedback.Options{Keys: vault}),
	)
}
