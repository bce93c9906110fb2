package integration_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/network"
	"github.com/testcontainers/testcontainers-go/wait"

	"github.com/lemnis/lemnis/cmd/lemnis/api"
)

// containers is a stack of containers: as deploy/compose describes it, one of each service or two.
type containers struct {
	t             *testing.T
	images        images
	secrets, user string
	network       *testcontainers.DockerNetwork
	volumes       string // prefix of their names
	bus, redis    []string

	mu  sync.Mutex
	all map[string]testcontainers.Container
}

// one is a container of the stack.
type one struct {
	name, image, user string
	args              []string
	env               map[string]string
	secrets           []string          // in the folder of the secrets, for /run/secrets
	binds             []string          // beside them
	volumes           map[string]string // name to path
	aliases           []string
	ports             []string
	health            []string // asks it, in the container
	ready             wait.Strategy
	tell              func(line string)
}

// startContainers starts a stack and returns when it is well.
func startContainers(t *testing.T, servers, each int) *containers {
	t.Helper()
	engine(t)
	made, err := buildImages()
	if err != nil {
		t.Fatal(err)
	}
	s := &containers{t: t, images: made, all: map[string]testcontainers.Container{}, volumes: fmt.Sprintf("lemnis-test-%d-", time.Now().UnixNano())}
	s.secrets, s.user = stackSecrets(t)
	if s.network, err = network.New(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.end)
	s.startBus(servers)
	s.startServices(servers, each)
	return s
}

func (s *containers) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.t.Failed() {
		s.keepTraces()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.t.Context()), time.Minute)
	defer cancel()
	var ending sync.WaitGroup
	for name, c := range s.all {
		ending.Go(func() {
			if err := testcontainers.TerminateContainer(c, testcontainers.StopContext(ctx), testcontainers.StopTimeout(0)); err != nil {
				s.t.Errorf("end %s: %v", name, err)
			}
		})
	}
	ending.Wait()
	if err := s.network.Remove(ctx); err != nil {
		s.t.Errorf("remove the network: %v", err)
	}
	removeVolumes(s.t, s.volumes)
}

// keepTraces says what each container said last, and leaves what is needed to understand a failure in a folder: all that each said, the
// stacks of its goroutines, and how the streams and consumers stood by each NATS server before that.
func (s *containers) keepTraces() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.t.Context()), time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "lemnis-stack-")
	if err != nil {
		s.t.Error(err)
		return
	}
	s.t.Logf("what each container said, its stacks and its streams are in %s", dir)
	keep := func(name string, text []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			s.t.Error(err)
		}
	}
	each := func(do func(name string, c testcontainers.Container)) {
		var all sync.WaitGroup
		for name, c := range s.all {
			all.Go(func() { do(name, c) })
		}
		all.Wait()
	}
	each(func(name string, c testcontainers.Container) {
		s.t.Logf("%s said:\n%s", name, logsOf(ctx, c))
		if strings.HasPrefix(name, "nats") && c.IsRunning() {
			keep(name+".json", streamsBy(ctx, c))
		}
	})
	each(func(name string, c testcontainers.Container) {
		if c.IsRunning() && !strings.HasPrefix(name, "redis") {
			dumping, cancel := context.WithTimeout(ctx, 10*time.Second)
			defer cancel()
			_ = exec.CommandContext(dumping, "docker", "kill", "-s", "QUIT", c.GetContainerID()).Run() // killed meanwhile, it has no stacks
			_ = exec.CommandContext(dumping, "docker", "wait", c.GetContainerID()).Run()
		}
		keep(name+".log", wholeLog(ctx, c))
	})
}

// streamsBy is how the streams and their consumers stand as a NATS server sees them; or why it does not say.
func streamsBy(ctx context.Context, c testcontainers.Container) []byte {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	address, err := c.ContainerIP(ctx)
	if err != nil {
		return []byte(err.Error())
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(address, "8222")+"/jsz?accounts=1&streams=1&consumers=1&raft=1", nil)
	if err != nil {
		return []byte(err.Error())
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return []byte(err.Error())
	}
	defer func() { _ = response.Body.Close() }()
	text, _ := io.ReadAll(response.Body)
	return text
}

