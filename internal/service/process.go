package service

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sync/errgroup"

	"github.com/lemnis/lemnis/internal/trace"
)

// Environment is the configuration of a service process, read from its environment.
type Environment struct {
	NATS     string // LEMNIS_NATS_URL, default nats://127.0.0.1:4222
	Key      string // LEMNIS_NATS_KEY_FILE: file with the services' nkey seed
	Redis    string // LEMNIS_REDIS_URL: one, or several that are used one at a time, by commas; empty means a store in the process, folded anew at each start. LEMNIS_REDIS_PASSWORD_FILE: file with its password
	Registry string // LEMNIS_REGISTRY_URL, default http://127.0.0.1:8080
	Data     string // LEMNIS_DATA: work folder, default the user's cache folder
	HTTP     string // LEMNIS_HTTP: address of health and metrics; empty means none
	Replicas int    // LEMNIS_REPLICAS of each stream, default 1
	Log      string // LEMNIS_LOG: debug, info (default), warn, error
}

// ReadEnvironment reads the variables; get is os.Getenv but for tests.
func ReadEnvironment(get func(string) string) (Environment, error) {
	or := func(name, def string) string {
		if v := get(name); v != "" {
			return v
		}
		return def
	}
	env := Environment{
		NATS: or("LEMNIS_NATS_URL", "nats://127.0.0.1:4222"), Key: get("LEMNIS_NATS_KEY_FILE"), Redis: get("LEMNIS_REDIS_URL"),
		Registry: or("LEMNIS_REGISTRY_URL", "http://127.0.0.1:8080"), Data: get("LEMNIS_DATA"), HTTP: get("LEMNIS_HTTP"), Log: or("LEMNIS_LOG", "info"),
	}
	var err error
	if env.Replicas, err = strconv.Atoi(or("LEMNIS_REPLICAS", "1")); err != nil || env.Replicas < 1 || env.Replicas > 5 {
		return Environment{}, fmt.Errorf("LEMNIS_REPLICAS %q is no number from 1 to 5", get("LEMNIS_REPLICAS"))
	}
	if file := get("LEMNIS_REDIS_PASSWORD_FILE"); file != "" {
		if env.Redis, err = withPassword(env.Redis, file); err != nil {
			return Environment{}, fmt.Errorf("LEMNIS_REDIS_PASSWORD_FILE: %w", err)
		}
	}
	if env.Data == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return Environment{}, fmt.Errorf("LEMNIS_DATA is not set, and there is no cache folder: %w", err)
		}
		env.Data = cache + "/lemnis"
	}
	return env, nil
}

// withPassword puts the password of a file into URLs, so that it stands in no environment.
func withPassword(addresses, file string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	all := strings.Split(addresses, ",")
	for i, address := range all {
		u, err := url.Parse(address)
		if err != nil || u.Host == "" {
			return "", errors.New("LEMNIS_REDIS_URL is no URL with a host that a password could be for")
		}
		u.User = url.UserPassword(u.User.Username(), strings.TrimSpace(string(text)))
		all[i] = u.String()
	}
	return strings.Join(all, ","), nil
}

// NewLog makes the log of a process: JSON lines on standard error.
func NewLog(level string) (*zap.Logger, error) {
	l, err := zapcore.ParseLevel(level)
	if err != nil {
		return nil, fmt.Errorf("log level %q is none of debug, info, warn, error", level)
	}
	c := zap.NewProductionConfig()
	c.Level = zap.NewAtomicLevelAt(l)
	c.Sampling = nil // a decision that is not logged can not be explained
	c.DisableStacktrace = true
	c.EncoderConfig.EncodeTime = zapcore.ISO8601TimeEncoder
	return c.Build()
}

// Main is the main function of a service's program: it reads the environment, runs what define
// gives until SIGTERM or SIGINT, drains, and returns the exit code.
//
// With the one argument healthcheck it asks the running one whether it is ready, and exits with 0 or 1. It takes no others.
func Main(name string, define func(Environment, Host) ([]Definition, error)) int {
	if code, done := Usage(name, os.Args, os.Stdout, os.Stderr); done {
		return code
	}
	if WantsHealthcheck(os.Args) {
		return exitHealthcheck(name)
	}
	env, err := ReadEnvironment(os.Getenv)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		return 2
	}
	log, err := NewLog(env.Log)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: LEMNIS_LOG: %v\n", name, err)
		return 2
	}
	log = log.Named(name)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, name, env, log, define); err != nil && !errors.Is(err, context.Canceled) {
		log.Error("stopped", zap.Error(err))
		return 1
	}
	return 0
}

