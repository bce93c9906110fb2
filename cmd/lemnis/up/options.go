package up

import (
	"fmt"
	"net"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"github.com/lemnis/lemnis/internal/certs"
	"github.com/lemnis/lemnis/internal/executor"
	"github.com/lemnis/lemnis/internal/outward"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/services/deployer"
	"github.com/lemnis/lemnis/services/gateway/access"
)

// Options of an installation. Data is needed.
type Options struct {
	Data       string             // folder for all that is kept; made when it is not there
	HTTP       string             // host:port of the gateway, on loopback without Auth; port 0 is a free one; default 127.0.0.1:8080
	NATSListen string             // host:port for NATS clients, on loopback without Auth; port 0 is a free one; default 127.0.0.1:4222
	NATS       string             // URL of a NATS server to use instead of the embedded one
	NATSKey    string             // file with the services' nkey seed for that server
	Replicas   int                // of the streams on that server; 1 when zero
	Redis      string             // URL of a Redis to use instead of the embedded store
	Config     string             // project file that is applied at start; empty: none
	Durability string             // "fsync": nothing is lost when the power fails; "": up to some seconds
	Quotas     string             // file of what projects may use; empty: quotas.yaml in Data
	SecretsDir string             // holds <project>/<name> for what configurations call secret:<name>; default <Data>/secrets
	OSV        string             // database of known vulnerabilities: a folder, a zip or the URL of a mirror; empty: they are not known
	Pipelines  int                // that run at once; 1 when zero
	Isolation  executor.Isolation // of the steps of pipelines and of commands among runtime tests; executor.Auto when empty
	Log        *zap.Logger

	Auth   bool          // ask everybody for a token; without it everybody is the principal local, on loopback only
	TLS    certs.Files   // of HTTP and NATS; none: without TLS
	Limits access.Limits // of tokens and projects, with Auth

	PrivateSinks outward.Allowed // ranges of addresses that subscriptions, alerts, statuses of commits and tests of TLS may go to although they are not public
	Public       string          // where people find the installation, which forges are told; empty: nowhere

	Front []string      // command that runs users' way to what is deployed as a process that outlives this one; empty: within this one
	Alone time.Duration // how long that process goes on when no deployer is there; 10 min when zero

	// For drills and tests. Zero values take the services' defaults.
	Known        map[string]access.Identity // tokens that the gateway knows beside those that it keeps
	Timing       service.Timing
	StartTimeout time.Duration // of a deployed process
	Drill        *deployer.Drill
}

// Default addresses.
const (
	DefaultHTTP = "127.0.0.1:8080"
	DefaultNATS = "127.0.0.1:4222"
)

func (o Options) withDefaults() Options {
	if o.HTTP == "" {
		o.HTTP = DefaultHTTP
	}
	if o.NATSListen == "" {
		o.NATSListen = DefaultNATS
	}
	if o.SecretsDir == "" && o.Data != "" {
		o.SecretsDir = filepath.Join(o.Data, "secrets")
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	return o
}

// loopback refuses an address that other machines could reach.
func loopback(flag, address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%s %q is no host:port", flag, address)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("%s %q is not a loopback address, and without --auth nobody is authenticated: whoever reaches it could do anything; use 127.0.0.1", flag, address)
	}
	return nil
}