func wholeLog(ctx context.Context, c testcontainers.Container) []byte {
	r, err := c.Logs(ctx)
	if err != nil {
		return []byte(err.Error())
	}
	defer func() { _ = r.Close() }()
	text, _ := io.ReadAll(r)
	return text
}

func logsOf(ctx context.Context, c testcontainers.Container) string {
	text := wholeLog(ctx, c)
	return string(text[max(0, len(text)-6000):])
}

// start starts a container and returns when it is as it is waited for.
func (s *containers) start(o one) (testcontainers.Container, error) {
	binds := o.binds
	for _, name := range o.secrets {
		binds = append(binds, filepath.Join(s.secrets, name)+":/run/secrets/"+filepath.Base(name)+":ro")
	}
	for name, path := range o.volumes {
		binds = append(binds, s.volumes+name+":"+path)
	}
	request := testcontainers.ContainerRequest{
		Image: o.image, Cmd: o.args, Env: o.env, ExposedPorts: o.ports, WaitingFor: o.ready,
		Networks: []string{s.network.Name}, NetworkAliases: map[string][]string{s.network.Name: append(o.aliases, o.name)},
		Tmpfs: map[string]string{"/tmp": ""},
		ConfigModifier: func(c *container.Config) {
			c.User = o.user
			if o.health != nil {
				c.Healthcheck = &container.HealthConfig{Test: append([]string{"CMD"}, o.health...), Interval: time.Second, Timeout: 6 * time.Second, Retries: 3, StartPeriod: 2 * time.Minute}
			}
		},
		HostConfigModifier: func(h *container.HostConfig) {
			init := true
			h.Binds, h.ReadonlyRootfs, h.Init = binds, true, &init
			h.CapDrop, h.SecurityOpt = []string{"ALL"}, []string{"no-new-privileges:true"}
		},
	}
	if o.tell != nil {
		request.LogConsumerCfg = &testcontainers.LogConsumerConfig{Consumers: []testcontainers.LogConsumer{consumer(o.tell)}}
	}
	c, err := testcontainers.GenericContainer(s.t.Context(), testcontainers.GenericContainerRequest{ContainerRequest: request, Started: true})
	if c != nil {
		s.mu.Lock()
		s.all[o.name] = c
		s.mu.Unlock()
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.name, err)
	}
	return c, nil
}

type consumer func(line string)

func (c consumer) Accept(l testcontainers.Log) { c(strings.TrimRight(string(l.Content), "\r\n")) }

// together starts containers at the same time.
func (s *containers) together(all []one) {
	s.t.Helper()
	var starting sync.WaitGroup
	for _, o := range all {
		starting.Go(func() {
			if _, err := s.start(o); err != nil {
				s.t.Errorf("start %v", err)
			}
		})
	}
	starting.Wait()
	if s.t.Failed() {
		s.t.FailNow()
	}
}

