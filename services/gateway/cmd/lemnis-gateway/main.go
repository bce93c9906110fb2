// Command lemnis-gateway is the door of an installation: HTTP, the inbox for NATS publishers, the binary repository and
// the dashboard. It is configured by its environment: LEMNIS_HTTP (default 127.0.0.1:8080; loopback only
// without LEMNIS_AUTH), LEMNIS_NATS_URL, LEMNIS_NATS_KEY_FILE, LEMNIS_REDIS_URL, LEMNIS_DATA, LEMNIS_REPLICAS,
// LEMNIS_LOG, LEMNIS_ALLOWED_HOSTS (names, separated by commas, that requests may be addressed to),
// LEMNIS_ALLOW_PRIVATE_SINKS (ranges of addresses, separated by commas, that subscriptions may push to although they are
// not public), LEMNIS_SECRETS_DIR (signing secrets that subscriptions call secret:<name>), LEMNIS_QUOTAS (file of what projects may use,
// default quotas.yaml in LEMNIS_DATA) and what access.go names.
package main

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/lemnis/lemnis/internal/outward"
	"github.com/lemnis/lemnis/internal/quota"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/internal/trace"
	"github.com/lemnis/lemnis/services/gateway"
	"github.com/lemnis/lemnis/services/gateway/registry"
)

func main() {
	if code, done := service.Usage("lemnis-gateway", os.Args, os.Stdout, os.Stderr); done {
		os.Exit(code)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	do := run
	if service.WantsHealthcheck(os.Args) {
		do = checkHealth
	}
	if err := do(ctx, os.Getenv); err != nil {
		fmt.Fprintf(os.Stderr, "lemnis-gateway: %v\n", err)
		os.Exit(1) //nolint:gocritic // nothing is left to stop
	}
}

// defaultHTTP is where the gateway listens unless it is told otherwise.
const defaultHTTP = "127.0.0.1:8080"

// checkHealth asks the running gateway whether it is ready.
func checkHealth(ctx context.Context, getenv func(string) string) error {
	who, err := readEntrance(getenv)
	if err != nil {
		return err
	}
	return service.Healthcheck(ctx, cmp.Or(getenv("LEMNIS_HTTP"), defaultHTTP), who.client())
}

func run(stopped context.Context, getenv func(string) string) error {
	env, err := service.ReadEnvironment(getenv)
	if err != nil {
		return err
	}
	env.HTTP = cmp.Or(env.HTTP, defaultHTTP)
	var who entrance
	if who, err = readEntrance(getenv); err != nil {
		return err
	}
	if !who.authenticate {
		if err := gateway.CheckAddress(env.HTTP); err != nil {
			return fmt.Errorf("LEMNIS_HTTP: %w", err)
		}
	}
	private, err := outward.Parse(getenv(outward.Variable))
	if err != nil {
		return fmt.Errorf("%s: %w", outward.Variable, err)
	}
	log, err := service.NewLog(env.Log)
	if err != nil {
		return fmt.Errorf("LEMNIS_LOG: %w", err)
	}
	listener, err := net.Listen("tcp", env.HTTP)
	if err != nil {
		return err
	}
	defer func() { _ = listener.Close() }()
	front := &service.Front{}
	closeHost := func() {}
	group, ctx := errgroup.WithContext(stopped)
	group.Go(func() error { return gateway.Serve(ctx, who.listener(listener), front, log) })
	group.Go(func() error {
		reg, err := registry.New(filepath.Join(env.Data, "registry"), registry.Options{Log: log})
		if err != nil {
			return err
		}
		tracer, err := trace.Open(ctx, "lemnis-gateway", service.Version(), log)
		if err != nil {
			return err
		}
		closeHost = func() { tracer.Close(stopped) }
		quotas, err := quota.Open(cmp.Or(getenv("LEMNIS_QUOTAS"), filepath.Join(env.Data, quota.FileName)), log)
		if err != nil {
			return err
		}
		host, done, err := env.Connect(ctx, log, front)
		if err != nil {
			return err
		}
		closeHost = func() { done(); tracer.Close(stopped) } // when the last request was answered
		host.Trace = tracer
		options := gateway.Options{Host: host, Registry: reg, Quotas: quotas, PrivateSinks: private, SigningSecrets: getenv("LEMNIS_SECRETS_DIR"), AllowedHosts: strings.FieldsFunc(getenv("LEMNIS_ALLOWED_HOSTS"), func(r rune) bool { return r == ',' || r == ' ' })}
		if err := who.lend(ctx, host, env.Data, &options); err != nil {
			return err
		}
		gw, err := gateway.New(options)
		if err != nil {
			return err
		}
		front.Open(gw.Handler())
		return gw.Run(ctx)
	})
	err = group.Wait()
	closeHost()
	if stopped.Err() == nil {
		return err
	}
	return nil // what ends with the process has not failed
}
