package certs_test

import (
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/lemnis/lemnis/internal/certs"
	"github.com/lemnis/lemnis/internal/certs/certstest"
)

func TestServeAndRenew(t *testing.T) {
	dir := t.TempDir()
	f := certstest.Write(t, dir)
	pair, err := certs.Load(f)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{
		Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), ReadHeaderTimeout: time.Second, ErrorLog: log.New(io.Discard, "", 0),
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(tls.NewListener(listener, pair.Server())) }()
	defer func() { _ = s.Close(); <-ended }()
	serial := func(c *tls.Config) (string, error) {
		transport := &http.Transport{TLSClientConfig: c, DisableKeepAlives: true}
		resp, err := (&http.Client{Transport: transport}).Get("https://" + listener.Addr().String())
		if err != nil {
			return "", err
		}
		_ = resp.Body.Close()
		return resp.TLS.PeerCertificates[0].SerialNumber.String(), nil
	}
	roots, err := certs.Roots(f.CA)
	if err != nil {
		t.Fatal(err)
	}
	first, err := serial(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := serial(pair.Self()); err != nil {
		t.Errorf("from the same process: %v", err)
	}
	if _, err := serial(&tls.Config{MinVersion: tls.VersionTLS12}); err == nil {
		t.Error("a client that does not know the authority trusts it")
	}
	other, err := certs.Load(certstest.Write(t, t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := serial(other.Self()); err == nil {
		t.Error("another certificate is taken for its own")
	}

	again := certstest.Write(t, dir)
	later := time.Now().Add(time.Minute)
	for _, file := range []string{again.Cert, again.Key} {
		if err := os.Chtimes(file, later, later); err != nil {
			t.Fatal(err)
		}
	}
	if roots, err = certs.Roots(again.CA); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; <-time.After(50 * time.Millisecond) {
		second, err := serial(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12})
		if err == nil && second != first {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the renewed certificate is not served: %v", err)
		}
	}
}

func TestRefusals(t *testing.T) {
	f := certstest.Write(t, t.TempDir())
	for name, bad := range map[string]certs.Files{
		"no key": {Cert: f.Cert}, "no certificate": {Key: f.Key}, "not there": {Cert: f.Cert + "x", Key: f.Key},
		"the key of another": {Cert: f.Cert, Key: certstest.Write(t, t.TempDir()).Key}, "no authority": {Cert: f.Cert, Key: f.Key, CA: f.Key},
		"no file of an authority": {Cert: f.Cert, Key: f.Key, CA: filepath.Join(t.TempDir(), "x")},
	} {
		if _, err := certs.Load(bad); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
