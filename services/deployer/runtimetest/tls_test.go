//go:build linux

package runtimetest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
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
)

func TestTLSOfAnAddress(t *testing.T) {
	serve := func(lasts time.Duration, least uint16) (string, *x509.CertPool) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(lasts), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
		der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		made, _ := x509.ParseCertificate(der)
		pool := x509.NewCertPool()
		pool.AddCert(made)
		server := httptest.NewUnstartedServer(http.NotFoundHandler())
		server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: least}
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
		{"no TLS", plain.Listener.Addr().String(), pool, "does not look like a TLS handshake"},
		{"nobody there", "127.0.0.1:1", pool, "connection refused"},
	} {
		t.Run(test.name, func(t *testing.T) {
			all := Run(t.Context(), Instance{}, Suite{TLS: &TLS{Addresses: []string{test.address}, Roots: test.pool}})
			if len(all) != 1 || all[0].Passed != (test.reason == "") || !strings.Contains(all[0].Reason, test.reason) {
				t.Errorf("%+v", all)
			}
		})
	}
}
