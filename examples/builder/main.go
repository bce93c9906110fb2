// Command builder is an outside tool that does the integrate phase of a project instead of Lemnis's own builder. The
// project says so in its configuration, by the principal that the tool connects as:
//
//	owners: {integrate: local}
//
// It follows the facts that a change is verified, and claims what it did: the change merged, the artifact packaged and
// published. Lemnis adopts the claims of the phase's owner as facts, and everything behind them goes on as always.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
)

func main() {
	nats := flag.String("nats", "nats://127.0.0.1:4222", "NATS server of the installation")
	b := &builder{}
	flag.StringVar(&b.project, "project", "shop", "project whose integrate phase is done here")
	flag.StringVar(&b.repository, "repository", "", "where the git repository is")
	flag.StringVar(&b.registry, "registry", "http://127.0.0.1:8080", "OCI registry that the executable goes to")
	flag.StringVar(&b.dir, "dir", filepath.Join(os.TempDir(), "lemnis-example-builder"), "folder to work in")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := b.run(ctx, *nats)
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

type builder struct {
	client                             *events.Client
	project, repository, registry, dir string
}

// run builds until ctx ends.
func (b *builder) run(ctx context.Context, nats string) (err error) {
	if b.client, err = events.Connect(nats, events.WithSource("/example/builder")); err != nil {
		return err
	}
	defer func() { _ = b.client.Close() }()
	verified := events.Selector{Project: b.project, Phase: events.Develop, Types: []events.Type{events.TypeOf(events.ChangeVerified{})}}
	if _, err := b.client.Subscribe(ctx, verified, b.integrate, events.Durable("example-builder"), events.From(1)); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// integrate merges one verified change, tests and packages the result. It can be done again at any point: a merge that is
// there changes nothing, and a claim with the same id is the same claim.
func (b *builder) integrate(ctx context.Context, e events.Event) error {
	c := e.Content.(events.ChangeVerified).Change
	m := events.MergeDetail{Change: e.Key, Repository: c.Repository, Branch: c.Branch, Base: c.Base, Head: c.Head, Item: c.Item, Title: c.Title, Author: c.Author}
	if m.Base == "" {
		m.Base = "main"
	}
	file, err := b.build(ctx, &m)
	var failed *exec.ExitError
	if errors.As(err, &failed) { // the change's own fault, not ours: that is a result, too
		return b.claim(ctx, e, e.Key, events.QueueEjected{Merge: m, Reason: err.Error()})
	}
	if err != nil {
		return err // tried again, with backoff
	}
	purl, detail, err := b.push(ctx, file, m)
	if err != nil {
		return err
	}
	return errors.Join(
		b.claim(ctx, e, e.Key, events.ChangeMerged{Lemnis: m}),
		b.claim(ctx, e, purl, events.ArtifactPackaged{Change: events.Reference{ID: e.Key}, Lemnis: detail}),
		b.claim(ctx, e, purl, events.ArtifactPublished{Lemnis: detail}),
	)
}

// claim says what happened. The id derives from the cause, so that to say it again is to say it once.
func (b *builder) claim(ctx context.Context, cause events.Event, subject string, content any) error {
	e := events.New(b.project, subject, content)
	e.ID = cause.ID + "/" + e.Type.Short()
	e.Chain, e.Links = cause.Chain, []events.Link{{Type: events.Path, Context: cause.ID}}
	return b.client.Submit(ctx, e)
}

// build merges the change into its base, tests and compiles the result, and moves the base to it.
func (b *builder) build(ctx context.Context, m *events.MergeDetail) (file string, err error) {
	tree := filepath.Join(b.dir, "tree")
	if err := os.RemoveAll(tree); err != nil {
		return "", err
	}
	steps := [][]string{
		{"git", "clone", "--quiet", "--branch", m.Base, b.repository, tree},
		{"git", "-C", tree, "-c", "user.name=builder", "-c", "user.email=builder@example.org", "merge", "--quiet", "--no-ff", "-m", "Merge " + m.Change + ": " + m.Title, m.Head},
		{"go", "-C", tree, "build", "-trimpath", "-o", filepath.Join(b.dir, m.Repository), "."},
		{"git", "-C", tree, "push", "--quiet", "origin", m.Base}, // refused when the base has moved: then all of it again
	}
	for i, step := range steps {
		if i == 3 {
			if m.Evidence, err = test(ctx, tree); err != nil {
				return "", err
			}
		}
		if _, err := command(ctx, step...); err != nil {
			if step[3] == "push" || step[1] == "clone" {
				return "", errors.New(err.Error()) // nobody's fault but the world's
			}
			return "", err
		}
	}
	m.Commit, err = command(ctx, "git", "-C", tree, "rev-parse", "HEAD")
	m.Committed = time.Now().UTC().Format(time.RFC3339)
	return filepath.Join(b.dir, m.Repository), err
}

// test counts the tests that passed: gates are judged on it.
func test(ctx context.Context, tree string) (*events.Evidence, error) {
	out, err := command(ctx, "go", "-C", tree, "test", "-json", "./...")
	passed := 0
	for line := range strings.Lines(out) {
		if strings.Contains(line, `"Action":"pass"`) && strings.Contains(line, `"Test":`) {
			passed++
		}
	}
	return &events.Evidence{Tests: passed}, err
}

func command(ctx context.Context, words ...string) (string, error) {
	c := exec.CommandContext(ctx, words[0], words[1:]...)
	c.Env = append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0")
	out, err := c.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(words, " "), err, out)
	}
	return strings.TrimSpace(string(out)), nil
}
