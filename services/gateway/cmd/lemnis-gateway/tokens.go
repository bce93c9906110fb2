package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/lemnis/lemnis/services/gateway/access"
)

// shortest is how many characters a token that somebody chose has at least: as many as 192 random bits take in letters and
// digits, about.
const shortest = 32

// adminFile is the file in LEMNIS_TOKENS_DIR that holds the administrator's token.
const adminFile = "admin.token"

// givenTokens are the tokens that whoever sets an installation up gives to its own programs, so that none of them waits for
// the gateway to make one: files in LEMNIS_TOKENS_DIR. Every gateway of the installation is given the same.
var givenTokens = map[string]access.Identity{
	adminFile: {Principal: "admin", Scopes: []access.Scope{access.Need(access.Admin, "", "")}},
	"builder.token": {Principal: "lemnis", Scopes: []access.Scope{
		access.Need(access.Publish, "integrate", access.Any), access.Need(access.Read, access.Any, access.Any),
	}},
	"deployer.token": {Principal: "lemnis", Scopes: []access.Scope{access.Need(access.Read, access.Any, access.Any)}},
}

// readTokens reads the files of a folder that are there.
func readTokens(dir string) (map[string]access.Identity, error) {
	known := map[string]access.Identity{}
	if dir == "" {
		return known, nil
	}
	for name, who := range givenTokens {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("LEMNIS_TOKENS_DIR: %w", err)
		}
		text := strings.TrimSpace(string(content))
		if len(text) < shortest {
			return nil, fmt.Errorf("LEMNIS_TOKENS_DIR: %s holds %d characters, want %d or more", name, len(text), shortest)
		}
		if _, twice := known[text]; twice {
			return nil, fmt.Errorf("LEMNIS_TOKENS_DIR: %s is another's token too", name)
		}
		known[text] = who
	}
	if len(known) == 0 {
		return nil, fmt.Errorf("LEMNIS_TOKENS_DIR: no token is in %s", dir)
	}
	return known, nil
}

// holdsAdmin reports whether an administrator's token was given, so that none has to be made.
func holdsAdmin(known map[string]access.Identity) bool {
	for _, who := range known {
		if who.May(access.Need(access.Admin, "", "")) == nil {
			return true
		}
	}
	return false
}
