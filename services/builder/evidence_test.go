package builder_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lemnis/lemnis/internal/attest"
	"github.com/lemnis/lemnis/internal/oci"
	"github.com/lemnis/lemnis/pkg/events"

	"github.com/lemnis/lemnis/services/builder"
)

func packaged(t *testing.T, o builder.Options, p events.Project) events.BuildDetail {
	t.Helper()
	got, err := newShift(t, o, p).work(t, "package", "api@initial", 1, events.BuildQueued{Lemnis: events.BuildDetail{Service: "api", Merge: events.MergeDetail{Repository: "api", Base: "main"}}})
	if err != nil {
		t.Fatal(err)
	}
	end, ok := got.(events.BuildFinished)
	if !ok || end.Lemnis.Outcome != events.Success || end.Lemnis.Supply == nil {
		t.Fatalf("%+v", got)
	}
	return end.Lemnis
}

// What cannot be made is said to be missing; the artifact is there all the same.
func TestEvidenceThatIsMissing(t *testing.T) {
	t.Parallel()
	p := project(goOrigin(t))
	p.Signing = &events.Signing{Key: "secret:release.key", Trusted: []string{"secret:release.pub"}}
	none := filepath.Join(t.TempDir(), "none")
	for name, test := range map[string]struct {
		options builder.Options
		project events.Project
		missing []string
	}{
		"nothing configured": {builder.Options{}, project(goOrigin(t)), []string{"vulnerabilities: there is no database", "signature: there is no folder of secrets"}},
		"nothing there":      {builder.Options{OSV: none, SecretsDir: t.TempDir()}, p, []string{"vulnerabilities: vulnerability database: ", "signature: open the folder of secrets of shop"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.options.Registry = ociRegistry(t)
			s := packaged(t, test.options, test.project).Supply
			if s.SBOM == "" || s.Signature != "" || s.Provenance != "" || s.Vulnerabilities != nil || len(s.Missing) != len(test.missing) {
				t.Fatalf("%+v", s)
			}
			for i, want := range test.missing {
				if !strings.HasPrefix(s.Missing[i], want) {
					t.Errorf("missing: %q, not %q", s.Missing[i], want)
				}
			}
		})
	}
}

// The project's own key, ECDSA, by its name.
func TestProjectSignsWithItsOwnKey(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	half, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	secrets := t.TempDir()
	if err := os.Mkdir(filepath.Join(secrets, "shop"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{
		"release.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), "release.pub": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: half}),
	} {
		if err := os.WriteFile(filepath.Join(secrets, "shop", name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o := goOrigin(t)
	p := project(o)
	p.Signing = &events.Signing{Key: "secret:release.key", Trusted: []string{"secret:release.pub"}}
	made := packaged(t, builder.Options{Registry: ociRegistry(t), SecretsDir: secrets}, p)
	repository, digest, _ := strings.Cut(made.Artifact, "@")
	attached, err := oci.Attached(t.Context(), oci.Reference{Repository: repository, Digest: digest}, attest.ProvenanceMediaType, 10)
	if err != nil || len(attached) != 1 {
		t.Fatalf("%d, %v", len(attached), err)
	}
	trusted, err := attest.Trusted(secrets, "shop", []string{"release.pub"})
	if err != nil {
		t.Fatal(err)
	}
	statement, by, err := attest.Open(t.Context(), attached[0].Content, trusted)
	if err != nil || by.Key != made.Supply.Key || !statement.Covers(digest) || !statement.Covers(made.Digest) || statement.Commit() != o.head(t, "main") {
		t.Errorf("%+v, %+v, %v", statement, by, err)
	}
	if _, err := os.Stat(filepath.Join(secrets, "shop", "signing.key")); err == nil {
		t.Error("another key was made")
	}
}

// A project that names no key is signed for by the installation's, and gets none of its own.
func TestInstallationSigns(t *testing.T) {
	t.Parallel()
	folder, secrets := t.TempDir(), t.TempDir()
	if err := attest.MakeKey(folder); err != nil {
		t.Fatal(err)
	}
	trusted, err := attest.TrustedFile(filepath.Join(folder, "signing.pub"))
	if err != nil {
		t.Fatal(err)
	}
	s := packaged(t, builder.Options{Registry: ociRegistry(t), SecretsDir: secrets, SigningKey: filepath.Join(folder, "signing.key")}, project(goOrigin(t))).Supply
	if id, _ := trusted[0].KeyID(); s.Key != id || s.Signature == "" {
		t.Errorf("signed by %q: %v", s.Key, s.Missing)
	}
	if made, _ := os.ReadDir(secrets); len(made) != 0 {
		t.Errorf("a key was made: %v", made)
	}
}
