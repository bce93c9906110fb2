package builder

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"maps"
	"net/url"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/lemnis/lemnis/internal/attest"
	"github.com/lemnis/lemnis/internal/oci"
	"github.com/lemnis/lemnis/internal/sbom"
)

// builderID names this builder in a provenance; what it may be trusted with is the installation's to say, by its key.
const builderID = "https://lemnis.dev/builder/v1"

// sign states where the artifact comes from, signed with the project's key.
func (p *proof) sign(ctx context.Context) error {
	signer, err := p.signer()
	if err != nil {
		p.miss("signature", err.Error())
		return nil
	}
	envelope, err := signer.Seal(ctx, attest.Provenance(p.provenance()))
	if err != nil {
		return err
	}
	at, err := p.attach(ctx, oci.Attachment{
		MediaType: attest.ProvenanceMediaType, Name: "provenance.dsse.json", Content: envelope.JSON,
		Annotations: map[string]string{"in-toto.io/predicate-type": attest.ProvenanceType},
	})
	if err != nil {
		return err
	}
	s := &p.supply
	s.Provenance, s.Signature, s.Key = at.String(), envelope.Signature, envelope.Key
	return nil
}

// signer is the key that the project names, else the installation's, else the one that is made for the project.
func (p *proof) signer() (attest.Signer, error) {
	name := ""
	if configured := p.job.Project.Signing; configured != nil {
		name = strings.TrimPrefix(configured.Key, "secret:")
	}
	if name == "" && p.options.SigningKey != "" {
		return attest.KeyFile(p.options.SigningKey)
	}
	return attest.ProjectKey(p.options.SecretsDir, p.job.Project.Name, name)
}

func (p *proof) provenance() attest.Build {
	merge := p.build.Merge
	repository, _ := p.job.Project.Repository(merge.Repository)
	out := attest.Build{
		Manifest:   attest.Resource{Name: path.Base(p.ref.Repository), URI: p.ref.PURL(), Digest: sha256Of(p.ref.Digest)},
		Executable: attest.Resource{Name: filepath.Base(p.made.file), Digest: sha256Of(p.made.digest)},
		Repository: withoutUser(repository.URL), Commit: merge.Commit,
		Parameters: map[string]string{"branch": merge.Base, "main": repository.Main, "change": merge.Change},
		Builder:    builderID, Invocation: p.job.Event.ID, Started: p.started, Finished: time.Now(),
	}
	if p.bill.Layer != "" {
		out.Byproducts = []attest.Resource{{Name: billName, MediaType: sbom.MediaType, Digest: sha256Of(p.bill.Layer)}}
	}
	for _, name := range slices.Sorted(maps.Keys(p.made.bases)) {
		out.Materials = append(out.Materials, attest.Resource{Name: name, URI: "docker://" + name, Digest: sha256Of(p.made.bases[name])})
	}
	if p.made.image {
		out.Type, out.Executable.Name = attest.ImageBuildType, "config.json"
	}
	for _, program := range p.programs {
		p.linked(&out, program)
	}
	return out
}

// linked adds what a program is made of.
func (p *proof) linked(out *attest.Build, program sbom.Program) {
	if len(p.programs) == 1 { // of several, each has its own
		out.Version, out.Settings = map[string]string{"go": program.Go()}, map[string]string{}
		for _, setting := range program.Info.Settings {
			out.Settings[setting.Key] = setting.Value
		}
	}
	add := func(material attest.Resource) {
		if !slices.ContainsFunc(out.Materials, func(m attest.Resource) bool { return m.URI == material.URI }) {
			out.Materials = append(out.Materials, material)
		}
	}
	add(attest.Resource{URI: "pkg:golang/std@" + program.Go()})
	for _, m := range program.Info.Deps {
		at := sbom.Linked(m)
		if at.Version == "" {
			continue // a folder of the source itself
		}
		material := attest.Resource{URI: "pkg:golang/" + at.Path + "@" + at.Version}
		if sum, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(at.Sum, "h1:")); err == nil && len(sum) > 0 {
			material.Digest = map[string]string{"goModuleH1": hex.EncodeToString(sum)}
		}
		add(material)
	}
}

func sha256Of(digest string) map[string]string {
	return map[string]string{"sha256": strings.TrimPrefix(digest, "sha256:")}
}

// withoutUser is the address of a repository as anybody may see it; of a folder on this machine it is a URL too.
func withoutUser(address string) string {
	if path.IsAbs(address) {
		return "file://" + address
	}
	if u, err := url.Parse(address); err == nil {
		u.User = nil
		return u.String()
	}
	return address
}
