package natsd

import (
	"slices"
)

// Gateway is the name of the service that everybody speaks to.
const Gateway = "gateway"

// servicePhases are the services that have keys of their own, and the phases
// that each decides.
var servicePhases = map[string][]string{
	"planner":  {"plan"},
	"builder":  {"develop", "integrate"},
	"deployer": {"deploy"},
	"monitor":  {"operate"},
	"feedback": {"learn"},
	Gateway:    nil,
}

// Services lists the names of the services that have keys of their own.
func Services() []string {
	names := make([]string, 0, len(servicePhases))
	for name := range servicePhases {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// PhasesOf are the phases that a service decides, or the one that a phase's name
// says; none for another name.
func PhasesOf(name string) []string {
	if phases := servicePhases[name]; len(phases) > 0 {
		return slices.Clone(phases)
	}
	for _, phases := range servicePhases {
		if slices.Contains(phases, name) {
			return []string{name}
		}
	}
	return nil
}

// permissions are subjects, of which those denied count more.
type permissions struct {
	publish, deny, subscribe []string
}

// permissionsOf is the smallest set of subjects that a service gets along with.
// It is no wall against a service that was taken over: see the package's
// documentation for what the server does not check.
func permissionsOf(service string) permissions {
	p := permissions{
		// Whatever is read comes by a consumer, or as an answer.
		subscribe: []string{serviceInbox + "." + service + ".>"},
		publish: []string{
			"$JS.API.STREAM.INFO.*",
			"$JS.API.CONSUMER.CREATE." + Lifecycle + ".>", "$JS.API.CONSUMER.INFO." + Lifecycle + ".*",
			"$JS.API.CONSUMER.DELETE." + Lifecycle + ".*", "$JS.API.CONSUMER.MSG.NEXT." + Lifecycle + ".*", "$JS.ACK." + Lifecycle + ".>",
			"$JS.API.DIRECT.GET." + Lifecycle, "$JS.API.DIRECT.GET." + Lifecycle + ".>", "$JS.API.STREAM.MSG.GET." + Lifecycle,
			"$JS.API.DIRECT.GET." + Snapshots + ".>",
			// Whether a timer was set: a second attempt looks.
			"$JS.API.STREAM.MSG.GET." + Timers,
			// Leases are watched, and read.
			"$JS.API.DIRECT.GET.KV_" + Leases + ".>", "$JS.API.STREAM.MSG.GET.KV_" + Leases,
			"$JS.API.CONSUMER.CREATE.KV_" + Leases + ".>", "$JS.API.CONSUMER.DELETE.KV_" + Leases + ".*", "$JS.FC.KV_" + Leases + ".>",
		},
	}
	if service == Gateway {
		return gatewayPermissions(p)
	}
	for _, phase := range servicePhases[service] {
		fired := "fired-" + phase
		p.publish = append(p.publish,
			"lifecycle.*."+phase+".>", "results.*."+phase+".>", "deadletter.*."+phase,
			"timers.set."+phase+".>", "$KV."+Leases+"."+phase, "snapshots."+phase+".>",
			"$JS.API.CONSUMER.CREATE."+Timers+"."+fired+".>", "$JS.API.CONSUMER.INFO."+Timers+"."+fired,
			"$JS.API.CONSUMER.MSG.NEXT."+Timers+"."+fired, "$JS.ACK."+Timers+"."+fired+".>",
		)
	}
	if service == "builder" {
		// Steps take what is in the cache for what they left: nobody else writes it, or looks into it but for the gateway.
		p.publish = append(p.publish, "logs.>", "cache.>", "$JS.API.DIRECT.GET."+Cache+".>", "$JS.API.STREAM.PURGE."+Cache)
	}
	if service == "feedback" { // opens what users said
		p.publish = append(p.publish, "$JS.API.STREAM.MSG.GET.KV_KEYS")
	}
	return p
}

// gatewayPermissions: claims and dead letters, what it stores itself, and the
// consumers of whoever subscribes; never a fact, a result or a timer, nor a
// phase's lease.
func gatewayPermissions(p permissions) permissions {
	p.publish = append(p.publish,
		"claims.>", "deadletter.>", "webhooks.>", "$KV.>", "snapshots.gateway.>",
		"$JS.API.STREAM.CREATE.*", "$JS.API.STREAM.UPDATE.*", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST", "$JS.API.INFO",
		"$JS.API.STREAM.MSG.GET.*", "$JS.API.DIRECT.GET.>", "$JS.API.CONSUMER.>", "$JS.ACK.>", "$JS.FC.>",
	)
	for _, stream := range []string{Lifecycle, Timers, DeadLetter, Snapshots, Logs, Cache, "KV_" + Leases} {
		p.deny = append(p.deny, "$JS.API.STREAM.UPDATE."+stream)
	}
	p.deny = append(p.deny, "$JS.API.CONSUMER.CREATE."+Timers+".>", "$JS.API.CONSUMER.MSG.NEXT."+Timers+".>", "$JS.ACK."+Timers+".>")
	for _, phases := range servicePhases {
		for _, phase := range phases {
			p.deny = append(p.deny, "$KV."+Leases+"."+phase)
		}
	}
	slices.Sort(p.deny)
	return p
}
