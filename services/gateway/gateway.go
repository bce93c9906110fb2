package gateway

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/lemnis/lemnis/internal/outward"
	"github.com/lemnis/lemnis/internal/privacy"
	"github.com/lemnis/lemnis/internal/quota"
	"github.com/lemnis/lemnis/internal/runlog"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/gateway/access"
	"github.com/lemnis/lemnis/services/gateway/subscription"
	"github.com/lemnis/lemnis/services/gateway/web"
)

// Options of a Gateway; Host is required.
type Options struct {
	Host service.Host
	// Registry answers /v2/; nil: nothing does.
	Registry http.Handler
	// AllowedHosts are names, with or without a port, that requests may be addressed to beside this machine's loopback
	// names.
	AllowedHosts []string
	// Tokens can be managed over HTTP; nil: there are none.
	Tokens *access.Store
	// Authenticate asks everybody for one of the tokens; without it everybody on this machine is the principal local.
	Authenticate bool
	// Services are tokens of the installation's own programs, and who they are; they are kept in memory only.
	Services map[string]access.Identity
	// Principals are those who submit over NATS, where everybody is asked who they are; nil: nobody does.
	Principals func() ([]access.Identity, error)
	// Limits of tokens and projects, where they are asked for.
	Limits access.Limits
	// Quotas of projects; nil: there are none.
	Quotas *quota.File
	// PrivateSinks are ranges of addresses, closed to subscriptions otherwise, that these may push to.
	PrivateSinks outward.Allowed
	// SigningSecrets is a folder that holds <project>/<name> for signing secrets of subscriptions and secrets of webhooks;
	// empty: there are none.
	SigningSecrets string
	// Patience of deliveries to subscriptions.
	Patience subscription.Patience
	// Heartbeat is how often a silent event stream says that it lives; 0: every 15 s.
	Heartbeat time.Duration
	// Buffer is how many events a listener may be behind before it is dropped; 0: 1024.
	Buffer int
	// Metrics of what else runs in the process, for /metrics.
	Metrics []prometheus.Collector
}

// Gateway is the door. Its methods may be called from several goroutines.
type Gateway struct {
	host      service.Host
	log       *zap.Logger
	registry  http.Handler
	allowed   []string
	heartbeat time.Duration

	tokens        *access.Store
	authenticated bool
	services      []serviceToken
	principals    func() ([]access.Identity, error)
	limiter       *access.Limiter
	quotas        *quota.File
	limitless     atomic.Int64 // when it was last said that nothing is limited; Unix nanoseconds

	subscriptions *subscription.Manager

	secrets       string // folder
	webhookRoom   bodyRoom
	webhookStream atomic.Bool // the stream of unknown deliveries is there

	door     door
	mappings mappings
	recent   recent
	index    *index
	overview *overview
	live     *live
	tails    *tails

	logs          *runlog.Store
	readingLogs   chan struct{}
	followingLogs chan struct{}

	rebuilding sync.Mutex // held while the read models are built again
	metrics    metrics
	handle     atomic.Pointer[jetstream.Stream]

	vaultMu sync.Mutex
	opened  *privacy.Vault // nil until feedback came
}

