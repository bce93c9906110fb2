package deployer

import (
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/lemnis/lemnis/internal/attest"
	"github.com/lemnis/lemnis/internal/oci"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
)

// signedArtifact pushes an executable, and what a signer states of it.
func signedArtifact(t *testing.T, host string, signer *attest.Signer, change func(*attest.Build)) events.ArtifactDetail {
	t.Helper()
	file := filepath.Join(t.TempDir(), "api")
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"+t.Name()+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	ref, err := oci.Push(t.Context(), host+"/shop/api", file, oci.Metadata{})
	if err != nil {
		t.Fatal(err)
	}
	a := events.ArtifactDetail{Service: "api", Reference: ref.String(), Digest: ref.Layer, Commit: "c0ffee"}
	if signer != nil {
		attestOf(t, ref, signer, change)
	}
	return a
}

// attestOf attaches what a signer states of what was pushed.
func attestOf(t testing.TB, ref oci.Reference, signer *attest.Signer, change func(*attest.Build)) {
	t.Helper()
	b := attest.Build{
		Manifest:   attest.Resource{Digest: map[string]string{"sha256": strings.TrimPrefix(ref.Digest, "sha256:")}},
		Executable: attest.Resource{Digest: map[string]string{"sha256": strings.TrimPrefix(ref.Layer, "sha256:")}},
		Repository: "https://git.example.org/shop/api.git", Commit: "c0ffee", Builder: "https://example.org/builder",
	}
	if change != nil {
		change(&b)
	}
	envelope, err := signer.Seal(t.Context(), attest.Provenance(b))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := oci.Attach(t.Context(), ref, oci.Attachment{MediaType: attest.ProvenanceMediaType, Content: envelope.JSON}); err != nil {
		t.Fatal(err)
	}
}

// Where an environment asks for it, only what a trusted key signed is run, whatever the facts say.
func TestSignatureIsVerified(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true)))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	secrets := t.TempDir()
	mine, err := attest.ProjectKey(secrets, "shop", "")
	if err != nil {
		t.Fatal(err)
	}
	other, err := attest.ProjectKey(secrets, "other", "")
	if err != nil {
		t.Fatal(err)
	}
	project := events.DefaultProject("shop")
	project.Environments[2].Gate.Signature = "verified"
	project.Repositories = []events.RepositoryRef{{Name: "api", URL: "https://git.example.org/shop/api.git"}, {Name: "jobs", URL: "/srv/jobs.git"}}
	from := func(source string) func(*attest.Build) {
		return func(b *attest.Build) { b.Repository = source }
	}
	zero := map[string]string{"sha256": strings.Repeat("0", 64)}
	for name, test := range map[string]struct {
		signer *attest.Signer
		change func(*attest.Build)
		names  []string // of trusted keys
		reason string
	}{
		"signed":             {signer: &mine},
		"signed by a named":  {signer: &mine, names: []string{"secret:signing.pub"}},
		"nobody signed":      {reason: "0 are attached"},
		"another's key":      {signer: &other, reason: "no signature of a trusted key"},
		"another executable": {signer: &mine, change: func(b *attest.Build) { b.Executable.Digest = zero }, reason: "another artifact"},
		"another manifest":   {signer: &mine, change: func(b *attest.Build) { b.Manifest.Digest = zero }, reason: "another artifact"},
		"another commit":     {signer: &mine, change: func(b *attest.Build) { b.Commit = "bad" }, reason: "of commit bad"},
		"over ssh":           {signer: &mine, change: from("git@git.example.org:shop/api.git")},
		"of a folder":        {signer: &mine, change: from(attest.Source("/srv/jobs.git"))},
		"of nowhere":         {signer: &mine, change: from("")},
		"another project's":  {signer: &mine, change: from("https://git.example.org/other/api.git"), reason: `"https://git.example.org/other/api.git", which is none of the project's repositories`},
		"another folder":     {signer: &mine, change: from("file:///srv/other.git"), reason: `"file:///srv/other.git", which is none`},
		"a key that is gone": {signer: &mine, names: []string{"secret:none"}, reason: "none"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &site{options: newDeployer(Options{Data: t.TempDir(), SecretsDir: secrets}).options}
			a := signedArtifact(t, host, test.signer, test.change)
			p := project
			if test.names != nil {
				p.Signing = &events.Signing{Trusted: test.names}
			}
			if err := s.verify(t.Context(), p, "dev", a, p.Repositories); err != nil {
				t.Errorf("where nobody asks: %v", err)
			}
			err := s.verify(t.Context(), p, "prod", a, p.Repositories)
			if test.reason == "" && err != nil || test.reason != "" && (err == nil || !strings.Contains(err.Error(), test.reason)) {
				t.Errorf("%v", err)
			}
			if test.names == nil && test.reason != "" && !errors.Is(err, errArtifact) {
				t.Errorf("another attempt would not help: %v", err)
			}
		})
	}
	// A project that names no key is signed for by the installation's.
	all := t.TempDir()
	if err := attest.MakeKey(all); err != nil {
		t.Fatal(err)
	}
	installation, err := attest.KeyFile(filepath.Join(all, "signing.key"))
	if err != nil {
		t.Fatal(err)
	}
	for name, signer := range map[string]*attest.Signer{"installation": &installation, "another": &other} {
		t.Run(name, func(t *testing.T) { // each has an executable of its own
			s := &site{options: newDeployer(Options{Data: t.TempDir(), SecretsDir: secrets, TrustedKeys: filepath.Join(all, "signing.pub")}).options}
			if err := s.verify(t.Context(), project, "prod", signedArtifact(t, host, signer, nil), project.Repositories); (name == "installation") != (err == nil) {
				t.Error(err)
			}
		})
	}
	// What was verified once is started again while the registry is away; another key was never trusted.
	s := &site{options: newDeployer(Options{Data: t.TempDir(), SecretsDir: secrets}).options}
	a := signedArtifact(t, host, &mine, nil)
	if err := s.verify(t.Context(), project, "prod", a, project.Repositories); err != nil {
		t.Fatal(err)
	}
	// Its repository is the project's no more: that what is kept is signed does not let it in, and what was let in before is tested as it was.
	moved := project
	moved.Repositories = project.Repositories[1:]
	if err := s.verify(t.Context(), moved, "prod", a, moved.Repositories); !errors.Is(err, errArtifact) {
		t.Errorf("at the gate: %v", err)
	}
	results, err := s.compliance(t.Context(), service.NewJob(events.Event{}, moved, 1, nil), events.Rollout{Environment: "prod", Artifact: a})
	if err != nil || len(results) != 1 || !results[0].Passed {
		t.Errorf("%+v, %v", results, err)
	}
	if err := s.verify(t.Context(), moved, "prod", a, nil); err != nil {
		t.Errorf("of a project without repositories: %v", err)
	}
	server.Close()
	if err := s.verify(t.Context(), project, "prod", a, project.Repositories); err != nil {
		t.Errorf("without the registry: %v", err)
	}
	s.options.SecretsDir = t.TempDir()
	if err := s.verify(t.Context(), project, "prod", a, project.Repositories); err == nil {
		t.Error("verified by no key")
	}
}
