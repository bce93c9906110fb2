package builder_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lemnis/lemnis/internal/attest"
	"github.com/lemnis/lemnis/internal/oci"
	"github.com/lemnis/lemnis/pkg/events"

	"github.com/lemnis/lemnis/services/builder"
	"github.com/lemnis/lemnis/services/builder/artifact"
)

// outsider pushes what an outside builder made, and says what it claims of it.
type outsider struct {
	registry string
	signer   *attest.Signer
	project  string                       // that it pushes to
	change   func(b *attest.Build)        // what is stated otherwise
	claim    func(*events.ArtifactDetail) // what is claimed otherwise
}

func (o outsider) offer(t *testing.T) events.ArtifactOffered {
	t.Helper()
	file := filepath.Join(t.TempDir(), "api")
	if err := os.WriteFile(file, []byte(t.Name()), 0o755); err != nil {
		t.Fatal(err)
	}
	ref, err := oci.Push(t.Context(), o.registry+"/"+o.project+"/api", file, oci.Metadata{})
	if err != nil {
		t.Fatal(err)
	}
	d := events.ArtifactDetail{ID: ref.PURL(), Service: "api", Repository: "api", Reference: ref.String(), Digest: ref.Layer, Commit: "c0ffee", Evidence: &events.Evidence{Tests: 7}}
	if o.signer != nil {
		b := attest.Build{Repository: "https://git.example.org/shop/api.git", Commit: d.Commit, Builder: "https://ci.example.org",
			Manifest:   attest.Resource{Digest: map[string]string{"sha256": strings.TrimPrefix(ref.Digest, "sha256:")}},
			Executable: attest.Resource{Digest: map[string]string{"sha256": strings.TrimPrefix(ref.Layer, "sha256:")}},
		}
		if o.change != nil {
			o.change(&b)
		}
		envelope, err := o.signer.Seal(t.Context(), attest.Provenance(b))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := oci.Attach(t.Context(), ref, oci.Attachment{MediaType: attest.ProvenanceMediaType, Content: envelope.JSON}); err != nil {
			t.Fatal(err)
		}
	}
	if o.claim != nil {
		o.claim(&d)
	}
	return events.ArtifactOffered{Claimed: artifact.Published, Artifact: d}
}

// jenkins offers what it built and signed for a project; a builder with the options adopts it.
func jenkins(t *testing.T) (events.ArtifactOffered, events.Project, builder.Options) {
	t.Helper()
	o := builder.Options{Registry: ociRegistry(t), SecretsDir: t.TempDir()}
	signer, err := attest.ProjectKey(o.SecretsDir, "shop", "")
	if err != nil {
		t.Fatal(err)
	}
	p := shop(1)
	p.Owners = map[events.Phase]string{events.Integrate: "jenkins"}
	return outsider{registry: o.Registry, signer: &signer, project: "shop"}.offer(t), p, o
}