// New makes a gateway of an installation whose streams are there ([service.NewHost] makes them).
func New(o Options) (*Gateway, error) {
	if o.Host.JS == nil || o.Host.Conn == nil || o.Host.Folds == nil || o.Host.Stream == "" {
		return nil, errors.New("gateway: the host has no bus or no store")
	}
	if o.Authenticate && o.Tokens == nil {
		return nil, errors.New("gateway: there are no tokens to authenticate anybody by")
	}
	log := o.Host.Log
	if log == nil {
		log = zap.NewNop()
		o.Host.Log = log
	}
	if o.Heartbeat <= 0 {
		o.Heartbeat = 15 * time.Second
	}
	if o.Buffer <= 0 {
		o.Buffer = 1024
	}
	g := &Gateway{host: o.Host, log: log.Named("gateway"), registry: o.Registry, allowed: o.AllowedHosts, heartbeat: o.Heartbeat}
	if !o.Authenticate { // nobody is told apart; what a project may use counts all the same
		o.Limits.Events = -1
	}
	g.tokens, g.authenticated, g.principals, g.quotas = o.Tokens, o.Authenticate, o.Principals, o.Quotas
	g.limiter = access.NewLimiter(o.Host.Folds.Client(), o.Limits, o.Quotas.Of)
	for text, who := range o.Services {
		g.services = append(g.services, serviceToken{sha256.Sum256([]byte(text)), who})
	}
	g.index = newIndex(o.Host, g.log)
	g.overview = newOverview(g.log)
	g.tails = newTails(o.Host)
	g.live = newLive(o.Host, g.log, o.Buffer, g.tails.tail)
	g.door = door{project: g.overview.project, seal: g.seal, inDeploy: g.inDeploy, may: g.mayClaim}
	g.mappings.project = g.overview.project
	g.subscriptions = subscription.New(subscription.Options{
		Host: o.Host, Record: g.recordSubscription, Allow: o.PrivateSinks, SecretsDir: o.SigningSecrets, Patience: o.Patience,
		Tail: g.tails.tail,
	})
	g.measure(o.Metrics)
	g.boundStorage()
	g.logs, g.readingLogs, g.followingLogs = runlog.New(o.Host.JS), make(chan struct{}, mostLogs), make(chan struct{}, mostFollowed)
	g.secrets, g.webhookRoom.each = o.SigningSecrets, map[string]int64{}
	return g, nil
}

// Handler answers everything that the gateway serves over HTTP.
func (g *Gateway) Handler() http.Handler {
	mux := g.routes()
	return g.guard(mux.mux)
}

// routes names every endpoint. Each is reached through its rule (access.go); one without is for administrators.
func (g *Gateway) routes() *routes {
	mux := &routes{mux: http.NewServeMux(), authorize: g.authorize}
	mux.HandleFunc("POST /events", g.receive)
	mux.HandleFunc("GET /events", g.list)
	mux.HandleFunc("GET /events/stream", g.stream)
	mux.HandleFunc("GET /events/{id...}", g.show)
	mux.HandleFunc("POST /feedback", g.feedback)
	mux.HandleFunc("POST /webhooks/{kind}/{project}", g.takeWebhook)
	mux.HandleFunc("GET /api/v1/webhooks/unknown", g.unknownWebhooks)
	mux.HandleFunc("GET /api/v1/overview", g.showOverview)
	mux.HandleFunc("GET /api/v1/logs/{project}/{run...}", g.showLog)
	mux.HandleFunc("GET /api/v1/tests/{project}", g.showTests)
	mux.HandleFunc("GET /api/v1/deadletters", g.deadLetters)
	mux.HandleFunc("GET /api/v1/deadletters/{sequence}", g.deadLetter)
	mux.HandleFunc("POST /api/v1/deadletters/{sequence}/resend", g.resend)
	mux.HandleFunc("POST /api/v1/rebuilds", g.rebuild)
	mux.HandleFunc("GET /api/v1/rebuilds/{id}", g.rebuildState)
	mux.HandleFunc("GET /asyncapi.json", g.showAsyncAPI)
	mux.HandleFunc("GET /schemas/{$}", g.listSchemas)
	mux.HandleFunc("GET /schemas/{type}", g.showSchema)
	mux.HandleFunc("GET /healthz", g.healthz)
	mux.HandleFunc("GET /readyz", g.readyz)
	mux.HandleFunc("GET /metrics", g.showMetrics)
	mux.HandleFunc("POST /subscriptions", g.createSubscription)
	mux.HandleFunc("GET /subscriptions", g.listSubscriptions)
	mux.HandleFunc("GET /subscriptions/{id}", g.showSubscription)
	mux.HandleFunc("PUT /subscriptions/{id}", g.replaceSubscription)
	mux.HandleFunc("DELETE /subscriptions/{id}", g.deleteSubscription)
	for _, path := range []string{"/events", "/feedback", "/subscriptions", "/subscriptions/{id}"} {
		mux.HandleFunc(path, g.wrongMethod)
	}
	mux.HandleFunc("/api/", g.nothing)
	if g.registry != nil {
		mux.Handle("/v2/", g.registry)
	} else {
		mux.HandleFunc("/v2/", g.nothing)
	}
	mux.HandleFunc("GET /api/v1/registry.tar", g.copyRegistry)
	mux.HandleFunc("GET /api/v1/whoami", g.whoami)
	mux.HandleFunc("GET /api/v1/quotas", g.listQuotas)
	mux.HandleFunc("GET /api/v1/tokens", g.listTokens)
	mux.HandleFunc("POST /api/v1/tokens", g.createToken)
	mux.HandleFunc("DELETE /api/v1/tokens/{name}", g.revokeToken)
	mux.HandleFunc("POST /api/v1/tokens/{name}/rotate", g.rotateToken)
	mux.Handle("/", web.Handler())
	return mux
}

