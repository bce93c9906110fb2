// Command builder is an outside tool that does the integrate phase of a project instead of Lemnis's own builder. The
// project says so in its configuration, by the principal that the tool connects as:
//
//	owners: {integrate: local}
//
// It follows the facts that a change is verified, and claims what it did: the change merged, the artifact packaged and
// published. Lemnis adopts the claims of the phase's owner as facts, those of an artifact once its registry has it and a key that the project trusts
// signed it, and everything behind them goes on as always.
package main

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"strings"
	"syscall"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/lemnis/lemnis/pkg/events"
)

type builder struct {
	client                              *events.Client
	nats, project, repository, registry string
	key                                 ed25519.PrivateKey
}

func main() {
	b := &builder{}
	flag.StringVar(&b.nats, "nats", "nats://127.0.0.1:4222", "NATS server of the installation")
	flag.StringVar(&b.project, "project", "shop", "project whose integrate phase is done here")
	flag.StringVar(&b.repository, "repository", "", "where the git repository is")
	flag.StringVar(&b.registry, "registry", "127.0.0.1:8080", "OCI registry that the executable goes to, `HOST:PORT`, without TLS")
	key := flag.String("key", "signing.key", "`FILE` of the Ed25519 key (PKCS #8, PEM) that signs, as `lemnis keys signing` makes one")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := b.read(*key)
	if err == nil {
		err = b.run(ctx)
	}
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

func (b *builder) read(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if block, _ := pem.Decode(text); block != nil {
		key, _ := x509.ParsePKCS8PrivateKey(block.Bytes)
		b.key, _ = key.(ed25519.PrivateKey)
	}
	if b.key == nil {
		return fmt.Errorf("%s holds no Ed25519 key", file)
	}
	return nil
}

// run builds until ctx ends.
func (b *builder) run(ctx context.Context) (err error) {
	if _, err = remote.NewRegistry(b.registry); err != nil {
		return err
	}
	if b.client, err = events.Connect(b.nats, events.WithSource("/example/builder")); err != nil {
		return err
	}
	defer func() { _ = b.client.Close() }()
	verified := events.Selector{Project: b.project, Phase: events.Develop, Types: []events.Type{events.TypeOf(events.ChangeVerified{})}}
	if _, err = b.client.Subscribe(ctx, verified, b.integrate, events.Durable("example-builder"), events.From(1)); err == nil {
		<-ctx.Done()
	}
	return err
}

// integrate merges one verified change, tests and packages the result. It can be done again at any point: a merge that is
// there changes nothing, and a claim with the same id is the same claim.
func (b *builder) integrate(ctx context.Context, e events.Event) error {
	c := e.Content.(events.ChangeVerified).Change
	m := events.MergeDetail{Change: e.Key, Repository: c.Repository, Branch: c.Branch, Base: cmp.Or(c.Base, "main"), Head: c.Head, Item: c.Item, Title: c.Title, Author: c.Author}
	executable, err := b.build(ctx, &m)
	if _, failed := errors.AsType[*exec.ExitError](err); failed { // the change's own fault, not ours: that is a result, too
		return b.claim(ctx, e, e.Key, events.QueueEjected{Merge: m, Reason: err.Error()})
	}
	if err != nil {
		return err // tried again, with backoff
	}
	artifact, err := b.push(ctx, executable, m)
	if err != nil {
		return err
	}
	return errors.Join(
		b.claim(ctx, e, e.Key, events.ChangeMerged{Lemnis: m}),
		b.claim(ctx, e, artifact.ID, events.ArtifactPackaged{Change: events.Reference{ID: e.Key}, Lemnis: artifact}),
		b.claim(ctx, e, artifact.ID, events.ArtifactPublished{Lemnis: artifact}),
	)
}

// claim says what happened. The id derives from the cause, so that to say it again is to say it once.
func (b *builder) claim(ctx context.Context, cause events.Event, subject string, content any) error {
	e := events.New(b.project, subject, content)
	e.ID = cause.ID + "/" + e.Type.Short()
	e.Chain, e.Links = cause.Chain, []events.Link{{Type: events.Path, Context: cause.ID}}
	return b.client.Submit(ctx, e)
}

// passed are the tests that passed, in what go test -json says. Gates are judged on how many they are.
var passed = regexp.MustCompile(`"Action":"pass".*"Test":`)

// build merges the change into its base, tests and compiles the result, and moves the base to it.
func (b *builder) build(ctx context.Context, m *events.MergeDetail) (executable []byte, err error) {
	dir, err := os.MkdirTemp("", "example-builder-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	tree, file := dir+"/tree", dir+"/executable"
	var out []byte
	for _, step := range [][]string{
		{"git", "clone", "--quiet", "--branch", m.Base, b.repository, tree},
		{"git", "-C", tree, "-c", "user.name=builder", "-c", "user.email=builder@example.org", "merge", "--quiet", "--no-ff", "-m", "Merge " + m.Change + ": " + m.Title, m.Head},
		{"go", "-C", tree, "test", "-json", "./..."},
		{"go", "-C", tree, "build", "-trimpath", "-o", file, "."},
		{"git", "-C", tree, "push", "--quiet", "origin", m.Base}, // refused when the base has moved: then all of it again
		{"git", "-C", tree, "show", "--no-patch", "--format=%H %cI"},
	} {
		c := exec.CommandContext(ctx, step[0], step[1:]...)
		c.Env = append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0")
		out, err = c.CombinedOutput()
		if step[3] == "test" {
			m.Evidence = &events.Evidence{Tests: len(passed.FindAll(out, -1))}
		}
		if err != nil && (step[3] == "push" || step[1] == "clone") {
			err = errors.New(err.Error()) // no ExitError: nobody's fault but the world's
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w\n%s", strings.Join(step, " "), err, out)
		}
	}
	m.Commit, m.Committed, _ = strings.Cut(strings.TrimSpace(string(out)), " ")
	return os.ReadFile(file)
}

// push puts the executable into the registry, as an artifact of one layer, and says what Lemnis needs to know of it.
func (b *builder) push(ctx context.Context, executable []byte, m events.MergeDetail) (d events.ArtifactDetail, err error) {
	const kind = "application/vnd.lemnis.executable.v1"
	to, err := remote.NewRepository(b.registry + "/" + b.project + "/" + m.Repository)
	if err != nil {
		return d, err
	}
	to.PlainHTTP = true
	layer, err := oras.PushBytes(ctx, to, kind+"+octet-stream", executable)
	if err != nil {
		return d, err
	}
	layer.Annotations = map[string]string{ocispec.AnnotationTitle: m.Repository}
	manifest, err := oras.PackManifest(ctx, to, oras.PackManifestVersion1_1, kind, oras.PackManifestOptions{
		Layers:              []ocispec.Descriptor{layer},
		ManifestAnnotations: map[string]string{ocispec.AnnotationRevision: m.Commit, ocispec.AnnotationCreated: m.Committed},
	})
	if err == nil {
		err = b.sign(ctx, to, manifest, layer, m)
	}
	return events.ArtifactDetail{
		ID:      "pkg:oci/" + m.Repository + "@" + strings.ReplaceAll(manifest.Digest.String(), ":", "%3A") + "?repository_url=" + to.Reference.String(),
		Service: m.Repository, Repository: m.Repository, Reference: to.Reference.String() + "@" + manifest.Digest.String(), Digest: layer.Digest.String(), Size: layer.Size,
		Commit: m.Commit, Committed: m.Committed, Change: m.Change, Item: m.Item, Title: m.Title, Author: m.Author, Evidence: m.Evidence,
	}, err
}

// sign attaches where the executable comes from (SLSA provenance in a DSSE envelope): Lemnis adopts nothing that a key which the project trusts did not sign.
func (b *builder) sign(ctx context.Context, to *remote.Repository, manifest, layer ocispec.Descriptor, m events.MergeDetail) error {
	type object = map[string]any
	const kind, provenance = "application/vnd.in-toto+json", "application/vnd.in-toto.provenance+dsse"
	statement, err := json.Marshal(object{
		"_type": "https://in-toto.io/Statement/v1", "predicateType": "https://slsa.dev/provenance/v1",
		"subject": []object{{"digest": object{"sha256": manifest.Digest.Encoded()}}, {"digest": object{"sha256": layer.Digest.Encoded()}}},
		"predicate": object{
			"buildDefinition": object{"buildType": "https://example.org/go-build", "externalParameters": object{"commit": m.Commit},
				"resolvedDependencies": []object{{"uri": "git+" + b.repository, "digest": object{"gitCommit": m.Commit}}}},
			"runDetails": object{"builder": object{"id": "https://example.org/builder"}},
		},
	})
	if err != nil {
		return err
	}
	signature := ed25519.Sign(b.key, fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(kind), kind, len(statement), statement))
	envelope, err := json.Marshal(object{"payloadType": kind, "payload": statement, "signatures": []object{{"sig": signature}}})
	if err != nil {
		return err
	}
	at, err := oras.PushBytes(ctx, to, provenance, envelope)
	if err != nil {
		return err
	}
	_, err = oras.PackManifest(ctx, to, oras.PackManifestVersion1_1, provenance, oras.PackManifestOptions{
		Subject: &manifest, Layers: []ocispec.Descriptor{at}, ManifestAnnotations: map[string]string{ocispec.AnnotationCreated: m.Committed},
	})
	return err
}
