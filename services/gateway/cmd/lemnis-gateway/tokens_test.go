package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lemnis/lemnis/services/gateway/access"
)

func TestGivenTokens(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(want string) {
		t.Helper()
		if _, err := readTokens(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	refused("no token")
	builder, admin := strings.Repeat("b", shortest), strings.Repeat("a", shortest)
	write("builder.token", builder[1:])
	refused("31 characters")
	write("builder.token", builder)
	known, err := readTokens(dir)
	if err != nil || known[builder].May(access.Need(access.Publish, "integrate", "shop")) != nil || known[builder].May(access.Need(access.Publish, "plan", "shop")) == nil {
		t.Errorf("%+v, %v", known, err)
	}
	if holdsAdmin(known) {
		t.Error("the builder administrates")
	}
	write(adminFile, builder)
	refused("another's")
	write(adminFile, admin)
	if known, err = readTokens(dir); err != nil || !holdsAdmin(known) || len(known) != 2 {
		t.Errorf("%+v, %v", known, err)
	}
}
