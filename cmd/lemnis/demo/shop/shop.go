// Package shop is the repository that the demo turns the loop on: a small web shop in Go, real
// enough to be built, tested, attacked with traffic and repaired.
//
//	bare, err := shop.Create(ctx, dir)
//
// makes a bare git repository with three branches, the same commits each time:
//
//   - main serves /healthz, /search?q= and /checkout on $PORT and is in order;
//   - improve-search makes the search find words whatever their case, with a test;
//   - fast-checkout adds a cache of prices with tests that pass. Its key holds the first seven
//     letters of a product, so the three notebooks share their price: whichever comes first is
//     right, and the accounts refuse the others. Only real carts show it.
//
// Traffic is what the shop's users do. The sources are under _files with a suffix of their own, so
// that no Go tool takes them for a part of this module.
package shop

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// The branches of the repository.
const (
	Main          = "main"
	ImproveSearch = "improve-search"
	FastCheckout  = "fast-checkout"
)

//go:embed _files
var files embed.FS

// version is one commit.
type version struct {
	branch, parent string
	author         string
	at             time.Time
	message        string
}

var versions = []version{
	{Main, "", "Ann <ann@shop.example>", time.Date(2026, 1, 12, 9, 0, 0, 0, time.UTC),
		"Open the shop\n\nSearch and checkout over HTTP, with the standard library alone.\n"},
	{ImproveSearch, Main, "Ann <ann@shop.example>", time.Date(2026, 1, 19, 10, 30, 0, 0, time.UTC),
		"Find products by words, whatever their case\n\nPeople type \"mug\" and \"dotted notebook\"; neither was found.\n"},
	{FastCheckout, Main, "Bo <bo@shop.example>", time.Date(2026, 1, 20, 15, 45, 0, 0, time.UTC),
		"Keep prices in a cache\n\nA checkout looked every product up again.\n"},
}

// Create makes the bare repository shop.git in dir and returns its path. The same commits have the
// same names each time. It needs the git command; the host's git configuration is not read.
func Create(ctx context.Context, dir string) (bareRepo string, err error) {
	bareRepo, err = filepath.Abs(filepath.Join(dir, "shop.git"))
	if err != nil {
		return "", fmt.Errorf("create shop: %w", err)
	}
	if _, err := os.Stat(bareRepo); err == nil {
		return "", fmt.Errorf("create shop: %s: %w", bareRepo, fs.ErrExist)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("create shop: %w", err)
	}
	var stream bytes.Buffer
	for _, v := range versions {
		if err := v.write(&stream); err != nil {
			return "", fmt.Errorf("create shop: %w", err)
		}
	}
	if err := git(ctx, nil, "init", "--quiet", "--bare", "--template=", "--initial-branch="+Main, bareRepo); err != nil {
		return "", fmt.Errorf("create shop: %w", err)
	}
	// One stream makes all commits: no work tree, no index, no clock.
	if err := git(ctx, &stream, "--git-dir="+bareRepo, "fast-import", "--quiet", "--date-format=raw"); err != nil {
		return "", fmt.Errorf("create shop: %w", err)
	}
	return bareRepo, nil
}

// write appends the commit in the form of git fast-import.
func (v version) write(b *bytes.Buffer) error {
	fmt.Fprintf(b, "commit refs/heads/%s\n", v.branch)
	for _, role := range []string{"author", "committer"} {
		fmt.Fprintf(b, "%s %s %d +0000\n", role, v.author, v.at.Unix())
	}
	fmt.Fprintf(b, "data %d\n%s\n", len(v.message), v.message)
	if v.parent != "" {
		fmt.Fprintf(b, "from refs/heads/%s\n", v.parent)
	}
	entries, err := files.ReadDir("_files/" + v.branch) // sorted by name
	if err != nil {
		return err
	}
	for _, e := range entries {
		content, err := files.ReadFile("_files/" + v.branch + "/" + e.Name())
		if err != nil {
			return err
		}
		fmt.Fprintf(b, "M 100644 inline %s\ndata %d\n%s\n", strings.TrimSuffix(e.Name(), ".txt"), len(content), content)
	}
	return nil
}

func git(ctx context.Context, stdin *bytes.Buffer, args ...string) error {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "LC_ALL=C",
		"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1"}
	if stdin != nil {
		cmd.Stdin = stdin
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("git: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}
