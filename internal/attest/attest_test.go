package attest_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lemnis/lemnis/internal/attest"
)

func statement() attest.Statement {
	return attest.Provenance(attest.Build{
		Manifest:   attest.Resource{Name: "api", Digest: map[string]string{"sha256": strings.Repeat("ab", 32)}},
		Executable: attest.Resource{Name: "api", Digest: map[string]string{"sha256": strings.Repeat("cd", 32)}},
		Repository: "https://git.example.org/shop/api.git", Commit: "c0ffee", Parameters: map[string]string{"main": "./cmd/api", "change": ""},
		Byproducts: []attest.Resource{{MediaType: "application/vnd.cyclonedx+json", Digest: map[string]string{"sha256": strings.Repeat("ef", 32)}}},
		Builder:    "https://example.org/builder", Started: time.Unix(1, 0), Finished: time.Unix(2, 0),
	})
}

func private(t *testing.T, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func public(t *testing.T, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func TestSealAndOpen(t *testing.T) {
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(curve)
	if err != nil {
		t.Fatal(err)
	}
	half, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var trusted []attest.Key
	for _, k := range []any{half, curve.Public()} {
		key, err := attest.ParsePublic(public(t, k))
		if err != nil {
			t.Fatal(err)
		}
		trusted = append(trusted, key)
	}
	for name, text := range map[string][]byte{"ed25519": private(t, edwards), "p256": private(t, curve), "sec1": pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1})} {
		signer, err := attest.ParsePrivate(text)
		if err != nil {
			t.Fatal(name, err)
		}
		envelope, err := signer.Seal(t.Context(), statement())
		if err != nil {
			t.Fatal(name, err)
		}
		got, by, err := attest.Open(t.Context(), envelope.JSON, trusted)
		if err != nil || by.Key != envelope.Key || by.Text != envelope.Signature || got.Commit() != "c0ffee" || !got.Covers("sha256:"+strings.Repeat("cd", 32)) || got.Covers("sha256:"+strings.Repeat("ef", 32)) ||
			got.Byproduct("application/vnd.cyclonedx+json") != "sha256:"+strings.Repeat("ef", 32) {
			t.Errorf("%s: %+v, %+v, %v", name, got, by, err)
		}
		other := trusted[1:]
		if name != "ed25519" {
			other = trusted[:1]
		}
		for what, bad := range map[string]struct {
			text []byte
			keys []attest.Key
		}{
			"no key": {envelope.JSON, nil}, "another key": {envelope.JSON, other}, "no envelope": {[]byte("{"), trusted}, "nothing": {[]byte("{}"), trusted},
			"another payload": {changed(t, envelope.JSON, "payload", "eyJhIjoxfQ=="), trusted}, "another type": {changed(t, envelope.JSON, "payloadType", "text/plain"), trusted},
			"many signatures": {changed(t, envelope.JSON, "signatures", slices.Repeat([]any{map[string]any{"sig": envelope.Signature}}, 21)), trusted},
			"no signature":    {changed(t, envelope.JSON, "signatures", []any{}), trusted},
		} {
			if s, _, err := attest.Open(t.Context(), bad.text, bad.keys); !errors.Is(err, attest.ErrSignature) || s.Type != "" {
				t.Errorf("%s, %s: %v", name, what, err)
			}
		}
	}
}

// Others may sign too: told is the signature that counts.
func TestOneOfSeveralSignatures(t *testing.T) {
	half, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := attest.ParsePublic(public(t, half))
	if err != nil {
		t.Fatal(err)
	}
	signer, err := attest.ParsePrivate(private(t, edwards))
	if err != nil {
		t.Fatal(err)
	}
	envelope, err := signer.Seal(t.Context(), statement())
	if err != nil {
		t.Fatal(err)
	}
	both := []any{map[string]any{"sig": "c3RyYW5nZXI="}, map[string]any{"sig": envelope.Signature}}
	_, by, err := attest.Open(t.Context(), changed(t, envelope.JSON, "signatures", both), []attest.Key{key})
	if err != nil || by != (attest.Signature{Text: envelope.Signature, Key: envelope.Key}) {
		t.Errorf("%+v, %v", by, err)
	}
}

