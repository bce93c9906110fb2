package conformance

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/google/go-containerregistry/pkg/crane"
	provenance "github.com/in-toto/attestation/go/predicates/provenance/v1"
	intoto "github.com/in-toto/attestation/go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/content/memory"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/lemnis/lemnis/internal/attest"
	"github.com/lemnis/lemnis/internal/sbom"
	"github.com/lemnis/lemnis/services/builder"
)

// vulnerable is a database in which the library has a vulnerability, and Go none.
func vulnerable(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	text := `{"id":"GO-2026-1","modified":"2026-01-02T03:04:05Z","severity":[{"type":"CVSS_V3","score":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H"}],
		"affected":[{"package":{"ecosystem":"Go","name":"` + library + `"},"ranges":[{"type":"SEMVER","events":[{"introduced":"0"},{"fixed":"99.0.0"}]}]}]}`
	if err := os.WriteFile(filepath.Join(dir, "GO-2026-1.json"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// What the builder packages is the same for the same commit, in another folder, at another time; and crane and oras fetch the
// artifact, and by its referrers its bill of materials and its provenance, whose signature openssl verifies.
func TestEvidence(t *testing.T) {
	host := serve(t, t.TempDir())
	repository, commit, version := source(t)
	secrets := t.TempDir()
	finished, ref := pack(t, builder.Options{Registry: "http://" + host, SecretsDir: secrets, OSV: vulnerable(t)}, project(repository))
	made := finished.Lemnis
	t.Logf("packaged in %.2f s, of which its evidence took %.2f s", made.Seconds, made.Supply.Seconds)

	again, _ := pack(t, builder.Options{Registry: "http://" + host, SecretsDir: secrets}, project(repository))
	if again.ArtifactID != finished.ArtifactID || again.Lemnis.Digest != made.Digest || again.Lemnis.Supply.SBOM != made.Supply.SBOM {
		t.Errorf("built again: %s, %s, %s\nbefore: %s, %s, %s", again.ArtifactID, again.Lemnis.Digest, again.Lemnis.Supply.SBOM,
			finished.ArtifactID, made.Digest, made.Supply.SBOM)
	}
	if s := again.Lemnis.Supply; s.Vulnerabilities != nil || !slices.ContainsFunc(s.Missing, func(m string) bool { return strings.HasPrefix(m, "vulnerabilities: ") }) {
		t.Errorf("without a database: %+v", s)
	}
	if v := made.Supply.Vulnerabilities; v == nil || v.High != 1 || v.Critical+v.Medium+v.Low+v.Unrated != 0 || v.Found[0].ID != "GO-2026-1" || v.Found[0].Module != library+"@"+version ||
		v.Found[0].Fixed != "99.0.0" || v.Database != "2026-01-02T03:04:05Z" {
		t.Errorf("vulnerabilities: %+v", v)
	}
	if s := made.Supply; !slices.Equal(s.Licenses, []string{"BSD-3-Clause"}) || len(s.Unlicensed) > 0 || len(s.Missing) > 0 {
		t.Errorf("licences %v, not known %v, missing %v", s.Licenses, s.Unlicensed, s.Missing)
	}

	t.Run("crane", func(t *testing.T) {
		img, err := crane.Pull(ref.String())
		if err != nil {
			t.Fatal(err)
		}
		layers, err := img.Layers()
		if err != nil || len(layers) != 1 {
			t.Fatalf("%v, %v", layers, err)
		}
		if digest, err := layers[0].Digest(); err != nil || digest.String() != made.Digest {
			t.Errorf("%s, %v", digest, err)
		}
		for _, at := range []string{made.Supply.SBOM, made.Supply.Provenance} {
			text, err := crane.Manifest(at)
			var m ocispec.Manifest
			if err != nil || json.Unmarshal(text, &m) != nil || m.Subject.Digest.String() != ref.Digest || len(m.Layers) != 1 {
				t.Fatalf("%s: %s, %v", at, text, err)
			}
			repository, _, _ := strings.Cut(at, "@")
			layer, err := crane.PullLayer(repository + "@" + m.Layers[0].Digest.String())
			if err != nil {
				t.Fatal(err)
			}
			r, err := layer.Compressed()
			if err != nil {
				t.Fatal(err)
			}
			if n, err := io.Copy(io.Discard, r); err != nil || n != m.Layers[0].Size {
				t.Errorf("%s: %d bytes, %v", at, n, err)
			}
			_ = r.Close()
		}
	})

	bill, envelope := byOras(t, ref.Repository, ref.Digest)
	t.Run("bill", func(t *testing.T) { judgeBill(t, bill, commit, version, made.Digest) })
	t.Run("provenance", func(t *testing.T) { judgeProvenance(t, envelope, bill, ref.Digest, made.Digest, commit) })
	t.Run("openssl", func(t *testing.T) { verifyByOpenSSL(t, envelope, filepath.Join(secrets, "shop", "signing.pub")) })
}

// byOras copies the artifact with all that refers to it, and returns the bill and the envelope.
func byOras(t *testing.T, repository, digest string) (bill, envelope []byte) {
	t.Helper()
	repo, err := remote.NewRepository(repository)
	if err != nil {
		t.Fatal(err)
	}
	repo.PlainHTTP = true
	store := memory.New()
	root, err := oras.Copy(t.Context(), repo, digest, store, digest, oras.DefaultCopyOptions)
	if err != nil || root.Digest.String() != digest {
		t.Fatalf("%+v, %v", root, err)
	}
	first := func(mediaType string) []byte {
		var found []byte
		err := repo.Referrers(t.Context(), root, mediaType, func(all []ocispec.Descriptor) error {
			for _, d := range all {
				if d.ArtifactType != mediaType {
					t.Errorf("asked for %s, got %s", mediaType, d.ArtifactType)
				}
				text, err := content.FetchAll(t.Context(), repo, d)
				if err != nil {
					return err
				}
				var m ocispec.Manifest
				if err := json.Unmarshal(text, &m); err != nil {
					return err
				}
				found, err = content.FetchAll(t.Context(), repo.Blobs(), m.Layers[0])
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil || found == nil {
			t.Fatalf("no %s: %v", mediaType, err)
		}
		return found
	}
	return first(sbom.MediaType), first(attest.ProvenanceMediaType)
}

func judgeBill(t *testing.T, text []byte, commit, version, digest string) {
	t.Helper()
	var bom cdx.BOM
	if err := cdx.NewBOMDecoder(bytes.NewReader(text), cdx.BOMFileFormatJSON).Decode(&bom); err != nil {
		t.Fatal(err)
	}
	program := bom.Metadata.Component
	if program.Name != "api" || program.Version != commit || "sha256:"+(*program.Hashes)[0].Value != digest {
		t.Errorf("%+v", program)
	}
	seen := map[string]bool{}
	for _, c := range *bom.Components {
		licensed := c.Licenses != nil && (*c.Licenses)[0].License.ID == "BSD-3-Clause"
		seen[strings.SplitAfter(c.PackageURL, "@")[0]] = licensed
	}
	if !seen["pkg:golang/"+library+"@"] || !seen["pkg:golang/std@"] || len(seen) != 3 {
		t.Errorf("%v", seen)
	}
	if !strings.Contains(string(text), "pkg:golang/"+library+"@"+version) {
		t.Errorf("%s is not in it", version)
	}
}

// judgeProvenance reads the statement by in-toto's own types, which say whether it is whole.
func judgeProvenance(t *testing.T, envelope, bill []byte, manifest, executable, commit string) {
	t.Helper()
	var e struct {
		Payload     []byte
		PayloadType string
	}
	if err := json.Unmarshal(envelope, &e); err != nil {
		t.Fatal(err)
	}
	var s intoto.Statement
	if err := protojson.Unmarshal(e.Payload, &s); err != nil {
		t.Fatal(err)
	}
	if err := s.Validate(); err != nil {
		t.Errorf("the statement: %v", err)
	}
	if s.PredicateType != "https://slsa.dev/provenance/v1" || e.PayloadType != "application/vnd.in-toto+json" {
		t.Errorf("%s of %s", s.PredicateType, e.PayloadType)
	}
	for i, want := range []string{manifest, executable} {
		if got := "sha256:" + s.Subject[i].Digest["sha256"]; got != want {
			t.Errorf("subject %d is %s, not %s", i, got, want)
		}
	}
	text, err := protojson.Marshal(s.Predicate)
	if err != nil {
		t.Fatal(err)
	}
	var p provenance.Provenance
	if err := protojson.Unmarshal(text, &p); err != nil {
		t.Fatalf("the predicate: %v", err)
	}
	if err := p.Validate(); err != nil {
		t.Errorf("the predicate: %v", err)
	}
	materials := p.BuildDefinition.ResolvedDependencies
	if len(materials) != 3 || materials[0].Digest["gitCommit"] != commit || len(materials[2].Digest["goModuleH1"]) != 64 {
		t.Errorf("materials: %v", materials)
	}
	sum := fmt.Sprintf("%x", sha256.Sum256(bill))
	if by := p.RunDetails.Byproducts; len(by) != 1 || by[0].Digest["sha256"] != sum {
		t.Errorf("the bill of materials %s is not among %v", sum, by)
	}
	if p.RunDetails.Builder.Id == "" || p.RunDetails.Metadata.InvocationId != "queued-1" || p.RunDetails.Metadata.FinishedOn.AsTime().Before(p.RunDetails.Metadata.StartedOn.AsTime()) {
		t.Errorf("%v", p.RunDetails)
	}
}

// verifyByOpenSSL verifies an envelope's signature over what DSSE says is signed.
func verifyByOpenSSL(t *testing.T, envelope []byte, public string) {
	t.Helper()
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skipf("NOT PROVED: that openssl verifies the signature: %v", err)
	}
	var e struct {
		Payload, PayloadType string
		Signatures           []struct{ Sig string }
	}
	if err := json.Unmarshal(envelope, &e); err != nil {
		t.Fatal(err)
	}
	decoded := func(s string) []byte {
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	payload, dir := decoded(e.Payload), t.TempDir()
	verify := func(payload []byte) ([]byte, error) {
		pae, signature := filepath.Join(dir, "pae"), filepath.Join(dir, "signature")
		if err := os.WriteFile(pae, fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(e.PayloadType), e.PayloadType, len(payload), payload), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(signature, decoded(e.Signatures[0].Sig), 0o600); err != nil {
			t.Fatal(err)
		}
		return exec.Command(openssl, "pkeyutl", "-verify", "-pubin", "-inkey", public, "-rawin", "-in", pae, "-sigfile", signature).CombinedOutput()
	}
	if out, err := verify(payload); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := verify(append(slices.Clone(payload), ' ')); err == nil {
		t.Errorf("another statement was verified: %s", out)
	}
}
