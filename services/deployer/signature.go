package deployer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/lemnis/lemnis/internal/attest"
	"github.com/lemnis/lemnis/internal/oci"
	"github.com/lemnis/lemnis/pkg/events"
)

// mostProvenances of one artifact are looked at: each attempt to build it may have attached one.
const mostProvenances = 20

// verify makes sure, where the environment asks for it, that a key which the project trusts signed where the artifact comes from, and that
// this is one of the repositories, if there are any. The gate names the project's, as they are now; nobody else does: one that is moved or
// removed bars what comes next, not what serves and has to be started again, nor what users are taken back to. What was verified is kept,
// so that what runs can be started again while the registry is away; it is verified each time.
func (s *site) verify(ctx context.Context, p events.Project, environment string, a events.ArtifactDetail, among []events.RepositoryRef) error {
	policy, _ := p.Environment(environment)
	if policy.Gate.Signature == "" {
		return nil
	}
	keys, err := s.trusted(p)
	if err != nil {
		return fmt.Errorf("signature: %w", err)
	}
	if len(keys) == 0 {
		return fmt.Errorf("%w: signature: the project trusts no key", errArtifact)
	}
	ref, err := s.reference(a.Reference)
	if err != nil {
		return fmt.Errorf("%w: %w", errArtifact, err)
	}
	kept := filepath.Join(s.options.Data, "provenances", strings.TrimPrefix(ref.Digest, "sha256:")+".json")
	if envelope, err := os.ReadFile(kept); err == nil && origin(ctx, envelope, keys, among, ref, a) == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.options.FetchTimeout)
	defer cancel()
	all, err := oci.Attached(ctx, ref, attest.ProvenanceMediaType, mostProvenances, s.options.OCI...)
	if err != nil {
		return fmt.Errorf("signature: %w", err)
	}
	reasons := []error{fmt.Errorf("%w: signature: %d are attached to %s", errArtifact, len(all), a.Reference)}
	for _, attached := range all {
		err := origin(ctx, attached.Content, keys, among, ref, a)
		if err == nil {
			return keep(kept, attached.Content)
		}
		reasons = append(reasons, err)
	}
	return errors.Join(reasons...)
}

// trusted are the keys whose signatures count for a project: those that it names, else the installation's, else the one that
// was made for it.
func (s *site) trusted(p events.Project) ([]attest.Key, error) {
	var named []string
	if p.Signing != nil {
		named = p.Signing.Trusted
	}
	return attest.TrustedBy(s.options.SecretsDir, p.Name, named, s.options.TrustedKeys)
}

func origin(ctx context.Context, envelope []byte, keys []attest.Key, among []events.RepositoryRef, ref oci.Reference, a events.ArtifactDetail) error {
	statement, _, err := attest.Origin(ctx, envelope, keys, among, a.Commit, ref.Digest, a.Digest)
	if err == nil && a.Commit == "" && statement.Commit() != "" {
		err = fmt.Errorf("what is signed is of commit %s, and the artifact is said to be of none", statement.Commit())
	}
	return err
}

func keep(path string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
