//go:build linux

package runtimetest

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/lemnis/lemnis/internal/outward"
)

func TestTLSOfAnAddress(t *testing.T) {
	serve := func(lasts time.Duration, least uint16, suites ...uint16) (string, *x509.CertPool) {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(lasts), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageCertSign}
		der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		made, _ := x509.ParseCertificate(der)
		pool := x509.NewCertPool()
		pool.AddCert(made)
		server := httptest.NewUnstartedServer(http.NotFoundHandler())
		server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: least, CipherSuites: suites}
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		server.StartTLS()
		t.Cleanup(server.Close)
		return server.Listener.Addr().String(), pool
	}
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	good, pool := serve(30*24*time.Hour, tls.VersionTLS12)
	short, shortPool := serve(3*24*time.Hour, tls.VersionTLS12)
	old, oldPool := serve(30*24*time.Hour, tls.VersionTLS10)
	ancient, ancientPool := serve(30*24*time.Hour, tls.VersionTLS10, tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256)
	leaving, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = leaving.Close() })
	go func() { // one connection is passed on to good, no other is heard
		asks, err := leaving.Accept()
		_ = leaving.Close()
		if err != nil {
			return
		}
		defer func() { _ = asks.Close() }()
		answers, err := net.Dial("tcp", good)
		if err != nil {
			return
		}
		go func() {
			_, _ = io.Copy(answers, asks)
			_ = answers.Close()
		}()
		_, _ = io.Copy(asks, answers)
	}()
	open, err := outward.Parse("127.0.0.0/8, ::1")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, address string
		pool          *x509.CertPool
		reason        string
	}{
		{"good", good, pool, ""},
		{"not trusted", good, nil, "unknown authority"},
		{"another name", strings.Replace(good, "127.0.0.1", "localhost", 1), pool, "certificate is not valid for any names"},
		{"ends soon", short, shortPool, "its certificate ends in 71h"},
		{"old protocols", old, oldPool, "it still speaks TLS 1.1"},
		{"old protocols with old ciphers alone", ancient, ancientPool, "it still speaks TLS 1.1"},
		{"gone before it was asked for old protocols", leaving.Addr().String(), pool, "whether it speaks TLS 1.1 or 1.0 is not known"},
		{"no TLS", plain.Listener.Addr().String(), pool, "does not look like a TLS handshake"},
		{"nobody there", "127.0.0.1:1", pool, "connection refused"},
	} {
		t.Run(test.name, func(t *testing.T) {
			all := Run(t.Context(), Instance{}, Suite{TLS: &TLS{Addresses: []string{test.address}, Roots: test.pool, Allow: open}})
			if len(all) != 1 || all[0].Passed != (test.reason == "") || !strings.Contains(all[0].Reason, test.reason) {
				t.Errorf("%+v", all)
			}
		})
	}
	if all := Run(t.Context(), Instance{}, Suite{TLS: &TLS{Addresses: []string{good}, Roots: pool}}); all[0].Passed || !strings.Contains(all[0].Reason, "LEMNIS_ALLOW_PRIVATE_SINKS opens a range") {
		t.Errorf("an address that nobody opened: %+v", all)
	}
}
