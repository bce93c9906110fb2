// Package certs reads TLS certificates from files and takes a renewed one without a restart.
package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// Files name PEM files. CA is optional: who signs for the certificate, when the machine does not know them.
type Files struct{ Cert, Key, CA string }

// Given reports whether any is named.
func (f Files) Given() bool { return f.Cert != "" || f.Key != "" || f.CA != "" }

// Pair is a certificate with its key, read again when its files change.
type Pair struct {
	files Files
	roots *x509.CertPool // nil: the machine's

	mu      sync.Mutex
	read    time.Time
	changed [2]time.Time
	current *tls.Certificate
}

// checkEvery is how often the files are looked at.
const checkEvery = time.Second

// Load reads the files.
func Load(f Files) (*Pair, error) {
	if f.Cert == "" || f.Key == "" {
		return nil, errors.New("TLS needs both a certificate and its key")
	}
	p := &Pair{files: f}
	if f.CA != "" {
		var err error
		if p.roots, err = Roots(f.CA); err != nil {
			return nil, err
		}
	}
	_, err := p.get()
	return p, err
}

// Roots reads the certificates of authorities.
func Roots(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the authority's certificate: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate in PEM", file)
	}
	return pool, nil
}

// Server is the configuration of a listener: TLS 1.2 or later, with the newest certificate for each connection.
func (p *Pair) Server() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return p.get() },
	}
}

// Self is the configuration of a client in the same process, which reaches the listener by an address that the
// certificate need not name: it takes the very certificate that is served, and no other.
func (p *Pair) Self() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection is stricter: one certificate, byte by byte
		VerifyConnection: func(s tls.ConnectionState) error {
			own, err := p.get()
			if err != nil {
				return err
			}
			if len(s.PeerCertificates) == 0 || !bytes.Equal(s.PeerCertificates[0].Raw, own.Certificate[0]) {
				return errors.New("the server has another certificate than this process")
			}
			return nil
		},
	}
}

// get is the certificate of now. One that can not be read, as while it is being replaced, leaves the one before in force.
func (p *Pair) get() (*tls.Certificate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current != nil && time.Since(p.read) < checkEvery {
		return p.current, nil
	}
	p.read = time.Now()
	changed := [2]time.Time{modified(p.files.Cert), modified(p.files.Key)}
	if p.current != nil && changed == p.changed {
		return p.current, nil
	}
	pair, err := tls.LoadX509KeyPair(p.files.Cert, p.files.Key)
	if err != nil {
		if p.current != nil {
			return p.current, nil
		}
		return nil, fmt.Errorf("read the certificate: %w", err)
	}
	p.current, p.changed = &pair, changed
	return p.current, nil
}

func modified(file string) time.Time {
	info, err := os.Stat(file)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}