// What an outside builder claims is adopted once the registry has it, and a key that is configured signed it.
func TestWhatAnOutsideBuilderOffersIsLookedAt(t *testing.T) {
	t.Parallel()
	registry, secrets := ociRegistry(t), t.TempDir()
	key := func(project string) *attest.Signer {
		s, err := attest.ProjectKey(secrets, project, "")
		if err != nil {
			t.Fatal(err)
		}
		return &s
	}
	trusted, stranger := key("shop"), key("other")
	text, err := os.ReadFile(filepath.Join(secrets, "shop", "signing.pub"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(secrets, "shop", "ci.pub"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	p := shop(1)
	p.Owners = map[events.Phase]string{events.Integrate: "jenkins"}
	p.Signing = &events.Signing{Trusted: []string{"secret:ci.pub"}}
	none := "sha256:" + strings.Repeat("0", 64)
	for name, test := range map[string]struct {
		outsider outsider
		refused  string // empty: adopted
	}{
		"signed":             {outsider{signer: trusted}, ""},
		"the manifest alone": {outsider{signer: trusted, claim: func(d *events.ArtifactDetail) { _, d.Digest, _ = strings.Cut(d.Reference, "@") }}, ""},
		"by its package URL": {outsider{signer: trusted, claim: func(d *events.ArtifactDetail) { d.Reference = "" }}, ""},
		"another registry": {outsider{signer: trusted, claim: func(d *events.ArtifactDetail) {
			d.Reference = "198.51.100.7/" + d.Reference[strings.Index(d.Reference, "/")+1:]
		}}, ""},
		"by a tag":            {outsider{signer: trusted, claim: func(d *events.ArtifactDetail) { d.Reference = "198.51.100.7/shop/api:latest" }}, ""},
		"no commit":           {outsider{signer: trusted, claim: func(d *events.ArtifactDetail) { d.Commit = "" }}, ""},
		"over ssh":            {outsider{signer: trusted, change: func(b *attest.Build) { b.Repository = "git@git.example.org:shop/api.git" }}, ""},
		"of a branch":         {outsider{signer: trusted, change: func(b *attest.Build) { b.Repository = "https://Git.example.org/shop/api@refs/heads/main" }}, ""},
		"of nowhere":          {outsider{signer: trusted, change: func(b *attest.Build) { b.Repository = "" }}, ""},
		"of another project":  {outsider{signer: trusted, change: func(b *attest.Build) { b.Repository = "https://ci:hunter2@git.example.org/other/api.git" }}, `is of the repository "https://git.example.org/other/api.git"`},
		"not signed":          {outsider{}, "none of the 0 provenances"},
		"another's key":       {outsider{signer: stranger}, "signed by a key that the project trusts"},
		"another commit":      {outsider{signer: trusted, claim: func(d *events.ArtifactDetail) { d.Commit = "beef" }}, "is of commit c0ffee, not beef"},
		"another is stated":   {outsider{signer: trusted, change: func(b *attest.Build) { b.Executable.Digest["sha256"] = none[7:] }}, "what is signed is another artifact"},
		"another file":        {outsider{signer: trusted, claim: func(d *events.ArtifactDetail) { d.Digest = none }}, "not " + none},
		"named at length":     {outsider{signer: trusted, claim: func(d *events.ArtifactDetail) { d.Digest = strings.Repeat("é", 100_000) }}, "not é"},
		"not in the registry": {outsider{signer: trusted, claim: func(d *events.ArtifactDetail) { d.Reference = registry + "/shop/api@" + none }}, "does not confirm"},
		"another project's":   {outsider{signer: trusted, project: "other"}, "is none of the project's"},
		"nowhere":             {outsider{signer: trusted, claim: func(d *events.ArtifactDetail) { d.Reference, d.ID = "", "pkg:generic/api@1" }}, "says where it is in the registry"},
	} {
		t.Run(name, func(t *testing.T) {
			o := test.outsider
			o.registry = registry
			if o.project == "" {
				o.project = "shop"
			}
			offer := o.offer(t)
			s := newShift(t, builder.Options{Registry: registry, SecretsDir: secrets}, p)
			got, err := s.work(t, "adopt", "a", 1, offer)
			if err != nil {
				t.Fatal(err)
			}
			if c, ok := got.(events.ArtifactRejected); test.refused != "" && (!ok || !strings.Contains(c.Reason, test.refused) || c.Claimed != artifact.Published || len(c.Reason) > 5000) {
				t.Errorf("%.5000v", got)
			}
			at := strings.TrimPrefix(registry, "http://") + "/shop/api@sha256:"
			if c, ok := got.(events.ArtifactPublished); test.refused == "" &&
				(!ok || c.Lemnis.Commit != "c0ffee" || c.Lemnis.Size != int64(len(t.Name())) || c.Lemnis.Evidence.Tests != 7 || c.Lemnis.Supply == nil || c.Lemnis.Supply.Key == "" || c.Lemnis.Supply.Signature == "" ||
					!strings.HasPrefix(c.Lemnis.Reference, at) || !strings.HasPrefix(c.Lemnis.Supply.Provenance, at) || c.Lemnis.Digest == c.Lemnis.Reference[strings.Index(c.Lemnis.Reference, "@")+1:]) {
				t.Errorf("%+v", got)
			}
		})
	}
}

// What is stated of a signature is the one that was looked at, whatever the claim says.
func TestASignatureThatIsClaimed(t *testing.T) {
	t.Parallel()
	offer, p, o := jenkins(t)
	offer.Claimed, offer.Signature = artifact.Signed, "c3RyYW5nZXI="
	got, err := newShift(t, o, p).work(t, "adopt", "a", 1, offer)
	if c, ok := got.(events.ArtifactSigned); err != nil || !ok || c.Signature == offer.Signature || c.Signature != c.Lemnis.Supply.Signature {
		t.Errorf("%+v, %v", got, err)
	}
}

// A key may be put there after the project has named it: as long as it can not be read, nobody can say that it did not sign.
func TestAKeyThatIsNotThereYet(t *testing.T) {
	t.Parallel()
	offer, p, o := jenkins(t)
	p.Signing = &events.Signing{Trusted: []string{"secret:ci.pub"}}
	s := newShift(t, o, p)
	if got, err := s.work(t, "adopt", "a", 1, offer); err == nil || got != nil {
		t.Errorf("%+v, %v", got, err)
	}
	got, err := s.work(t, "adopt", "a", 50, offer)
	if c, ok := got.(events.ArtifactRejected); err != nil || !ok || !strings.Contains(c.Reason, "ci.pub") {
		t.Errorf("%+v, %v", got, err)
	}
}

// A registry that is away may be back: the look is repeated, and in the end it is said that nobody could look.
func TestARegistryThatIsAwayWhileItIsAsked(t *testing.T) {
	t.Parallel()
	offer, p, o := jenkins(t)
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, "{}")
	}))
	defer broken.Close()
	o.Registry = strings.TrimPrefix(broken.URL, "http://")
	s := newShift(t, o, p)
	if got, err := s.work(t, "adopt", "a", 1, offer); err == nil || got != nil {
		t.Errorf("%+v, %v", got, err)
	}
	got, err := s.work(t, "adopt", "a", 50, offer)
	if c, ok := got.(events.ArtifactRejected); err != nil || !ok || !strings.Contains(c.Reason, "given up after 50 attempts") {
		t.Errorf("%+v, %v", got, err)
	}
}

// Where no key is configured nothing is adopted, and where the phase is done here by now nobody looks.
func TestNothingIsAdoptedWithoutAKey(t *testing.T) {
	t.Parallel()
	offer, p, o := jenkins(t)
	o.SecretsDir = t.TempDir()
	if got, err := newShift(t, o, shop(1)).work(t, "adopt", "a", 1, offer); got != nil || err != nil {
		t.Errorf("%+v, %v", got, err)
	}
	got, err := newShift(t, o, p).work(t, "adopt", "a", 1, offer)
	if c, ok := got.(events.ArtifactRejected); err != nil || !ok || !strings.Contains(c.Reason, "signing.trusted") {
		t.Errorf("%+v, %v", got, err)
	}
}
