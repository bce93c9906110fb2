package service

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// healthcheck is the argument by which a program asks a running one of its kind whether it is ready: in an image made of
// one program alone there is nothing else that could.
const healthcheck = "healthcheck"

// WantsHealthcheck reports whether a program was called for its self-check.
func WantsHealthcheck(args []string) bool { return len(args) == 2 && args[1] == healthcheck }

// Healthcheck asks the process that listens on an address, as LEMNIS_HTTP names it, whether it is ready; with TLS when a
// configuration is given. The error says what it answers.
func Healthcheck(ctx context.Context, address string, secure *tls.Config) error {
	if address == "" {
		return errors.New("LEMNIS_HTTP names no address to ask")
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("LEMNIS_HTTP: %w", err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	scheme := "http"
	if secure != nil {
		scheme = "https"
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+net.JoinHostPort(host, port)+"/readyz", http.NoBody) //nolint:gosec // of this process's own address
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: secure, DisableKeepAlives: true}}
	response, err := client.Do(request) //nolint:gosec // of this process's own address
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(response.Body, 4<<10))
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, strings.TrimSpace(string(answer)))
	}
	return err
}

// exitHealthcheck is the self-check as a program's whole run.
func exitHealthcheck(name string) int {
	if err := Healthcheck(context.Background(), os.Getenv("LEMNIS_HTTP"), nil); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		return 1
	}
	return 0
}