func run(ctx context.Context, name string, env Environment, log *zap.Logger, define func(Environment, Host) ([]Definition, error)) error {
	front := &Front{}
	group, ctx := errgroup.WithContext(ctx)
	if env.HTTP != "" {
		listener, err := net.Listen("tcp", loopbackUnlessNamed(env.HTTP))
		if err != nil {
			return fmt.Errorf("listen for health: %w", err)
		}
		group.Go(func() error { return serveHealth(ctx, listener, front) })
	}
	group.Go(func() error { return serve(ctx, name, env, log, define, front) })
	return group.Wait()
}

// serve runs the services of a process once what they need is there.
func serve(ctx context.Context, name string, env Environment, log *zap.Logger, define func(Environment, Host) ([]Definition, error), front *Front) error {
	tracer, err := trace.Open(ctx, name, Version(), log)
	if err != nil {
		return err
	}
	defer tracer.Close(ctx)
	host, closeHost, err := env.Connect(ctx, log, front)
	if err != nil {
		return err
	}
	defer closeHost()
	host.Trace = tracer
	defs, err := define(env, host)
	if err != nil {
		return err
	}
	services := make([]*Service, len(defs))
	for i, d := range defs {
		services[i] = New(host, d)
	}
	front.Open(health(host, services, NewRegistry(host, Collectors(services)...)))
	group, ctx := errgroup.WithContext(ctx)
	for _, s := range services {
		group.Go(func() error { return s.Run(ctx) })
	}
	return group.Wait()
}

// ServeHealth answers /healthz, /readyz and /metrics for the services of a process until ctx
// ends. It binds to loopback only, unless the address names another interface.
func ServeHealth(ctx context.Context, addr string, host Host, services []*Service) error {
	listener, err := net.Listen("tcp", loopbackUnlessNamed(addr))
	if err != nil {
		return fmt.Errorf("listen for health: %w", err)
	}
	return serveHealth(ctx, listener, health(host, services, NewRegistry(host, Collectors(services)...)))
}

func serveHealth(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{Handler: handler, ReadTimeout: healthTimeout, WriteTimeout: healthTimeout, IdleTimeout: 2 * time.Minute}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve health: %w", err)
	}
	return nil
}

// healthTimeout bounds a request for health or metrics, its body and its answer.
const healthTimeout = 10 * time.Second

// health answers 503 under /readyz while a service has not caught up, or can not decide on something, or the process lacks the bus,
// the store or room on the stream.
func health(host Host, services []*Service, metrics prometheus.Gatherer) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { SayVersion(w); _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		SayVersion(w)
		if missing := host.Missing(r.Context()); len(missing) > 0 {
			http.Error(w, strings.Join(missing, "\n"), http.StatusServiceUnavailable)
			return
		}
		for _, s := range services {
			select {
			case <-s.Ready():
			default:
				http.Error(w, string(s.Phase())+" is not ready", http.StatusServiceUnavailable)
				return
			}
			if troubles := s.Troubles(); len(troubles) > 0 {
				http.Error(w, string(s.Phase())+": "+strings.Join(troubles, "\n"+string(s.Phase())+": "), http.StatusServiceUnavailable)
				return
			}
		}
		_, _ = w.Write([]byte("ready\n"))
	})
	mux.Handle("GET /metrics", ShowMetrics(metrics))
	return mux
}

// loopbackUnlessNamed puts the host in that ":9090" leaves out.
func loopbackUnlessNamed(addr string) string {
	if host, port, err := net.SplitHostPort(addr); err == nil && host == "" {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return addr
}

// KeyFiles are the files that an environment names in LEMNIS_…_FILE: credentials, which nobody else's program may read.
func KeyFiles(environ []string) (files []string) {
	for _, variable := range environ {
		name, file, _ := strings.Cut(variable, "=")
		if strings.HasPrefix(name, "LEMNIS_") && strings.HasSuffix(name, "_FILE") && file != "" {
			files = append(files, file)
		}
	}
	return files
}
