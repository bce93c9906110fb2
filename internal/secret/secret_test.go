package secret_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lemnis/lemnis/internal/secret"
)

func TestRead(t *testing.T) {
	dir := t.TempDir()
	write := func(text string, path ...string) {
		t.Helper()
		file := filepath.Join(append([]string{dir}, path...)...)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("of the shop\n", "shop", "github")
	write("of another", "other", "github")
	write("of the folder", "top")
	write(strings.Repeat("x", 70<<10), "shop", "large")
	if err := os.Symlink(filepath.Join("..", "other", "github"), filepath.Join(dir, "shop", "link")); err != nil {
		t.Fatal(err)
	}
	if s, err := secret.Read(dir, "shop", "github"); err != nil || s != "of the shop" {
		t.Errorf("%q, %v", s, err)
	}
	for name, of := range map[string][3]string{
		"no folder": {"", "shop", "github"}, "no such folder": {dir + "x", "shop", "github"}, "no project": {dir, "none", "github"}, "no secret": {dir, "shop", "none"},
		"out of the project": {dir, "shop", "../other/github"}, "out by a link": {dir, "shop", "link"}, "out of the folder": {dir, "..", "top"}, "too large": {dir, "shop", "large"},
	} {
		if s, err := secret.Read(of[0], of[1], of[2]); err == nil || s != "" {
			t.Errorf("%s: %q, %v", name, s, err)
		}
	}
}