func changed(t *testing.T, envelope []byte, field string, value any) []byte {
	t.Helper()
	var all map[string]any
	if err := json.Unmarshal(envelope, &all); err != nil {
		t.Fatal(err)
	}
	all[field] = value
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestOtherKeys(t *testing.T) {
	big, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	wide, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{"rsa": private(t, big), "p384": private(t, wide), "text": []byte("key"), "pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")})} {
		if _, err := attest.ParsePrivate(text); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	for name, text := range map[string][]byte{"rsa": public(t, big.Public()), "p384": public(t, wide.Public()), "text": []byte("key")} {
		if _, err := attest.ParsePublic(text); err == nil {
			t.Errorf("%s was taken as public", name)
		}
	}
}

// A key is made once, whoever asks for it at the same time.
func TestProjectKey(t *testing.T) {
	secrets := t.TempDir()
	if none, err := attest.Trusted(secrets, "shop", nil); err != nil || len(none) != 0 {
		t.Fatalf("%v, %v", none, err)
	}
	var ids sync.Map
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			signer, err := attest.ProjectKey(secrets, "shop", "")
			if err != nil {
				t.Error(err)
			}
			id, _ := signer.KeyID()
			ids.Store(id, true)
		})
	}
	all.Wait()
	keys, err := attest.Trusted(secrets, "shop", nil)
	if err != nil || len(keys) != 1 {
		t.Fatalf("%v, %v", keys, err)
	}
	n := 0
	ids.Range(func(id, _ any) bool {
		n++
		trusted, _ := keys[0].KeyID()
		return id == trusted
	})
	if n != 1 {
		t.Errorf("%d keys", n)
	}
	file := filepath.Join(secrets, "shop", "signing.key")
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	// One of one's own, by its name.
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(secrets, "shop", "own"), bytes.TrimSpace(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := attest.ProjectKey(secrets, "shop", "own"); err != nil {
		t.Error(err)
	}
	for _, bad := range [][3]string{{secrets, "shop", "none"}, {"", "shop", ""}, {secrets, "shop", "../shop/own"}, {secrets, "shop", "signing.pub"}} {
		if _, err := attest.ProjectKey(bad[0], bad[1], bad[2]); err == nil || strings.Contains(err.Error(), "PRIVATE") {
			t.Errorf("%v: %v", bad, err)
		}
	}
	if _, err := attest.Trusted(secrets, "shop", []string{"none"}); err == nil {
		t.Error("a trusted key that is not there")
	}
}

// An installation's key, and the file of those that count, also those of before.
func TestInstallationKey(t *testing.T) {
	before, now := t.TempDir(), t.TempDir()
	trusted := filepath.Join(now, "trusted.pub")
	var texts []byte
	for _, folder := range []string{before, now} {
		if err := attest.MakeKey(folder); err != nil {
			t.Fatal(err)
		}
		if err := attest.MakeKey(folder); !errors.Is(err, fs.ErrExist) {
			t.Errorf("made twice: %v", err)
		}
		text, err := os.ReadFile(filepath.Join(folder, "signing.pub"))
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, text...)
	}
	if err := os.WriteFile(trusted, append(texts, '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
	keys, err := attest.TrustedFile(trusted)
	if err != nil || len(keys) != 2 {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	for _, folder := range []string{before, now} {
		signer, err := attest.KeyFile(filepath.Join(folder, "signing.key"))
		if err != nil {
			t.Fatal(err)
		}
		envelope, err := signer.Seal(t.Context(), statement())
		if err != nil {
			t.Fatal(err)
		}
		if _, by, err := attest.Open(t.Context(), envelope.JSON, keys); err != nil || by.Key != envelope.Key {
			t.Errorf("%+v, %v", by, err)
		}
	}
	for name, text := range map[string]string{"": "", "no PEM": "key", "behind a key": string(texts) + "key", "a private one": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"} {
		if err := os.WriteFile(trusted, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := attest.TrustedFile(trusted); err == nil || !strings.Contains(err.Error(), trusted) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := attest.KeyFile(trusted); err == nil || !strings.Contains(err.Error(), trusted) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := attest.KeyFile(filepath.Join(now, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func FuzzOpen(f *testing.F) {
	f.Add([]byte(`{"payloadType":"application/vnd.in-toto+json","payload":"e30=","signatures":[{"sig":"AAAA"}]}`))
	half, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	der, _ := x509.MarshalPKIXPublicKey(half)
	key, err := attest.ParsePublic(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if _, _, err := attest.Open(t.Context(), text, []attest.Key{key}); err == nil {
			t.Fatal("nobody signed it")
		}
	})
}