func (s *containers) startBus(servers int) {
	s.t.Helper()
	route, err := os.ReadFile(filepath.Join(s.secrets, "route.password"))
	if err != nil {
		s.t.Fatal(err)
	}
	compose, err := filepath.Abs("../../deploy/compose")
	if err != nil {
		s.t.Fatal(err)
	}
	names, conf := []string{"nats"}, "nats.conf"
	if servers > 1 {
		names, conf = nil, "nats.cluster.conf"
		for i := range servers {
			names = append(names, fmt.Sprintf("nats-%d", i+1))
		}
	}
	password, routes := strings.TrimSpace(string(route)), make([]string, len(names))
	for i, name := range names {
		s.bus = append(s.bus, "nats://"+name+":4222")
		routes[i] = fmt.Sprintf("%q", "nats-route://route:"+password+"@"+name+":6222")
	}
	s.redis = []string{"redis"}
	if servers > 1 {
		s.redis = []string{"redis-1", "redis-2"}
	}
	var all []one
	for _, name := range s.redis {
		all = append(all, one{
			name: name, image: s.images.redis, user: s.user, args: []string{"redis-server", "/run/secrets/redis.conf"}, secrets: []string{"redis.conf"},
			ready: wait.ForLog("Ready to accept connections"),
		})
	}
	for _, name := range names {
		all = append(all, one{
			name: name, image: s.images.nats, args: []string{"-c", "/etc/nats/nats.conf"},
			health: []string{"wget", "-q", "-O", "-", "http://127.0.0.1:8222/healthz"}, ready: wait.ForHealthCheck().WithStartupTimeout(time.Minute),
			env:     map[string]string{"NATS_NAME": name, "NATS_ROUTE_PASSWORD": password, "NATS_ROUTES": "[" + strings.Join(routes, ", ") + "]"},
			binds:   []string{filepath.Join(compose, conf) + ":/etc/nats/nats.conf:ro", filepath.Join(s.secrets, "accounts.conf") + ":/etc/nats/accounts.conf:ro"},
			volumes: map[string]string{name: "/data"},
		})
	}
	s.together(all)
	c, err := s.start(one{
		name: "streams", image: s.images.of("tools"), user: s.user, secrets: []string{"nats/services.nk"}, ready: wait.ForExit().WithExitTimeout(2 * time.Minute),
		args: []string{"streams", "--nats", strings.Join(s.bus, ","), "--nats-key", "/run/secrets/services.nk", "--replicas", fmt.Sprint(servers)},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.succeeded(c, "streams")
}

// succeeded fails the test when a container has not ended with 0.
func (s *containers) succeeded(c testcontainers.Container, name string) {
	s.t.Helper()
	state, err := c.State(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	if state.ExitCode != 0 {
		s.t.Fatalf("%s ended with %d:\n%s", name, state.ExitCode, logsOf(s.t.Context(), c))
	}
}

func (s *containers) startServices(servers, each int) {
	s.t.Helper()
	token := func(of string) map[string]string {
		return map[string]string{"LEMNIS_REGISTRY_TOKEN_FILE": "/run/secrets/" + of + ".token"}
	}
	own := map[string]one{
		"planner": {}, "monitor": {}, "feedback": {},
		"gateway": {
			env:     map[string]string{"LEMNIS_HTTP": "0.0.0.0:8080", "LEMNIS_AUTH": "1", "LEMNIS_TOKENS_DIR": "/run/secrets"},
			secrets: []string{"admin.token", "builder.token", "deployer.token"}, volumes: map[string]string{"gateway": "/var/lib/lemnis"}, ports: []string{"8080/tcp"},
		},
		"builder": {
			env: token("builder"), secrets: []string{"builder.token", "signing.key"},
			volumes: map[string]string{"builder": "/var/lib/lemnis", "origins": "/srv/git"},
		},
		"deployer": {env: token("deployer"), secrets: []string{"deployer.token", "signing.pub"}, volumes: map[string]string{"deployer": "/var/lib/lemnis"}},
	}
	own["builder"].env["LEMNIS_SIGNING_KEY_FILE"], own["deployer"].env["LEMNIS_TRUSTED_KEYS_FILE"] = "/run/secrets/signing.key", "/run/secrets/signing.pub"
	own["builder"].env["GOCACHE"], own["builder"].env["GOMODCACHE"] = "/var/cache/lemnis/go-build", "/var/cache/lemnis/mod"
	own["deployer"].env["LEMNIS_PROXY_LISTEN"], own["deployer"].env["LEMNIS_PROXY_HOST"] = "0.0.0.0", "deployer"
	own["deployer"].env["LEMNIS_PROXY_PORTS"] = "20000-20999"
	var all []one
	for service, special := range own {
		for i := range each {
			o := special
			o.name, o.image, o.user, o.health = fmt.Sprintf("%s-%d", service, i+1), s.images.of(service), s.user, []string{"/lemnis", "healthcheck"}
			o.aliases, o.secrets = []string{service}, append([]string{service + ".nk", "redis.password"}, special.secrets...)
			o.ready = wait.ForHealthCheck().WithStartupTimeout(2 * time.Minute)
			o.env = map[string]string{
				"LEMNIS_NATS_URL": strings.Join(s.bus, ","), "LEMNIS_NATS_KEY_FILE": "/run/secrets/" + service + ".nk", "LEMNIS_REPLICAS": fmt.Sprint(servers),
				"LEMNIS_REDIS_URL": "redis://" + strings.Join(s.redis, ":6379,redis://") + ":6379", "LEMNIS_REDIS_PASSWORD_FILE": "/run/secrets/redis.password",
				"LEMNIS_REGISTRY_URL": "http://gateway:8080", "LEMNIS_HTTP": "0.0.0.0:9090", "LEMNIS_LOG": "warn",
			}
			maps.Copy(o.env, special.env)
			if service == "builder" { // two that fill one new volume from the image fall over each other
				o.volumes = map[string]string{o.name + "-cache": "/var/cache/lemnis"}
				maps.Copy(o.volumes, special.volumes)
			}
			all = append(all, o)
		}
	}
	s.together(all)
}

// client reaches a gateway from here, as the administrator.
func (s *containers) client(gateway string) *api.Client {
	s.t.Helper()
	at, err := s.all[gateway].PortEndpoint(s.t.Context(), "8080/tcp", "http")
	if err != nil {
		s.t.Fatal(err)
	}
	token, err := os.ReadFile(filepath.Join(s.secrets, "admin.token"))
	if err != nil {
		s.t.Fatal(err)
	}
	c := api.New(at, api.Token(strings.TrimSpace(string(token))))
	s.t.Cleanup(c.Close)
	return c
}

var projectLine = regexp.MustCompile(`project (shop-[a-z0-9]+)`)

// demo turns a lap in a container of the network, as make stack-demo does, and returns the project that it was turned in.
// served is called once, when its baseline serves users.
func (s *containers) demo(name string, served func()) (project string) {
	s.t.Helper()
	var once sync.Once
	var mu sync.Mutex
	var said bytes.Buffer
	c, err := s.start(one{
		name: name, image: s.images.of("tools"), user: s.user, secrets: []string{"admin.token"}, volumes: map[string]string{"origins": "/srv/git"},
		args: []string{
			"demo", "--remote", "--server", "http://gateway:8080", "--token-file", "/run/secrets/admin.token", "--origin", "/srv/git",
			"--pager", "0.0.0.0:8090", "--pager-host", name,
		},
		ready: wait.ForExit().WithExitTimeout(8 * time.Minute),
		tell: func(line string) {
			mu.Lock()
			defer mu.Unlock()
			said.WriteString(line + "\n")
			s.t.Log(line)
			if strings.Contains(line, "users send") {
				once.Do(served)
			}
		},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.succeeded(c, name)
	text := logsOf(s.t.Context(), c)
	mu.Lock()
	found := projectLine.FindStringSubmatch(said.String() + text)
	mu.Unlock()
	if found == nil || !strings.Contains(text, "the lap closed") {
		s.t.Fatalf("the lap did not close:\n%s", text)
	}
	return found[1]
}

// bill reads the bill of materials in a container.
func (s *containers) bill(name string) (components int) {
	s.t.Helper()
	r, err := s.all[name].CopyFileFromContainer(s.t.Context(), "/usr/share/lemnis/sbom.cdx.json")
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	var bom struct {
		BOMFormat  string            `json:"bomFormat"`
		Components []json.RawMessage `json:"components"`
	}
	if err := json.NewDecoder(r).Decode(&bom); err != nil || bom.BOMFormat != "CycloneDX" {
		s.t.Errorf("the bill of %s: %q, %v", name, bom.BOMFormat, err)
	}
	return len(bom.Components)
}