func (g *Gateway) nothing(w http.ResponseWriter, r *http.Request) {
	g.fail(w, r, refuse(http.StatusNotFound, "there is nothing at %s", quote(r.URL.Path)))
}

func (g *Gateway) wrongMethod(w http.ResponseWriter, r *http.Request) {
	allow := map[string]string{
		"/events": "GET, HEAD, POST", "/feedback": "POST", "/subscriptions": "GET, HEAD, POST", "/subscriptions/{id}": "DELETE, GET, HEAD, PUT",
	}[r.Pattern]
	w.Header().Set("Allow", allow)
	g.fail(w, r, refuse(http.StatusMethodNotAllowed, "%s is not for %s; it takes %s", r.URL.Path, r.Method, allow))
}

// Run keeps the read models, the live events and the inbox going until ctx ends; then listeners are sent away.
func (g *Gateway) Run(ctx context.Context) error {
	// Listeners would be waited for by whoever serves.
	defer context.AfterFunc(ctx, g.live.close)()
	defer g.live.close()
	group, run := errgroup.WithContext(ctx)
	group.Go(func() error { return g.live.run(run) })
	group.Go(func() error { return g.runModels(run) })
	group.Go(func() error { return g.keepSnapshots(run) })
	group.Go(func() error { return g.subscriptions.Run(run) })
	group.Go(func() error { return g.takeFromInboxes(run) })
	if g.tokens != nil {
		group.Go(func() error { return g.tokens.Run(run) })
	}
	if keeper, ok := g.registry.(interface{ Keep(context.Context) error }); ok {
		group.Go(func() error { return keeper.Keep(run) })
	}
	if err := group.Wait(); ctx.Err() == nil {
		return err
	}
	return nil // what ends with ctx has not failed
}

// CheckAddress refuses a host:port that is not this machine's loopback.
func CheckAddress(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("the address %q is no host:port", address)
	}
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	return fmt.Errorf("the address %s can be reached from other machines, and nobody is authenticated: turn authentication on (LEMNIS_AUTH=1), or use 127.0.0.1", address)
}

// vault opens the keys of users when the first feedback comes.
func (g *Gateway) vault(ctx context.Context) (*privacy.Vault, error) {
	g.vaultMu.Lock()
	defer g.vaultMu.Unlock()
	if g.opened != nil {
		return g.opened, nil
	}
	v, err := privacy.NewVault(ctx, g.host.JS, g.host.Replicas)
	if err != nil {
		return nil, err
	}
	g.opened = v
	return v, nil
}

func (g *Gateway) seal(ctx context.Context, project, user string, text []byte) (pseudonym, keyID string, ciphertext []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	v, err := g.vault(ctx)
	if err != nil {
		return "", "", nil, err
	}
	if pseudonym, err = v.Pseudonym(ctx, project, user); err != nil || len(text) == 0 {
		return pseudonym, "", nil, err
	}
	keyID, ciphertext, err = v.Seal(ctx, project, user, string(text))
	return pseudonym, keyID, ciphertext, err
}

// inDeploy looks for a claim of the test case run in the deploy phase.
func (g *Gateway) inDeploy(ctx context.Context, project, testCaseRun string) (bool, error) {
	q := query{project: project, phase: events.Deploy, subject: "testcaserun", key: testCaseRun, kinds: []events.Kind{events.Claim}}
	found, _, err := g.page(ctx, q, 0, 1)
	return len(found) > 0, err
}
