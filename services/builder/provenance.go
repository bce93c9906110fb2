package builder

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
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
	if len(envelope.JSON) > oci.MaxAttachment {
		p.miss("signature", fmt.Sprintf("the provenance has more than %d bytes", oci.MaxAttachment))
		return nil
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
		Repository: attest.Source(repository.URL), Commit: merge.Commit,
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
	if len(p.programs) == 1 { // of several, each has its own
		program := p.programs[0]
		out.Version, out.Settings = map[string]string{"go": program.Go()}, map[string]string{}
		for _, setting := range program.Info.Settings {
			out.Settings[setting.Key] = setting.Value
		}
	}
	known := map[string]bool{}
	for _, program := range p.programs {
		for _, m := range linked(program) {
			if known[m.URI] {
				continue
			}
			if len(known) == mostModules {
				p.miss("provenance", fmt.Sprintf("its programs name more than %d modules", mostModules))
				return out
			}
			known[m.URI] = true
			out.Materials = append(out.Materials, m)
		}
	}
	return out
}

// linked is what a program is made of.
func linked(program sbom.Program) []attest.Resource {
	all := []attest.Resource{{URI: "pkg:golang/std@" + program.Go()}}
	for _, m := range program.Info.Deps {
		at := sbom.Linked(m)
		if at.Version == "" {
			continue // a folder of the source itself
		}
		material := attest.Resource{URI: "pkg:golang/" + at.Path + "@" + at.Version}
		if sum, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(at.Sum, "h1:")); err == nil && len(sum) > 0 {
			material.Digest = map[string]string{"goModuleH1": hex.EncodeToString(sum)}
		}
		all = append(all, material)
	}
	return all
}

func sha256Of(digest string) map[string]string {
	return map[string]string{"sha256": strings.TrimPrefix(digest, "sha256:")}
}
