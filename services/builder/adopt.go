package builder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lemnis/lemnis/internal/attest"
	"github.com/lemnis/lemnis/internal/excerpt"
	"github.com/lemnis/lemnis/internal/oci"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"

	"github.com/lemnis/lemnis/services/builder/artifact"
)

const (
	adopting        = 30 * time.Second // one look at the registry
	adoptPatience   = 8                // looks, where the registry does not answer: some minutes, since somebody waits for it
	mostProvenances = 20               // of one artifact that are looked at: each attempt to build it may have attached one
	mostRejected    = 4 << 10          // bytes of why: it quotes what whoever may push wrote, and becomes part of an event
)

// adopt looks at what an outside builder offers: it is stated once the registry has it by its digest, and a key that the project trusts
// signed where it comes from.
func (b *builder) adopt(ctx context.Context, job *service.Job) error {
	offer, ok := job.Event.Content.(events.ArtifactOffered)
	if !ok {
		return events.Reject(fmt.Errorf("%T offers no artifact", job.Event.Content))
	}
	if job.Project.Runs(events.Integrate) {
		return nil
	}
	subject := cmp.Or(job.Event.SubjectID, offer.Artifact.ID)
	confirmed, err := b.confirm(ctx, job.Project, offer.Artifact)
	if finding := (*finding)(nil); err != nil && !errors.As(err, &finding) {
		if ctx.Err() != nil || job.Tries < adoptPatience {
			return err
		}
		err = fmt.Errorf("given up after %d attempts: %w", job.Tries, err)
	}
	if err != nil {
		reason := strings.ToValidUTF8(excerpt.Of(err.Error(), mostRejected), "\uFFFD")
		return job.Report(ctx, service.Report{SubjectID: subject, Content: events.ArtifactRejected{Claimed: offer.Claimed, Reason: reason, Artifact: offer.Artifact}})
	}
	r := service.Report{SubjectID: subject}
	switch offer.Claimed {
	case artifact.Packaged:
		c := events.ArtifactPackaged{SBOM: offer.SBOM, Lemnis: confirmed}
		if offer.Change != nil {
			c.Change = *offer.Change
		}
		r.Content = c
	case artifact.Signed:
		r.Content = events.ArtifactSigned{Signature: confirmed.Supply.Signature, Lemnis: confirmed} // not the claim's, which nobody looked at
	case artifact.Published:
		r.Content = events.ArtifactPublished{SBOM: offer.SBOM, User: offer.User, Lemnis: confirmed}
	default:
		return events.Reject(fmt.Errorf("nobody claims that an artifact is %q", offer.Claimed))
	}
	return job.Report(ctx, r)
}

// confirm is the artifact with what was found to be so. The error is a finding where it is not what it is said to be.
func (b *builder) confirm(ctx context.Context, p events.Project, a events.ArtifactDetail) (events.ArtifactDetail, error) {
	keys, err := b.trusted(p)
	if err != nil {
		return a, fmt.Errorf("the keys that are trusted: %w", err)
	}
	if len(keys) == 0 {
		return a, found("no key is configured that could have signed it: name public keys under signing.trusted")
	}
	ref, err := b.offered(p.Name, a)
	if err != nil {
		return a, err
	}
	ctx, cancel := context.WithTimeout(ctx, adopting)
	defer cancel()
	within, executable, err := oci.Contents(ctx, ref, b.options.Push...)
	switch {
	case errors.Is(err, oci.ErrDigest), errors.Is(err, oci.ErrNotFound), errors.Is(err, oci.ErrNotExecutable), errors.Is(err, oci.ErrBadReference):
		return a, found("the registry does not confirm %s: %v", ref, err)
	case err != nil:
		return a, fmt.Errorf("ask the registry for %s: %w", ref, err)
	}
	if executable != nil {
		if a.Digest == ref.Digest {
			a.Digest = executable.Layer // the claim named the manifest alone
		}
		a.Size = executable.Size
	}
	if a.Digest != ref.Digest && !slices.Contains(within, a.Digest) {
		return a, found("the registry does not confirm %s: it holds %s, not %s", ref, strings.Join(within, ", "), a.Digest)
	}
	attached, err := oci.Attached(ctx, ref, attest.ProvenanceMediaType, mostProvenances, b.options.Push...)
	if err != nil {
		return a, fmt.Errorf("ask the registry for what is attached to %s: %w", ref, err)
	}
	reasons := []string{fmt.Sprintf("none of the %d provenances (%s) that are attached to %s is signed by a key that the project trusts", len(attached), attest.ProvenanceMediaType, ref)}
	for _, one := range attached {
		statement, by, err := attest.Origin(ctx, one.Content, keys, p.Repositories, a.Commit, ref.Digest, a.Digest)
		if err != nil {
			reasons = append(reasons, err.Error())
			continue
		}
		a.Commit = statement.Commit()
		supply := events.Supply{}
		if a.Supply != nil {
			supply = *a.Supply
		}
		supply.Signature, supply.Key, supply.Provenance = by.Text, by.Key, schemeless(oci.Reference{Repository: ref.Repository, Digest: one.Digest}.String())
		a.Reference, a.Supply = schemeless(ref.String()), &supply // where it was found: the claim may name another registry, which a deployer without one of its own would ask
		return a, nil
	}
	return a, found("%s", strings.Join(reasons, "; "))
}

// offered is where an artifact lies in the registry. It has to be among the project's own: nobody offers what another project pushed.
func (b *builder) offered(project string, a events.ArtifactDetail) (oci.Reference, error) {
	repository, digest, ok := strings.Cut(a.Reference, "@")
	if !ok {
		ref, err := oci.ParsePURL(a.ID)
		if err != nil || ref.Repository == "" {
			return oci.Reference{}, found("neither its reference %q nor its id %q says where it is in the registry", a.Reference, a.ID)
		}
		repository, digest = ref.Repository, ref.Digest
	}
	// The registry goes by different names for different clients; what stands behind its host does not.
	_, above, _ := strings.Cut(schemeless(b.options.Registry), "/")
	_, within, _ := strings.Cut(schemeless(repository), "/")
	if above != "" {
		within = strings.TrimPrefix(within, above+"/")
	}
	if !strings.HasPrefix(within, project+"/") {
		return oci.Reference{}, found("%s is none of the project's: those are under %s/%s/ in the registry", repository, schemeless(b.options.Registry), project)
	}
	return oci.Reference{Repository: strings.TrimSuffix(b.options.Registry, "/") + "/" + within, Digest: digest}, nil
}

func schemeless(address string) string {
	return strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(address, "https://"), "http://"), "/")
}

// trusted are the keys whose signatures count: those that the project names, else the installation's, else the one that was made for it.
func (b *builder) trusted(p events.Project) ([]attest.Key, error) {
	var named []string
	if p.Signing != nil {
		named = p.Signing.Trusted
	}
	return attest.TrustedBy(b.options.SecretsDir, p.Name, named, b.options.TrustedKeys)
}
